"""The parent's end of a worker: a process with one peer, its own thread settings and its own peak of memory.

Messages are JSON, a line each, over standard input and output; arrays lie in files of a common folder.
"""

import contextlib
import json
import math
import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import scipy.sparse

from .cases import Missing

PACKAGE_PARENT = Path(__file__).resolve().parents[1]
PINNED = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")  # settings that would keep OpenBLAS from this machine's best kernels
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
PATIENCE_BUDGETS = 12  # after so many budgets, and a minute, a worker that says nothing is ended


class Failed(Exception):
    """A worker ended, or said that its peer raised an error."""


@dataclass
class Solved:
    seconds: float  # of all `count` problems; a list, of each call, for single problems
    count: int
    codes: scipy.sparse.csr_matrix  # (count, m)
    crowded: float = math.nan  # share of the time in which something on the machine waited for a processor


def environment(threads):
    """Ours, with OpenBLAS free to choose its kernels and everybody's threads set."""
    clean = {name: value for name, value in os.environ.items() if name not in PINNED}
    clean.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    clean["PYTHONPATH"] = str(PACKAGE_PARENT)
    return clean


def waited_seconds():
    """How long something on this machine has waited for a processor so far; NaN where the kernel does not say."""
    try:
        with open("/proc/pressure/cpu", encoding="ascii") as pressure:
            return int(pressure.readline().rpartition("total=")[2]) / 1e6
    except OSError:
        return math.nan


class Worker:
    """A context manager around the process. @raises Missing (the peer is not to be had), Failed"""

    def __init__(self, job, threads, folder, budget, python=sys.executable):
        """job: what worker.py reads, a dict; folder: of D.npy, X.npy and the lambdas."""
        self.folder, self.patience = Path(folder), 60 + PATIENCE_BUDGETS * budget
        self.lambdas = None  # name of the file of lambdas that is solved for
        self.ended = ""  # why, where it has
        self.log = open(self.folder / "worker.log", "w+", encoding="utf-8")
        self.process = subprocess.Popen([python, "-m", "peers.worker", json.dumps(job)], cwd=folder, text=True,
                                        bufsize=1, env=environment(threads), stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=self.log, start_new_session=True)
        try:
            hello = self.answer()
            self.settings, self.first = hello["settings"], hello["first"]
            self.setup_seconds, self.versions = hello["setup_seconds"], hello["versions"]
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def kill(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # it may have processes of its own
        self.process.wait()

    def close(self):
        self.kill()
        self.process.stdin.close()
        self.process.stdout.close()
        self.log.close()

    def solve(self, count, setting, limit):
        """The first `count` problems, or those that fit in some `limit` seconds."""
        return self.solved(do="solve", count=count, setting=setting, limit=limit)

    def latency(self, calls, setting, limit):
        """The first `calls` problems one by one, or those that fit."""
        return self.solved(do="latency", count=calls, setting=setting, limit=limit)

    def solved(self, **message):
        began, waited = time.monotonic(), waited_seconds()
        said = self.ask(**message)
        crowded = (waited_seconds() - waited) / (time.monotonic() - began)
        codes = scipy.sparse.load_npz(self.folder / said["codes"])
        return Solved(said["seconds"], codes.shape[0], codes, crowded)

    def peak_bytes(self):
        return self.ask(do="peak")["peak_bytes"]

    def ask(self, **message):
        if self.ended:
            raise Failed(self.ended)
        self.process.stdin.write(json.dumps({"lambdas": self.lambdas, **message}) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def answer(self):
        """The next message. @raises Missing (what was asked for is not to be had), Failed (an error, or no answer)"""
        if not select.select([self.process.stdout], [], [], self.patience)[0]:
            self.kill()
            self.ended = f"the worker gave no answer in {self.patience:.0f} s"
            raise Failed(self.ended)
        line = self.process.stdout.readline()
        if not line:
            self.log.seek(0)
            last = self.log.read().strip().splitlines()[-1:]
            self.ended = f"the worker ended with status {self.process.wait()}: {' '.join(last) or 'it said nothing'}"
            raise Failed(self.ended)
        said = json.loads(line)
        if "missing" in said:
            raise Missing(said["missing"])
        if "error" in said:
            raise Failed(said["error"])
        return said
