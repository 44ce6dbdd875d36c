"""What an auditor asks: whether every byte is as it was written, and where a number comes from."""
