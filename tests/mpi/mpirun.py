"""Starts the program by mpirun: ranks of this machine, which talk by its memory and the loopback alone."""

import os
import subprocess
import time
from pathlib import Path

import program
from program import PATH

_started = []


def command(ranks):
    """What starts so many ranks, by Open MPI's mpirun or else MPICH's."""
    said = subprocess.run(["mpirun", "--version"], capture_output=True, text=True).stdout
    if "Open MPI" not in said:
        return ["mpirun", "-n", str(ranks)]
    loopback = ["--mca", "btl", "self,vader", "--mca", "oob_tcp_if_include", "lo", "--mca", "plm", "isolated"]
    quick = ["--mca", "odls_base_sigkill_timeout", "0"]  # ranks have said all when they end with an error
    return ["mpirun", "--allow-run-as-root", "--oversubscribe", *loopback, *quick, "-n", str(ranks)]


def run(ranks, *arguments, status=None, timeout=120, launched=(PATH,)):
    """One run of the program, or of what starts it. `status`: the exit status that it must end with."""
    return program.run(*arguments, status=status, timeout=timeout, program=[*command(ranks), *launched])


def start(ranks, *arguments):
    """Starts a run and goes on beside it; the end of the test ends it if nothing did before."""
    process = subprocess.Popen(
        [*command(ranks), str(PATH), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    )
    _started.append(process)
    return process


def end_started():
    while _started:
        process = _started.pop()
        if process.poll() is None:
            process.terminate()  # it then ends its ranks
        try:
            process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()


def descends(process, ancestor, parents):
    """Whether one process is below another. `parents`: of each process"""
    while process in parents:
        process = parents[process]
        if process == ancestor:
            return True
    return False


def processes_of(launcher, wanted, seconds=30):
    """The process ids of the ranks that a launcher has started, below it at any depth, once all are there."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        parents, programs = {}, []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                process = int(entry.name)
                parents[process] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                if os.readlink(entry / "exe") == str(PATH):
                    programs.append(process)
            except OSError:
                continue  # it has ended, or is not ours
        ranks = sorted(process for process in programs if descends(process, launcher.pid, parents))
        if len(ranks) == wanted:
            return ranks
        assert launcher.poll() is None, launcher.communicate()
        time.sleep(0.02)
    raise AssertionError(f"found {len(ranks)} ranks after {seconds} s, wanted {wanted}")


def lines_of_program(done_or_text):
    """What the program itself has said on standard error, without the launcher's words."""
    text = done_or_text if isinstance(done_or_text, str) else done_or_text.stderr
    return [line for line in text.splitlines() if line.startswith("shrinkwarp")]
