"""This project: a call of its library, from arrays in memory to codes in memory, as for the others.

The program makes the call (`bench solve`) and says what it and the making of the dictionary took; of single problems it is
`bench latency` that tells: calls with a dictionary that it keeps.

Set-up is a call for one observation with lambda over its lambda_max: preparing D, and a code of zeros.
"""

import json
import os
import re
import select
import subprocess

import numpy as np
import scipy.sparse

from ..cases import Missing
from .base import WholeCall, peak_bytes

LOOK_SECONDS = 0.05  # between two looks at the program's memory


def solver_names(program):
    """The solvers that `bench solve --solver` takes."""
    said = subprocess.run([program, "bench", "solve", "--solver", "?"], capture_output=True, text=True).stderr
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
        """Seconds of making the dictionary and of the call."""
        count = len(np.load("lambdas-part.npy", mmap_mode="r"))
        command = self.command(["bench", "solve", "--json", "--calls", "0", "--problems", str(count)], "X-part.npy",
                               "lambdas-part.npy", gap)
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True) as process:
            ended = os.pidfd_open(process.pid)
            while not select.select([ended], [], [], LOOK_SECONDS)[0]:
                self.largest = max(self.largest, peak_bytes(process.pid))
            os.close(ended)
            said, errors = process.communicate()
        if process.returncode:
            raise RuntimeError(errors.strip() or f"{self.program} ended with status {process.returncode}")
        result = json.loads(said)
        return result["prepare_seconds"] + result["first_seconds"]
