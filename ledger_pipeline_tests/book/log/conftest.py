"""The two places a book may be kept in."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from ledger_pipeline_tests.book.log import s3

_numbers = itertools.count()


@pytest.fixture(scope="package")
def s3_server() -> Iterator[dict[str, str]]:
    """The environment that leads boto3 to an S3 server of this test process."""
    with s3.serve() as environment:
        yield environment


@pytest.fixture
def s3_url(s3_server: dict[str, str]) -> str:
    """An empty place on S3, whose last part is `paper`."""
    return f"s3://{s3.BUCKET}/n{next(_numbers)}/paper"


@pytest.fixture(params=["local", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty place for the book `paper`: a local directory, then S3."""
    return str(tmp_path / "paper") if request.param == "local" else request.getfixturevalue("s3_url")
