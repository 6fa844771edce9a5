"""What a peer is to its worker, and the two ways to be one.

InProcess   the dictionary is prepared once (set-up) and calls follow, of as many problems as suit the peer
WholeCall   each call makes its own preparation; set-up is what a call costs that has next to nothing to solve

The observations are handed out divided by their lambda, as every peer but ours wants one lambda for all problems: 1.
Codes are multiplied by it again before they are judged. Neither is timed, nor is a change of type or order of the data.
What is timed ends with sparse codes where there are many problems, with whatever the peer returns where there is one.
"""

import itertools
import multiprocessing
import sys
import time

import numpy as np
import scipy.sparse

from ..cases import Missing

SETUPS = 3  # so many times a set-up is timed, and the best is kept
SETUP_SECONDS = 3.0  # no further time once they have taken so long together


class Peer:
    """Made in the folder of the worker, where D.npy, X.npy and the files of lambdas lie.

    variants   ways to use the library, the likely best first; the fastest is reported
    stops      what a problem waits for
    first      problems of the first try
    settings   (label, what attempt and one_by_one get), from loose to tight
    """

    variants = ("",)
    stops = "each by itself"
    first = 8
    packages = ()  # names of modules whose versions are reported

    def __init__(self, job):
        self.variant, self.threads, self.device, self.gap = job["variant"], job["threads"], job["device"], job["gap"]
        self.settings = self.make_settings(job["gap"])
        self.lambdas_name, self.lambdas, self.observations = None, None, None

    def make_settings(self, gap):
        raise NotImplementedError

    def set_up(self):
        """Prepares the dictionary; its seconds."""
        raise NotImplementedError

    def attempt(self, lambdas_name, count, setting, limit):
        """(seconds, codes (k, m)) of the first `count` problems, or of those that fit in some `limit` seconds."""
        raise NotImplementedError

    def one_by_one(self, lambdas_name, count, setting, limit):
        """(seconds of each call, codes): problem after problem, or those that fit."""
        raise Missing("its dictionary cannot be kept prepared from one call to the next")

    def versions(self):
        modules = {name: sys.modules[name] for name in ("numpy", *self.packages) if name in sys.modules}
        return {"python": sys.version.split()[0], **{name: m.__version__ for name, m in modules.items()}}

    def peak_bytes(self):
        return peak_bytes("self")

    def load(self, name):
        """Makes `name` the lambdas that are solved for."""
        if name != self.lambdas_name:
            self.lambdas_name, self.lambdas = name, np.load(name)
            self.observations = np.load("X.npy", mmap_mode="r")[: len(self.lambdas)]


