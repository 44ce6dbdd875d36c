"""Engines: the same results when workers are killed, on a cluster, and with two sweeps at work on one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress

import psutil
import pytest

import ledger_pipeline as lp
from ledger_pipeline.core.errors import InputError, RefusedError, StorageError
from ledger_pipeline.sweeps import dask_engine, engines
from ledger_pipeline.sweeps.sweep import open_sweep
from ledger_pipeline_tests.projects import CHECKOUT
from ledger_pipeline_tests.sweeps.markets import CROSSOVER, crossover, market

ENVIRONMENT = os.environ | {"PYTHONPATH": str(CHECKOUT)}  # scripts find the tests' own modules
GRID = {"fast": [2, 3, 4, 5], "slow": [6, 7, 8]}
SLOWER, SLOWEST = 100_000, 500_000  # a candidate outlives the look at its worker, and on any machine


def slow(rounds=20_000):
    """A candidate takes some tenths of a second, so that there is time to kill what evaluates it."""
    wait = f"    for _ in range({rounds}):\n        params['quantity'] * 2\n    return"
    return lp.experiment(
        CROSSOVER.replace("    return", wait), params={"fast": 2, "slow": 5, "quantity": 10}, costs=[], opening={"cash": 1000}, name="slow",
        features={name: {"indicator": "sma", "window": {"param": name}} for name in ("fast", "slow")},
    )  # fmt: skip


def swept(tmp_path, folder, rounds=20_000, **options):
    return lp.sweep(slow(rounds), market(tmp_path), grid=GRID, root=tmp_path / folder, **options)


@contextmanager
def killing(how_often: int, every: float = 0.3):
    """Kill one of the processes that this one has evaluate candidates, so many times, with that many seconds between;
    yields the pids.
    """
    killed: list[int] = []
    over = threading.Event()

    def kill() -> None:
        while len(killed) < how_often and not over.wait(every):
            for worker in _workers():
                with suppress(psutil.Error):  # it may end by itself meanwhile
                    if len(killed) < how_often and worker.cpu_times().user > 0.05:
                        worker.kill()
                        killed.append(worker.pid)
                        time.sleep(every)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()


def _workers() -> list[psutil.Process]:
    """The processes that evaluate candidates for this one: the children of its fork server."""
    workers = []
    for server in psutil.Process().children():
        with suppress(psutil.Error):
            workers += server.children() if "forkserver" in " ".join(server.cmdline()) else []
    return workers


def test_killed_workers_change_nothing(tmp_path) -> None:
    expected = swept(tmp_path, "serial", SLOWER, engine="serial")
    with killing(2) as killed:
        sweep = swept(tmp_path, "killed", SLOWER, engine="processes", workers=2)
    assert len(killed) == 2 and sweep.hash == expected.hash
    assert lp.TrialRegister(tmp_path / "killed").count() == 12


def test_workers_that_are_killed_again_and_again_are_given_up(tmp_path) -> None:
    """And what is finished is kept, so that the next start needs only the rest."""
    with killing(10_000, every=0.02), pytest.raises(StorageError, match="killed 3 times without finishing anything"):
        swept(tmp_path, "killed", SLOWEST, engine="processes", workers=1)
    assert swept(tmp_path, "killed", SLOWEST, engine="processes", workers=2).counts["ok"] == 12


def test_no_thread_shows_the_main_module_while_another_starts_a_worker() -> None:
    """Two windows of a walk-forward may start workers at once; a script at its top level is not run again by them."""
    main, shown = sys.modules["__main__"], []
    before = getattr(main, "__file__", None), main.__spec__
    together = threading.Barrier(2)

    def start() -> None:
        together.wait()
        for _ in range(300):
            with engines._no_main_module():
                time.sleep(0)
                shown.append((getattr(main, "__file__", None), main.__spec__))

    threads = [threading.Thread(target=start) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(shown) == {(None, None)} and (getattr(main, "__file__", None), main.__spec__) == before


def test_two_processes_may_run_the_same_sweep(tmp_path) -> None:
    script = tmp_path / "script.py"  # without a guard around its main part, as people write them
    script.write_text(
        "import sys\nfrom pathlib import Path\nimport ledger_pipeline as lp\n"
        "from ledger_pipeline_tests.sweeps.test_engines import swept\n"
        "print(swept(Path(sys.argv[1]), 'both', engine='processes', workers=1).hash)\n"
    )
    market(tmp_path)
    command = [sys.executable, str(script), str(tmp_path)]
    others = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT) for _ in range(2)]
    hashes = {process.communicate(timeout=300)[0] for process in others}
    assert [process.returncode for process in others] == [0, 0] and len(hashes) == 1
    assert hashes.pop().strip() == swept(tmp_path, "serial", engine="serial").hash
    assert lp.TrialRegister(tmp_path / "both").count() == 12
    assert open_sweep("slow", tmp_path / "both", tmp_path).counts["ok"] == 12


def test_workers_end_with_the_process_that_asks(tmp_path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\nfrom pathlib import Path\nfrom ledger_pipeline_tests.sweeps.test_engines import swept\n"
        "swept(Path(sys.argv[1]), 'gone', engine='processes', workers=2)\n"
    )
    market(tmp_path)
    process = psutil.Popen([sys.executable, str(script), str(tmp_path)], env=ENVIRONMENT)
    children: list[psutil.Process] = []
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not any((tmp_path / "gone").glob("sweeps/*/shards/*.parquet")):
        children = process.children(recursive=True)
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(30)
    gone, alive = psutil.wait_procs(children, timeout=60)
    assert children and not alive
    assert swept(tmp_path, "gone", engine="serial").hash == swept(tmp_path, "serial", engine="serial").hash


@pytest.fixture(scope="module")
def cluster():
    """A scheduler and two workers on loopback, each a process."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None, silence_logs="ERROR"
    ) as running:
        yield running


