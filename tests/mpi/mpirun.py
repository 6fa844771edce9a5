"""Starts the program by mpirun: ranks of this machine, which talk by its memory and the loopback alone. It can stand for several
nodes: each has a daemon of mpirun's and a name of its own, and no memory with the others."""

import os
import subprocess
import time
from pathlib import Path

import program
from program import PATH

_started = []


def is_open_mpi():
    return "Open MPI" in subprocess.run(["mpirun", "--version"], capture_output=True, text=True).stdout


def has_nodes():
    """Whether this machine can stand for several: processes with host names of their own, which talk by TCP."""
    return is_open_mpi() and subprocess.run(["unshare", "--uts", "true"], capture_output=True).returncode == 0


def command(ranks, nodes=1):
    """What starts so many ranks, on nodes called node0, node1 ... where there are several, so many on each of them."""
    if not is_open_mpi():
        assert nodes == 1
        return ["mpirun", "-n", str(ranks)]
    where = ["--mca", "btl", "self,vader", "--mca", "plm", "isolated"]
    if nodes > 1:
        hosts = ",".join(f"node{i}:{-(-ranks // nodes)}" for i in range(nodes))
        daemons = ["--mca", "plm_rsh_agent", str(Path(__file__).with_name("node")), "--leave-session-attached"]
        network = ["--mca", "btl", "self,vader,tcp", "--mca", "btl_tcp_if_include", "lo", "--mca", "osc", "sm,pt2pt"]
        where = ["--host", hosts, *daemons, *network]
    quick = ["--mca", "odls_base_sigkill_timeout", "0"]  # ranks have said all when they end with an error
    quick += ["--mca", "oob_tcp_if_include", "lo"]
    return ["mpirun", "--allow-run-as-root", "--oversubscribe", *where, *quick, "-n", str(ranks)]


def run(ranks, *arguments, status=None, timeout=120, launched=(PATH,), nodes=1):
    """One run of the program, or of what starts it. `status`: the exit status that it must end with."""
    return program.run(*arguments, status=status, timeout=timeout, program=[*command(ranks, nodes), *launched])


def start(ranks, *arguments, nodes=1):
    """Starts a run and goes on beside it; the end of the test ends it if nothing did before."""
    process = subprocess.Popen(
        [*command(ranks, nodes), str(PATH), *map(str, arguments)],
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


def node_of(processes, rank):
    """The processes of the node that has a rank, its daemon first."""

    def parent(process):
        return int(Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[1])

    def is_rank(process):
        return f"OMPI_COMM_WORLD_RANK={rank}".encode() in Path(f"/proc/{process}/environ").read_bytes().split(b"\0")

    daemon = parent(next(process for process in processes if is_rank(process)))
    return [daemon, *(process for process in processes if parent(process) == daemon)]


def lines_of_program(done_or_text):
    """What the program itself has said on standard error, without the launcher's words."""
    text = done_or_text if isinstance(done_or_text, str) else done_or_text.stderr
    return [line for line in text.splitlines() if line.startswith("shrinkwarp")]
