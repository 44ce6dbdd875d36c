"""Objects under a prefix of an S3 bucket.

`If-None-Match: *` makes a PUT exclusive: 412 says that the key exists. The client's own retries are off, because a
retry inside it turns a lost reply into a 412 for an object that we stored ourselves. Here every 412 is settled by
reading the object back: the same bytes are ours, since a commit holds a nonce; other bytes are another writer's.

A conflict of simultaneous writers (409), a server that is busy or failing (503, 5xx), a time-out and a lost connection
are tried again, the same bytes under the same key, a bounded number of times. Credentials, region and endpoint come
from the environment, as boto3 reads it (`AWS_ACCESS_KEY_ID`, ..., `AWS_ENDPOINT_URL_S3`).
"""

from __future__ import annotations

import functools
import random
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import boto3.session
import botocore.loaders
import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, HTTPClientError, IncompleteReadError
from botocore.loaders import Loader
from botocore.parsers import ResponseParserError

from ledger_pipeline.core.errors import StorageError

CONNECT_SECONDS, READ_SECONDS = 5, 15
_ATTEMPTS = 6
_FIRST_WAIT, _LONGEST_WAIT = 0.05, 2.0  # seconds between attempts, doubled each time
_UNCLEAR = (ConnectionError, HTTPClientError, IncompleteReadError, ResponseParserError)  # no answer, or not a whole one
_AGAIN = {408, 409, 429}
_MISSING, _EXISTS = 404, 412

Answer = TypeVar("Answer")


class S3Store:
    """An ObjectStore on s3://bucket/prefix."""

    def __init__(self, bucket: str, prefix: str, wait: Callable[[float], None] = time.sleep) -> None:
        self.bucket = bucket
        self.prefix = prefix + "/"
        self._wait = wait
        config = Config(retries={"total_max_attempts": 1}, connect_timeout=CONNECT_SECONDS, read_timeout=READ_SECONDS)
        try:
            session = botocore.session.get_session()
            session.register_component("data_loader", _loader())
            self.client = boto3.session.Session(botocore_session=session).client("s3", config=config)
        except (BotoCoreError, ValueError) as error:
            raise StorageError(f"S3 cannot be used for {self.place()}: {error}.") from None

    def create(self, key: str, data: bytes) -> bool:
        """See ObjectStore.create."""
        try:
            self._retried("write", key, lambda: self._put(key, data, IfNoneMatch="*"))
            return True
        except ClientError as error:
            if _status(error) != _EXISTS:
                raise self._refused("write", key, error) from None
        except _Unclear as error:
            present = self.read(key)
            if present is None:
                raise StorageError(f"{error}; whether it was stored is unknown until it is read again.") from None
            return present == data
        present = self.read(key)
        if present is None:
            raise StorageError(f"{self.place(key)} exists for a write and not for a read; look at the bucket.")
        return present == data

    def read(self, key: str) -> bytes | None:
        """See ObjectStore.read."""
        try:
            return self._answered(
                "read",
                key,
                lambda: self.client.get_object(Bucket=self.bucket, Key=self.prefix + key)["Body"].read(),
            )
        except ClientError as error:
            if _status(error) == _MISSING and _code(error) != "NoSuchBucket":
                return None
            raise self._refused("read", key, error) from None

    def keys(self, prefix: str = "", after: str = "") -> Iterator[str]:
        """See ObjectStore.keys."""
        query: dict[str, Any] = {"Bucket": self.bucket, "Prefix": self.prefix + prefix}
        if after:
            query["StartAfter"] = self.prefix + after
        while True:
            try:
                page = self._answered("list", prefix, lambda: self.client.list_objects_v2(**query))
            except ClientError as error:
                raise self._refused("list", prefix, error) from None
            for item in page.get("Contents", ()):
                key = item["Key"].removeprefix(self.prefix)
                if not any(part.startswith(".") for part in key.split("/")):
                    yield key
            token = page.get("NextContinuationToken")
            if not page.get("IsTruncated"):
                return
            if not token or token == query.get("ContinuationToken"):
                raise StorageError(f"the listing of {self.place()} does not end; try again.")
            query["ContinuationToken"] = token

    def replace(self, key: str, data: bytes) -> None:
        """See ObjectStore.replace."""
        try:
            self._answered("write", key, lambda: self._put(key, data))
        except ClientError as error:
            raise self._refused("write", key, error) from None

    def delete(self, key: str) -> None:
        """See ObjectStore.delete."""
        try:
            self._answered("delete", key, lambda: self.client.delete_object(Bucket=self.bucket, Key=self.prefix + key))
        except ClientError as error:
            raise self._refused("delete", key, error) from None

    def place(self, key: str = "") -> str:
        """The URL of an object."""
        return f"s3://{self.bucket}/{self.prefix}{key}".rstrip("/")

    def _put(self, key: str, data: bytes, **condition: str) -> dict[str, Any]:
        return self.client.put_object(Bucket=self.bucket, Key=self.prefix + key, Body=data, **condition)

    def _answered(self, doing: str, key: str, call: Callable[[], Answer]) -> Answer:
        """`_retried` where an unclear outcome changes nothing that matters."""
        try:
            return self._retried(doing, key, call)
        except _Unclear as error:
            raise StorageError(f"{error}.") from None

    def _retried(self, doing: str, key: str, call: Callable[[], Answer]) -> Answer:
        """What `call` answers, tried again while the answer is unclear. Raises ClientError for a clear refusal, and
        _Unclear when no attempt had a clear answer.
        """
        last = ""
        for attempt in range(_ATTEMPTS):
            if attempt:
                self._wait(random.uniform(0.5, 1.0) * min(_LONGEST_WAIT, _FIRST_WAIT * 2**attempt))
            try:
                return call()
            except ClientError as error:
                if _status(error) not in _AGAIN and _status(error) < 500 and _code(error) != "RequestTimeout":
                    raise
                last = _code(error)
            except _UNCLEAR as error:
                last = type(error).__name__
            except BotoCoreError as error:  # no credentials, a bad endpoint: nothing was sent
                raise StorageError(f"could not {doing} {self.place(key)}: {error}; nothing was changed.") from None
        raise _Unclear(f"could not {doing} {self.place(key)}: {last}, {_ATTEMPTS} times")

    def _refused(self, doing: str, key: str, error: ClientError) -> StorageError:
        return StorageError(f"could not {doing} {self.place(key)}: {_code(error)} (HTTP {_status(error)}).")


@functools.cache
def _loader() -> Loader:
    """boto3's descriptions of the services, which take 0.1 s to read, once for all stores of a process."""
    return botocore.loaders.create_loader()


class _Unclear(Exception):
    """No attempt had a clear answer."""


def _status(error: ClientError) -> int:
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)


def _code(error: ClientError) -> str:
    return error.response.get("Error", {}).get("Code", "no code")
