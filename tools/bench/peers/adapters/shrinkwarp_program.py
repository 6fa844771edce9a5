"""This project: the program, from .npy files to a finished .npz file, process start and end included.

Of single problems it is `bench latency` that tells: calls of the library with a dictionary that it keeps.

Set-up is a call for one observation with lambda over its lambda_max: start, reading D, preparing it, writing zeros.
"""

import json
import os
import re
import select
import subprocess
import time

import numpy as np
import scipy.sparse

from ..cases import Missing
from .base import WholeCall, peak_bytes

UNCONVERGED = 3
LOOK_SECONDS = 0.05  # between two looks at the program's memory


def solver_names(program):
    """The solvers that `solve --solver` takes."""
    said = subprocess.run([program, "solve", "--dictionary", "D", "--observations", "X", "--output", "Z", "--lambda",
                           "1", "--solver", "?"], capture_output=True, text=True).stderr
    found = re.search(r"--solver: found '\?', wanted (.*?)(?: \(see|$)", said)
    if not found:
        raise Missing(f"{program} does not say which solvers it has")
    return re.split(r", | or ", found[1])


class ShrinkwarpProgram(WholeCall):
    first = 16

    def __init__(self, job):
        super().__init__(job)
        self.program, self.solver = job["program"], job["peer"].split(maxsplit=1)[1]
        self.largest = 0

    def make_settings(self, gap):
        return [(f"gap {gap:g}", gap)]

    def versions(self):
        version = subprocess.run([self.program, "info"], capture_output=True, text=True, check=True).stdout
        return {"shrinkwarp": version.splitlines()[0].split(maxsplit=1)[1]}

    def peak_bytes(self):
        return self.largest

    def least_call_seconds(self):
        D, x = np.load("D.npy").astype(np.float64), np.load("X.npy", mmap_mode="r")[:1]
        np.save("X-part.npy", x)
        np.save("lambdas-part.npy", [2 * np.abs(x.astype(np.float64) @ D).max()])
        return self.solve_files(self.gap)

    def call(self, count, gap):
        np.save("X-part.npy", self.observations[:count])
        np.save("lambdas-part.npy", self.lambdas[:count])
        seconds = self.solve_files(gap)
        return seconds, scipy.sparse.load_npz("Z-part.npz")

    def command(self, words, observations, lambdas, gap):
        return [self.program, *words, "--dictionary", "D.npy", "--observations", observations, "--lambda-file", lambdas,
                "--gap", repr(gap), "--solver", self.solver, "--threads", str(self.threads), "--device", self.device,
                "--output", "Z-part.npz"]

    def one_by_one(self, lambdas_name, count, gap, limit):
        self.load(lambdas_name)
        command = self.command(["bench", "latency", "--json", "--calls", str(count), "--seconds", repr(limit)], "X.npy",
                               lambdas_name, gap)
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr.strip() or f"{self.program} ended with status {done.returncode}")
        return json.loads(done.stdout)["seconds"], scipy.sparse.load_npz("Z-part.npz")

    def solve_files(self, gap):
        """Seconds from start to end of the program."""
        command = [*self.command(["solve"], "X-part.npy", "lambdas-part.npy", gap), "--quiet"]
        start = time.perf_counter()
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                              text=True) as process:
            ended = os.pidfd_open(process.pid)
            while not select.select([ended], [], [], LOOK_SECONDS)[0]:
                self.largest = max(self.largest, peak_bytes(process.pid))
            seconds = time.perf_counter() - start
            os.close(ended)
            errors = process.stderr.read()
        if process.returncode not in (0, UNCONVERGED):
            raise RuntimeError(errors.strip() or f"{self.program} ended with status {process.returncode}")
        return seconds
