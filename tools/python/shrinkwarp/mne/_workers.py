"""The recordings of a cohort on several processes of this machine, or on the workers of a dask scheduler."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from contextlib import contextmanager
from multiprocessing import connection
from typing import Iterator

from ._task import Task, record_of_failure, run_task

_POOLS_OF_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
_ONE_AT_A_TIME = threading.Lock()


def on_processes(tasks: list[Task], workers: int) -> Iterator[tuple[Task, dict]]:
    """Each task with its record, as they end; they begin in their order.

    Processes are spawned, so that nothing of this one's threads is copied, and none outlives this one. One that dies
    (out of memory, say) takes only its own recording with it. Leaving the iterator early kills them.
    """
    threads = max(1, cores() // workers)
    for task in tasks:
        if task.options.threads is None:
            task.options.threads = threads
    waiting = iter(tasks)
    busy: dict[connection.Connection, tuple[_Process, Task]] = {}

    def give(process: _Process | None) -> None:
        """The next task to a process, or to a new one."""
        task = next(waiting, None)
        if task is None:
            if process is not None:
                process.end()
            return
        try:
            process = process or _Process(threads)
            process.pipe.send(task)
        except BrokenPipeError:  # it died after its last recording
            process.end()
            process = _Process(threads)
            process.pipe.send(task)
        busy[process.pipe] = (process, task)

    try:
        for _ in range(min(workers, len(tasks))):
            give(None)
        while busy:
            for pipe in connection.wait(list(busy)):
                process, task = busy[pipe]
                try:
                    record, alive = pipe.recv(), process
                except (EOFError, OSError):
                    record, alive = record_of_failure(task, f"its process {process.how_it_ended()}"), None
                del busy[pipe]
                give(alive)
                yield task, record
    finally:
        for process, _ in busy.values():
            process.kill()


class _Process:
    """A worker, and this end of the pipe to it."""

    def __init__(self, threads: int):
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs,), name="shrinkwarp-meg worker")
        with _environment_of(threads):
            self._process.start()
        theirs.close()  # the worker alone has it, so that its death closes the pipe

    def end(self) -> None:
        self.pipe.close()
        self._process.join()

    def kill(self) -> None:
        self._process.kill()
        self._process.join()
        self.pipe.close()

    def how_it_ended(self) -> str:
        self._process.join()
        code = self._process.exitcode
        self.pipe.close()
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit status {code}"


@contextmanager
def _environment_of(threads: int) -> Iterator[None]:
    """What libraries read when they are loaded: how many threads they may have. Somebody's own settings stay."""
    ours = [name for name in _POOLS_OF_THREADS if name not in os.environ]
    os.environ.update({name: str(threads) for name in ours})
    try:
        yield
    finally:
        for name in ours:
            del os.environ[name]


def _work(pipe: connection.Connection) -> None:
    """The life of a worker: a task in, its record out, until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal; the first one decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        pipe.send(run_task(task))


def _end_with_parent() -> None:
    """Even where the parent is killed: two processes that write the same files would be one too many."""
    connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)


def on_scheduler(tasks: list[Task], address: str) -> Iterator[tuple[Task, dict]]:
    """Each task with its record, as they end on the workers of a dask scheduler.

    Leaving the iterator early cancels what has not begun; what has, goes on to its end.
    """
    try:
        from distributed import Client, as_completed
    except ImportError as error:
        raise ImportError("--scheduler needs the package distributed: pip install distributed") from error
    try:
        client = Client(address, set_as_default=False)
    except (OSError, ValueError) as error:
        raise OSError(f"--scheduler: found no dask scheduler at {address} ({error})") from error
    with client:
        if not client.scheduler_info()["workers"]:
            print(f"shrinkwarp-meg: the scheduler at {address} has no workers yet; waiting", file=sys.stderr)
        futures = {client.submit(_run_on_worker, task, pure=False): task for task in tasks}
        try:
            for future in as_completed(futures, loop=client.loop):
                task = futures[future]
                try:
                    record = future.result()
                except Exception as error:
                    text = " ".join(str(error).split()) or type(error).__name__
                    record = record_of_failure(task, f"its worker failed: {text}")
                yield task, record
        finally:
            client.cancel(list(futures))


def _run_on_worker(task: Task) -> dict:
    """A worker has several threads, but pictures and MNE-Python's log level are one for its process."""
    from distributed import get_worker

    if task.options.threads is None:
        task.options.threads = get_worker().state.nthreads
    with _ONE_AT_A_TIME:
        return run_task(task)


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
