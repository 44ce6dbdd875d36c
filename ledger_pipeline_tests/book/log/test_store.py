"""What the log needs of a store, the same for a local directory and for S3."""

from __future__ import annotations

import threading

import pytest

from ledger_pipeline.book.log.store import open_store
from ledger_pipeline.core.errors import InputError


def test_create_is_exclusive_and_leaves_the_first(url: str):
    store = open_store(url)
    assert store.read("2026/01/05/000000000001.json") is None
    assert store.create("2026/01/05/000000000001.json", b"first")
    assert not store.create("2026/01/05/000000000001.json", b"second")
    assert open_store(url).read("2026/01/05/000000000001.json") == b"first"


def test_one_of_many_threads_creates(url: str):
    stores = [open_store(url) for _ in range(8)]
    start, won = threading.Barrier(8), []

    def work(number: int) -> None:
        start.wait(10)
        for key in range(5):
            if stores[number].create(f"x/{key}", f"{number}".encode()):
                won.append((key, number))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(key for key, _ in won) == [0, 1, 2, 3, 4]
    assert all(stores[0].read(f"x/{key}") == f"{number}".encode() for key, number in won)


def test_keys_are_sorted_as_whole_texts(url: str):
    store = open_store(url)
    for key in ("b/1", "b-1", "b/10", "a/z/1", "c", "a/.hidden", ".b/1"):
        assert store.create(key, b"x")
    assert list(store.keys()) == ["a/z/1", "b-1", "b/1", "b/10", "c"]
    assert list(store.keys(after="b-1")) == ["b/1", "b/10", "c"]
    assert list(store.keys(after="b/1")) == ["b/10", "c"]
    assert list(store.keys("b/")) == ["b/1", "b/10"]
    assert list(store.keys("b/1", after="b/1")) == ["b/10"]
    assert list(store.keys("nothing")) == []


def test_what_may_be_lost_is_replaced_and_deleted(url: str):
    store = open_store(url)
    store.replace("checkpoints/1", b"old")
    store.replace("checkpoints/1", b"new")
    assert store.read("checkpoints/1") == b"new"
    store.delete("checkpoints/1")
    store.delete("checkpoints/1")
    assert store.read("checkpoints/1") is None


def test_listing_goes_on_over_pages(s3_url: str):
    store = open_store(s3_url)
    store.client.meta.events.register(
        "provide-client-params.s3.ListObjectsV2", lambda params, **_: params | {"MaxKeys": 3}
    )
    expected = [f"k{number}" for number in range(10)]
    for key in expected:
        store.create(key, b"x")
    assert list(store.keys()) == expected
    assert list(store.keys(after="k4")) == expected[5:]


@pytest.mark.parametrize("text", ["s3://", "s3://bucket", "s3://bucket/", "ftp://host/book", "gs://bucket/book"])
def test_a_place_that_is_none(text: str):
    with pytest.raises(InputError, match="use a directory or|names no book"):
        open_store(text)