def peak_bytes(process):
    """Largest memory of a process so far; of the present program alone, unlike getrusage's."""
    with open(f"/proc/{process}/status", encoding="ascii") as status:
        return next((1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM:")), 0)


def best_of_setups(seconds_of_one):
    seconds = [seconds_of_one()]
    while len(seconds) < SETUPS and sum(seconds) < SETUP_SECONDS:
        seconds.append(seconds_of_one())
    return min(seconds)


def import_or_missing(name):
    try:
        return __import__(name, fromlist=["_"])
    except ImportError as error:
        raise Missing(f"{name} is not installed ({error})") from None


def as_csr(codes):
    """CSR of codes (k, m), dense or sparse; of dense ones that are mostly zero much faster than scipy's constructor."""
    if scipy.sparse.issparse(codes):
        return codes.tocsr()
    rows, columns = np.nonzero(codes)
    row_ends = np.cumsum(np.bincount(rows, minlength=len(codes)))
    return scipy.sparse.csr_matrix((codes[rows, columns], columns, np.concatenate([[0], row_ends])), codes.shape)


class InProcess(Peer):
    """`prepare` is set-up; `solve` gets at most `chunk` problems.

    With several threads the problems are shared out to as many processes, each with one, as a user of a library would
    do that works on one problem at a time; `own_threads` says that the library has a better way of its own.
    """

    chunk = 64
    own_threads = False
    dtype = np.float64

    def warm_up(self):
        """What happens once in a process, such as compiling; not timed."""

    def prepare(self, D):
        """D (n, m) in Fortran order, of type `dtype`."""
        raise NotImplementedError

    def solve(self, X, setting, deadline):
        """Codes (k, m), dense or sparse, for lambda = 1.

        X         (k, n) in C order
        deadline  of time.monotonic; what has not ended by then may be left as it is
        """
        raise NotImplementedError

    def versions(self):
        from threadpoolctl import threadpool_info

        blas = [f"{pool['internal_api']} {pool['version']} ({pool['architecture']})" for pool in threadpool_info()
                if pool["user_api"] == "blas"]
        return {**super().versions(), "blas": ", ".join(sorted(set(blas)))}

    def set_up(self):
        from threadpoolctl import threadpool_limits

        self.limits = threadpool_limits(self.threads)
        D = np.asfortranarray(np.load("D.npy"), self.dtype)
        D.T[:64] @ D[:, :64]  # the BLAS starts its threads
        self.warm_up()
        self.pool = None

        def prepare():
            start = time.perf_counter()
            self.prepare(D)
            return time.perf_counter() - start

        return best_of_setups(prepare)

    def load(self, name):
        if name != self.lambdas_name:
            super().load(name)
            self.scaled = np.ascontiguousarray(self.observations / self.lambdas[:, None], self.dtype)
            if self.threads > 1 and not self.own_threads:
                self.start_pool()

    def start_pool(self):
        """Processes that inherit the prepared dictionary and the observations."""
        if self.pool:
            self.pool.terminate()
        context = multiprocessing.get_context("fork")
        self.pool = context.Pool(self.threads, initializer=become_child, initargs=(self,))
        self.pool.map(int, range(self.threads))  # they are there

    def attempt(self, lambdas_name, count, setting, limit):
        self.load(lambdas_name)
        chunk = self.chunk
        if self.pool:  # small enough to keep all of them busy to the end
            chunk = max(1, min(chunk, count // (4 * self.threads)))
        start = time.perf_counter()
        end = time.monotonic() + limit
        jobs = ((first, min(first + chunk, count), setting, end, limit) for first in range(0, count, chunk))
        parts = self.pool.imap(solve_in_child, jobs) if self.pool else map(self.solve_range, jobs)
        parts = list(itertools.takewhile(lambda part: part is not None, parts))
        seconds = time.perf_counter() - start
        return seconds, self.unscaled(scipy.sparse.vstack(parts, format="csr"))

    def solve_range(self, job):
        first, last, setting, end, limit = job
        if first and time.monotonic() > end:
            return None
        return as_csr(self.solve(self.scaled[first:last], setting, end + limit))

    def one_by_one(self, lambdas_name, count, setting, limit):
        self.load(lambdas_name)
        seconds, codes = [], []
        end = time.monotonic() + limit
        self.solve(self.scaled[:1], setting, end)
        for i in range(min(count, len(self.scaled))):
            start = time.perf_counter()
            codes.append(self.solve(self.scaled[i : i + 1], setting, end + limit))
            seconds.append(time.perf_counter() - start)
            if time.monotonic() > end:
                break
        return seconds, self.unscaled(scipy.sparse.vstack([as_csr(code) for code in codes], format="csr"))

    def unscaled(self, codes):
        return scipy.sparse.diags(self.lambdas[: codes.shape[0]]) @ codes.astype(np.float64)


def become_child(peer):
    from threadpoolctl import threadpool_limits

    global of_parent
    of_parent = peer
    peer.limits = threadpool_limits(1)


def solve_in_child(job):
    return of_parent.solve_range(job)


class WholeCall(Peer):
    """`call` makes its own preparation, so all problems go in one call."""

    first = 32

    def call(self, count, setting):
        """(seconds, codes (count, m)) of the first `count` problems."""
        raise NotImplementedError

    def least_call_seconds(self):
        """What a call takes that has next to nothing to solve."""
        raise NotImplementedError

    def set_up(self):
        self.setup_seconds = best_of_setups(self.least_call_seconds)
        return self.setup_seconds

    def attempt(self, lambdas_name, count, setting, limit):
        self.load(lambdas_name)
        seconds, codes = self.call(count, setting)
        return max(seconds - self.setup_seconds, 1e-9), codes
