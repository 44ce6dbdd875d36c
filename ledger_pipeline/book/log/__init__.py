"""The append-only log of a live book: immutable, hash-chained commits, on a local directory or on S3."""