def address(running) -> str:
    return "dask://" + running.scheduler_address.removeprefix("tcp://")


def test_a_cluster_gives_the_same(tmp_path, cluster) -> None:
    expected = swept(tmp_path, "serial", engine="serial")
    assert swept(tmp_path, "dask", engine=address(cluster)).hash == expected.hash

    def kill() -> None:
        while not any((tmp_path / "killed").glob("sweeps/*/shards/*.parquet")):
            time.sleep(0.05)
        os.kill(next(iter(cluster.workers.values())).pid, signal.SIGKILL)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    assert swept(tmp_path, "killed", engine=address(cluster)).hash == expected.hash
    thread.join(60)


def test_what_is_wrong_with_a_cluster_is_told(tmp_path, cluster, monkeypatch) -> None:
    with pytest.raises(InputError, match="there is no Dask scheduler at 127.0.0.1:1"):
        monkeypatch.setattr(dask_engine, "CONNECT", 1.0)
        swept(tmp_path, "none", engine="dask://127.0.0.1:1")
    with pytest.raises(InputError, match="write dask://host:port"):
        swept(tmp_path, "none", engine="dask://nowhere")
    monkeypatch.setattr(dask_engine, "CONNECT", 20.0)
    monkeypatch.setattr(dask_engine, "_own_versions", lambda: dask_engine.versions() | {"numba": "0.1"})
    with pytest.raises(RefusedError, match="has numba .* and here it is 0.1"):
        swept(tmp_path, "versions", engine=address(cluster))


def test_a_cluster_without_workers_is_given_up(tmp_path, monkeypatch) -> None:
    from distributed import LocalCluster

    monkeypatch.setattr(dask_engine, "LOST", 1.0)
    with LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address=None, silence_logs="ERROR") as empty:
        with pytest.raises(StorageError, match="has had no worker"):
            swept(tmp_path, "empty", engine=address(empty))


def test_the_fields_that_refer_to_params_reach_every_process(tmp_path) -> None:
    grid = {"fee": [0.0, 1.0, 2.0]}
    one = lp.sweep(crossover(), market(tmp_path), grid=grid, engine="serial", root=tmp_path / "a")
    two = lp.sweep(crossover(), market(tmp_path), grid=grid, engine="processes", workers=2, root=tmp_path / "b")
    assert one.hash == two.hash and one.candidates["costs"].nunique() == 3


def test_ctrl_c_while_the_workers_start_says_nothing_of_its_own() -> None:
    """Ctrl-C goes to every process of a terminal; the server that loads their modules is to keep quiet, and to end with
    the process that asked.
    """
    script = (
        "import psutil, signal, time\n"
        "from ledger_pipeline.sweeps.engines import engine\n"
        "engine('processes', 1).start()\n"
        "servers = psutil.Process().children()\n"
        "time.sleep(0.3)\n"
        "for one in servers:\n"
        "    one.send_signal(signal.SIGINT)\n"
        "time.sleep(3)\n"
        "print(len(servers), all(one.is_running() and one.status() != 'zombie' for one in servers))\n"
    )
    made = subprocess.run(
        [sys.executable, "-c", script], env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=True
    )
    assert made.stdout.split() == ["2", "True"] and made.stderr == ""
