"""The engine on a Dask cluster: dask://host:port names its scheduler. Needs the extra `dask`.

Workers have this package installed, in the same version as here, and reach data root and snapshots under the same path
or URL. A worker opens the snapshot once, by its hash, and keeps what it finished itself.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from importlib import metadata
from typing import Any

from ledger_pipeline.core.errors import InputError, LedgerPipelineError, RefusedError, StorageError
from ledger_pipeline.sweeps.worker import Job, make

CONNECT, LOST = 10.0, 30.0  # seconds until a scheduler is not there, and until workers that are gone stay gone
PACKAGES = ("ledger_pipeline", "numpy", "numba", "pandas", "pyarrow", "ta-lib")  # that decide what a candidate comes to


class Dask:
    """See the module."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        if not host or not port.isdigit():
            raise InputError(f"dask://{address} names no scheduler; write dask://host:port.")
        self.address = address
        self.name = f"dask://{address}"
        self.at_once = 1

    def start(self) -> None:
        """See Engine."""

    def close(self) -> None:
        """See engines.Engine; the cluster stays."""

    def run(self, job: Job, calls: Sequence[Any], finished: Any) -> None:
        """See engines.Engine. RefusedError when a worker has other versions; StorageError when the scheduler or every
        worker is lost.
        """
        if not calls:
            return
        distributed = _distributed()
        client = self._connected(distributed)
        try:
            self._require_same_versions(client)
            self._work(distributed, client, job, calls, finished)
        except (OSError, distributed.comm.CommClosedError, TimeoutError) as error:
            if isinstance(error, LedgerPipelineError):
                raise
            raise self._lost(f"the scheduler at {self.address} is gone ({error or type(error).__name__})") from None
        finally:
            client.close(timeout=2)

    def _connected(self, distributed: Any) -> Any:
        try:
            return distributed.Client(f"tcp://{self.address}", timeout=CONNECT)
        except (OSError, ValueError, TimeoutError) as error:
            raise InputError(f"there is no Dask scheduler at {self.address}: {error}.") from None

    def _require_same_versions(self, client: Any) -> None:
        own = _own_versions()
        for worker, theirs in client.run(versions).items():
            for name, version in own.items():
                if theirs.get(name) != version:
                    raise RefusedError(
                        f"the worker {worker} has {name} {theirs.get(name)}, and here it is {version}: a candidate "
                        "would not come to the same. Install the same versions."
                    )

    def _work(self, distributed: Any, client: Any, job: Job, calls: Sequence[Any], finished: Any) -> None:
        """Have the calls made, some ahead of the workers, so that a stop leaves little behind."""
        queue = list(reversed(calls))
        waiting: dict[Any, Any] = {}
        alone_since: float | None = None
        while queue or waiting:
            workers = len(client.scheduler_info(n_workers=-1)["workers"])
            while queue and len(waiting) < 2 * max(workers, 1):
                call = queue.pop()
                future = client.submit(make, job.packed, call.method, call.arguments, pure=False, retries=3)
                waiting[future] = call
            alone_since = None if workers else alone_since or time.monotonic()
            if alone_since is not None and time.monotonic() - alone_since > LOST:
                raise self._lost(f"the cluster at {self.address} has had no worker for {LOST:g} s")
            try:
                ended = distributed.wait(list(waiting), timeout=1, return_when="FIRST_COMPLETED").done
            except TimeoutError:
                continue
            for future in ended:
                call = waiting.pop(future)
                try:
                    future.result()
                except distributed.scheduler.KilledWorker:
                    raise self._lost("the workers are killed again and again (is there memory?)") from None
                finished(call)

    def _lost(self, what: str) -> StorageError:
        return StorageError(f"{what}. What is finished is kept; run the sweep again to go on.")


def versions() -> dict[str, str]:
    """The versions that a worker must have in common with who asks."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in PACKAGES}}


def _own_versions() -> dict[str, str]:
    return versions()


def _distributed() -> Any:
    try:
        import distributed
    except ImportError:
        raise InputError("the engine dask:// needs dask.distributed: pip install 'ledger_pipeline[dask]'.") from None
    return distributed
