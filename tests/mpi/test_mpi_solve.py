"""`mpirun -n R shrinkwarp solve`: the same file as without mpirun, whatever R is and what ends a run before."""

import fcntl
import json
import os
import random
import re
import resource
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import mpirun
import program
from mpirun import lines_of_program, processes_of
from program import DONE, FAILED, USAGE, Codes, check, held
from recordings_plugin import DATA

n, m = 24, 60
MIB = 1 << 20


class Work:
    """A solve in a folder of its own, and its result by one process."""

    def __init__(self, folder, rows=2000, options=("--lambda-fraction", 0.2)):
        random_ = np.random.default_rng(0)
        self.folder = folder
        self.options = [*options, "--threads", 1]
        self.D = random_.standard_normal((n, m))
        self.X = random_.standard_normal((rows, n))
        self.files = program.save(folder, self.D, self.X)
        self.output = folder / "Z.npz"
        started = time.monotonic()
        program.run(*self.command(output=folder / "A.npz"), status=DONE)
        self.seconds = time.monotonic() - started
        self.wanted = (folder / "A.npz").read_bytes()

    def command(self, *more, output=None, quiet=True):
        quiet = ["--quiet"] if quiet else []
        return ["solve", *self.files, "--output", output or self.output, *quiet, *self.options, *more]

    def solve(self, ranks, *more, status=DONE, **others):
        return mpirun.run(ranks, *self.command(*more), status=status, **others)

    def journals(self):
        return sorted(self.folder.glob("Z.npz.journal*"))

    def held(self):
        """The problems in all parts of the journal."""
        return [problem for path in self.journals() for problem in held(path)]

    def check(self):
        assert self.output.read_bytes() == self.wanted
        assert self.journals() == []

    def again(self):
        for path in [self.output, *self.journals()]:
            path.unlink(missing_ok=True)

    def stop_at(self, row, ranks):
        """Leaves a journal: a NaN is found at `row`. The file is whole again afterwards."""
        bad = self.X.copy()
        bad[row, 3] = np.nan
        np.save(self.folder / "X.npy", bad)
        done = self.solve(ranks, status=FAILED)
        np.save(self.folder / "X.npy", self.X)
        return done


# ------------------------------------------------------------------------------------------------------- the same bits


@pytest.mark.parametrize("solver", ["auto", "fista"])
def test_the_same_file_for_every_number_of_ranks(folder, solver):
    work = Work(folder, options=["--lambda-fraction", 0.2, "--solver", solver])
    check(Codes(folder / "A.npz"), work.D, work.X)
    for ranks in (1, 2, 3, 4):
        assert work.solve(ranks).stdout == ""
        work.check()
        work.again()


@pytest.mark.data
@pytest.mark.parametrize("case, problems", [("small", 20000), ("medium", 1263)])
def test_the_same_file_of_recordings(folder, case, problems):
    recordings = Path(DATA) / case
    X = np.load(recordings / "X_evoked.npy")
    np.save(folder / "X.npy", X[np.random.default_rng(0).permutation(np.resize(np.arange(len(X)), problems))])
    files = ["--dictionary", recordings / "D.npy", "--observations", folder / "X.npy"]
    options = [*files, "--lambda-fraction", 0.3, "--threads", 1, "--quiet"]
    program.run("solve", *options, "--output", folder / "A.npz", status=DONE)
    for ranks in (1, 2, 3, 4):
        mpirun.run(ranks, "solve", *options, "--output", folder / "Z.npz", status=DONE)
        assert (folder / "Z.npz").read_bytes() == (folder / "A.npz").read_bytes()
        (folder / "Z.npz").unlink()
    said = json.loads(program.run("certify", folder / "A.npz", *files, "--json", status=DONE).stdout)
    assert said["certified"] == problems
    assert [claim["contradicted"] for claim in said["claims"].values()] == [0] * len(said["claims"])


def test_the_same_file_whatever_is_asked(folder):
    """Each way through the solvers, with three ranks."""
    random_ = np.random.default_rng(1)
    lambdas = random_.uniform(0.5, 3, 600)
    lambdas[random_.permutation(600)[:200]] = 0  # which another solver takes
    np.save(folder / "L.npy", lambdas)
    weights = random_.uniform(0.5, 2, m)
    weights[[3, 40]] = 0
    weights[7] = np.inf
    np.save(folder / "W.npy", weights)
    Work(folder, rows=600)
    shutil.copy(folder / "A.npz", folder / "start.npz")
    for options in (
        ["--lambda-fraction", 0.3, "--lambda-scope", "recording"],
        ["--lambda-file", folder / "L.npy"],
        ["--lambda-fraction", 0.3, "--weights", folder / "W.npy", "--solver", "fista"],
        ["--lambda-fraction", 0.3, "--weights", folder / "W.npy", "--lambda-scope", "recording"],
        ["--max-nonzeros", 5],
        ["--lambda-fraction", 0.3, "--group-size", 3],
        ["--lambda-fraction", 0.3, "--debias"],
        ["--lambda-fraction", 0.1, "--warm-start", folder / "start.npz"],
        ["--lambda-fraction", 0.3, "--elastic-net", 0.5],
    ):
        work = Work(folder, rows=600, options=options)
        work.solve(3)
        work.check()
        work.again()


def test_more_ranks_than_problems(folder):
    work = Work(folder, rows=2, options=["--lambda-fraction", 0.2, "--lambda-scope", "recording"])
    work.solve(4)
    work.check()


def test_several_fractions(folder):
    random_ = np.random.default_rng(0)
    files = program.save(folder, random_.standard_normal((n, m)), random_.standard_normal((500, n)))
    options = [*files, "--lambda-fractions", "0.5,0.2", "--threads", 1, "--quiet"]
    program.run("solve", *options, "--output", folder / "A.npz", status=DONE)
    mpirun.run(2, "solve", *options, "--output", folder / "Z.npz", status=DONE)
    for fraction in ("0.5", "0.2"):
        assert (folder / f"Z-{fraction}.npz").read_bytes() == (folder / f"A-{fraction}.npz").read_bytes()


# ------------------------------------------------------------------------------------------------------------- the end


def test_a_bad_row_is_told_once_and_the_rest_resumed(folder):
    """By other numbers of ranks: nothing that was finished is solved again."""
    work = Work(folder, options=["--lambda-fraction", 0.2, "--solver", "fista"])
    for ranks, next_ranks in ((3, 2), (2, None)):
        done = work.stop_at(1500, ranks)
        line, = lines_of_program(done)
        assert re.match(r"shrinkwarp: (rank [12] on \S+: )?\S+X.npy: entry 3 of row 1500 is nan", line), line
        assert "--resume goes on with them" in line
        kept = work.held()
        assert len(kept) == len(set(kept)) and f"{len(kept):,} of 2,000 problems are kept" in line
        assert set(range(1400)) <= set(kept) and 1500 not in kept
        line, = lines_of_program(work.solve(2, status=FAILED))
        assert f"holds {len(kept):,} finished problems" in line
        line, = program.run(*work.command(), status=FAILED).stderr.splitlines()
        assert f"holds {len(kept):,} finished problems" in line and "further parts" in line
        resume = work.command("--resume", "--json")
        done = mpirun.run(next_ranks, *resume, status=DONE) if next_ranks else program.run(*resume, status=DONE)
        said = json.loads(done.stdout)
        assert said["resumed"] == len(kept) and said["problems"] == 2000
        work.check()
        work.again()


def test_damage_of_a_part_is_told(folder):
    """Without saying of another part that it was damaged."""
    work = Work(folder, options=["--lambda-fraction", 0.2, "--solver", "fista"])
    work.stop_at(1500, 2)
    with open(work.journals()[1], "ab") as file:
        file.write(b"x" * 1234)
    for status, more in ((FAILED, []), (DONE, ["--resume"])):
        line, = lines_of_program(work.solve(3, *more, status=status))
        assert "1,234 bytes at the end of a part are damaged" in line
    work.check()


def test_a_problem_that_two_parts_hold_is_told_before_others_are_solved(folder):
    work = Work(folder, options=["--lambda-fraction", 0.2, "--solver", "fista"])
    work.stop_at(1500, 1)
    shutil.copy(folder / "Z.npz.journal", folder / "Z.npz.journal.1")
    kept = work.held()
    line, = lines_of_program(work.solve(2, "--resume", status=FAILED))
    assert f"hold {len(kept) // 2:,} problems twice" in line
    assert work.held() == kept


def test_a_finished_output_has_nothing_to_resume(folder):
    work = Work(folder, rows=100)
    work.solve(2)
    assert json.loads(work.solve(2, "--resume", "--json").stdout)["finished"]
    work.options[1] = 0.3
    line, = lines_of_program(work.solve(2, "--resume", status=FAILED))
    assert "--lambda-fraction: found 0.2, wanted 0.3" in line
    work.check()


def slow_work(folder, rows=3000):
    """One that takes seconds, to be ended in between."""
    return Work(folder, rows=rows, options=["--lambda-fraction", 0.02, "--gap", 1e-9, "--solver", "fista"])


def kill_a_rank(work, ranks, next_ranks, dice):
    """@return whether it was killed in time"""
    launcher = mpirun.start(ranks, *work.command())
    processes = processes_of(launcher, ranks)
    time.sleep(dice.uniform(0.1, 0.9) * work.seconds / min(ranks, 2))
    try:
        os.kill(dice.choice(processes), signal.SIGKILL)
    except ProcessLookupError:
        pass
    killed = time.monotonic()
    said = "".join(launcher.communicate(timeout=30))  # Open MPI tells it on standard error, MPICH on the other
    assert time.monotonic() - killed < 30
    in_time = launcher.returncode != DONE
    if in_time:
        assert "signal 9" in said or "KILLED" in said.upper(), said
        assert not work.output.exists()
    kept = work.held()
    assert len(kept) == len(set(kept))
    done = mpirun.run(next_ranks, *work.command("--resume", "--json"), status=DONE)
    said = json.loads(done.stdout)
    assert said.get("finished") or said["resumed"] == len(kept)
    work.check()
    work.again()
    return in_time


def test_killed_ranks_end_the_run_and_lose_no_finished_problem(folder):
    work = slow_work(folder)
    dice = random.Random(20)
    kills = tries = 0
    while kills < 20:
        tries += 1
        assert tries <= 60, f"only {kills} of {tries} kills came in time"
        kills += kill_a_rank(work, dice.randint(2, 4), dice.randint(1, 4), dice)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda s: s.name)
def test_a_signal_to_any_rank_stops_all(folder, number):
    work = slow_work(folder)
    launcher = mpirun.start(2, *work.command())
    process = processes_of(launcher, 2)[1]
    while len(work.held()) < 300:
        assert launcher.poll() is None, launcher.communicate()
        time.sleep(0.02)
    os.kill(process, number)
    _, said = launcher.communicate(timeout=60)
    assert launcher.returncode == 128 + number, said
    kept = work.held()
    line, = lines_of_program(said)
    assert f"interrupted: {len(kept):,} of 3,000 problems are kept in" in line
    assert json.loads(work.solve(3, "--resume", "--json").stdout)["resumed"] == len(kept)
    work.check()


def being_written(folder):
    """The output in the making."""
    return list(folder.glob(".shrinkwarp-*-Z.npz.tmp"))


def start_writing(folder, command, ranks):
    """@return the launcher and the ranks, once they write the output"""
    launcher = mpirun.start(ranks, *command)
    processes = processes_of(launcher, ranks)
    while not being_written(folder):
        assert launcher.poll() is None, launcher.communicate()
        time.sleep(0.005)
    return launcher, processes


def test_ended_while_the_output_is_written(folder):
    """By a signal to any rank, then by the end of one. Least squares on some ninety atoms a problem take their time."""
    random_ = np.random.default_rng(2)
    files = program.save(folder, random_.standard_normal((100, 200)), random_.standard_normal((12000, 100)))
    options = [*files, "--lambda-fraction", 0.02, "--gap", 1e-2, "--debias", "--threads", 1, "--quiet"]
    command = ["solve", *options, "--output", folder / "Z.npz", "--resume"]
    for rank in (0, 1, 2):
        launcher, processes = start_writing(folder, command, 3)
        os.kill(processes[rank], signal.SIGTERM)
        _, said = launcher.communicate(timeout=60)
        assert launcher.returncode == 128 + signal.SIGTERM, (rank, said)
        line, = lines_of_program(said)
        assert "interrupted: 12,000 of 12,000 problems are kept" in line
        assert not (folder / "Z.npz").exists() and being_written(folder) == []
    launcher, processes = start_writing(folder, command, 2)
    os.kill(processes[1], signal.SIGKILL)
    launcher.communicate(timeout=60)
    assert launcher.returncode != DONE and not (folder / "Z.npz").exists()
    done = mpirun.run(2, *command, "--json", status=DONE)
    assert json.loads(done.stdout)["resumed"] == 12000
    assert {path.name for path in folder.iterdir()} == {"D.npy", "X.npy", "Z.npz"}
    program.run("solve", *options, "--output", folder / "A.npz", status=DONE)
    assert (folder / "Z.npz").read_bytes() == (folder / "A.npz").read_bytes()


def test_a_rank_that_cannot_write_its_part_is_named(folder):
    """As on a full disk: at a size that its part of the journal does not reach, but its part of the output."""
    work = slow_work(folder)
    ignoring = ["bash", "-c", "trap '' XFSZ; exec \"$@\"", "bash"]
    launcher = mpirun.start(1, *work.command(), ":", "-n", 1, *ignoring, program.PATH, *work.command())
    process = processes_of(launcher, 2)[1]
    while len(work.journals()) < 2:
        assert launcher.poll() is None, launcher.communicate()
        time.sleep(0.01)
    resource.prlimit(process, resource.RLIMIT_FSIZE, (len(work.wanted) * 4 // 5,) * 2)
    _, said = launcher.communicate(timeout=60)
    line, = lines_of_program(said)
    wanted = r"shrinkwarp: rank 1 on \S+: .*Z.npz.: cannot write this file: File too large; 3,000 of 3,000"
    assert launcher.returncode == FAILED and re.match(wanted, line), said
    assert not work.output.exists() and being_written(folder) == [] and len(work.journals()) == 2
    assert json.loads(work.solve(2, "--resume", "--json").stdout)["resumed"] == 3000
    work.check()


def test_parts_in_use(folder):
    """One run at a time has the journal, and with it the output: of ranks or of a process alone."""
    work = Work(folder, options=["--lambda-fraction", 0.2, "--solver", "fista"])
    work.stop_at(1500, 2)
    for path in work.journals():
        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            line, = lines_of_program(work.solve(2, "--resume", status=FAILED))
            assert f"{path.name}': is in use by another process" in line
            line, = program.run(*work.command("--resume"), status=FAILED).stderr.splitlines()
            assert f"{path.name}': is in use by another process" in line
    work.solve(2, "--resume")
    work.check()


# -------------------------------------------------------------------------------------------------------- several nodes

needs_nodes = pytest.mark.skipif(not mpirun.has_nodes(), reason="this machine cannot stand for several nodes")


@needs_nodes
def test_the_same_file_from_several_nodes(folder):
    """Whatever is asked of them: the dictionary is prepared on each, and all write the output."""
    for options in (["--lambda-fraction", 0.2], ["--lambda-fraction", 0.3, "--lambda-scope", "recording", "--debias"]):
        work = Work(folder, options=options)
        for ranks, nodes in ((2, 2), (4, 2), (3, 3)):
            done = work.solve(ranks, "--json", nodes=nodes)
            assert len(json.loads(done.stdout)["ranks"]) == ranks
            work.check()
            work.again()


def test_a_node_holds_its_dictionary_once(folder):
    """What a rank has of its own is less than D alone takes, but for the one that prepares it for all."""
    rows, atoms = 128, 30000
    measure = folder / "measure.py"
    measure.write_text(
        "import os, pathlib, subprocess, sys, time\n"
        "child = subprocess.Popen(sys.argv[2:], close_fds=False)\n"
        "most = 0\n"
        "while child.poll() is None:\n"
        "    lines = pathlib.Path(f'/proc/{child.pid}/status').read_text().splitlines()\n"
        "    most = max([most, *(1024 * int(line.split()[1]) for line in lines if line.startswith('RssAnon'))])\n"
        "    time.sleep(0.002)\n"
        "rank = os.environ.get('OMPI_COMM_WORLD_RANK') or os.environ['PMI_RANK']\n"
        "pathlib.Path(sys.argv[1], rank).write_text(str(most))\n"
        "sys.exit(child.returncode)\n"
    )
    random_ = np.random.default_rng(0)
    files = program.save(folder, random_.standard_normal((rows, atoms)), random_.standard_normal((200, rows)))
    for solver in ("working-set", "fista"):
        told = folder / solver
        told.mkdir()
        options = ["--lambda-fraction", 0.5, "--solver", solver, "--gap", 1e-3, "--memory-limit", "1GiB", "--quiet"]
        mpirun.run(
            3, "solve", *files, *options, "--threads", 1, "--output", folder / "Z.npz", status=DONE,
            launched=(sys.executable, "-S", measure, told, program.PATH),
        )
        peaks = [int((told / str(rank)).read_text()) for rank in range(3)]
        (folder / "Z.npz").unlink()
        assert peaks[0] > rows * atoms * 8 > max(peaks[1:]), peaks


@needs_nodes
def test_what_is_wrong_on_another_node_names_it(folder):
    work = Work(folder)
    (folder / "there").mkdir()
    np.save(folder / "there" / "X.npy", work.X + 1)
    arguments = work.command()
    arguments[arguments.index(folder / "X.npy")] = "X.npy"
    places = ["-wdir", folder, program.PATH, *arguments, ":", "-n", 1, "-wdir", folder / "there", program.PATH]
    done = mpirun.run(1, *arguments, launched=places, nodes=2, status=FAILED)
    line, = lines_of_program(done)
    assert line.startswith("shrinkwarp: rank 1 on node1: rank 0 differs from this one: some rows of --observations")


@needs_nodes
def test_a_node_that_is_lost_ends_the_run(folder):
    """Its daemon and its ranks are killed at once; what they had kept is resumed on one node."""
    work = slow_work(folder)
    launcher = mpirun.start(4, *work.command(), nodes=2)
    ranks = processes_of(launcher, 4)
    while len(work.held()) < 300:
        assert launcher.poll() is None, launcher.communicate()
        time.sleep(0.02)
    for process in mpirun.node_of(ranks, 3):
        os.kill(process, signal.SIGKILL)
    killed = time.monotonic()
    said = "".join(launcher.communicate(timeout=30))
    assert time.monotonic() - killed < 30
    assert launcher.returncode != DONE and "node1" in said, said
    assert not work.output.exists()
    kept = work.held()
    assert len(kept) == len(set(kept)) >= 300
    assert json.loads(work.solve(2, "--resume", "--json").stdout)["resumed"] == len(kept)
    work.check()


# -------------------------------------------------------------------------------------------------------- what is said


def test_mistakes_are_told_once(folder):
    work = Work(folder, rows=10)
    for arguments, status, wanted in (
        (["solve", "--bogus"], USAGE, "--bogus"),
        (["info"], USAGE, "info: found 2 ranks, wanted one process"),
        (work.command("--gap", 1e-20), USAGE, "--gap"),
        (["solve", *work.files, "--solver", "least-squares", "--output", folder / "Z.npy"], USAGE, "found 2 ranks"),
        (work.command("--warm-start", folder / "none.npz"), FAILED, "none.npz"),
        (work.command(output=folder / "none" / "Z.npz"), FAILED, "Z.npz': no file can be made in folder"),
    ):
        done = mpirun.run(2, *arguments, status=status)
        line, = lines_of_program(done)
        assert wanted in line and done.stdout == ""
    assert mpirun.run(2, "solve", "--help", status=DONE).stdout.count("Example:") == 1


def test_the_summary_is_of_all_ranks(folder):
    work = Work(folder)
    whole = json.loads(program.run(*work.command("--json", output=folder / "B.npz"), status=DONE).stdout)
    said = json.loads(work.solve(2, "--json").stdout)
    for key in ("problems", "converged", "nonzeros", "iterations", "worst_gap", "rows", "atoms", "solver"):
        assert said[key] == whole[key], key
    assert sum(rank["problems"] for rank in said["ranks"]) == 2000
    assert all(0 <= rank["busy_seconds"] <= said["solve_seconds"] for rank in said["ranks"])
    assert 0 < said["output_seconds"] < said["seconds"] - said["solve_seconds"]
    table = mpirun.run(2, *work.command(quiet=False), status=DONE).stdout
    assert table.count("problems     2,000") == 1 and "ranks        2, busy" in table


def test_the_counter_that_ranks_share_counts_all():
    """It ends with an error where the calls of all are not what it has counted to."""
    for callers, calling in ((0, [True, True, True]), (1, [False, False, True])):
        done = mpirun.run(3, "bench", "counter", "--seconds", 0.05, "--callers", callers, "--json", status=DONE)
        said = json.loads(done.stdout)
        assert said["ranks"] == 3 and said["mpi"] and [calls > 0 for calls in said["calls"]] == calling
        assert said["callers"] == sum(calling)
        assert said["seconds_a_call"] * said["calls_per_second"] == pytest.approx(sum(calling))
    done = mpirun.run(2, "bench", "counter", "--callers", 3, status=USAGE)
    assert "found 3, wanted at most 2, the ranks" in lines_of_program(done)[0]


def test_processes_of_another_launcher_are_refused(folder):
    """As when an mpirun that is not of the program's MPI starts it."""
    others = {key: value for key, value in os.environ.items() if not key.startswith("OMPI_")}
    for rank in (0, 1):
        done = program.run("info", env={**others, "PMI_SIZE": "2", "PMI_RANK": str(rank)}, status=FAILED)
        assert ("found 2 processes that do not know of one another" in done.stderr) == (rank == 0)


@pytest.mark.parametrize("other", ["info", "--output"])
def test_ranks_with_other_arguments_are_refused(folder, other):
    """They would wait for one another in different places, or mix what is of different recordings."""
    work = Work(folder, rows=100)
    more = ["info"] if other == "info" else work.command(output=folder / "B.npz")
    done = work.solve(1, ":", "-n", 1, program.PATH, *more, status=USAGE, timeout=30)
    line, = lines_of_program(done)
    assert "rank 1 on " in line and ": found the argument" in line and ("'info'" in line or "B.npz'" in line)
    assert not work.output.exists() and not (folder / "B.npz").exists() and work.journals() == []


def test_ranks_with_other_folders_are_refused_at_once(folder):
    """A disk of each node: what one rank has solved no other one would find."""
    work = Work(folder, rows=100)
    (folder / "there").mkdir()
    arguments = work.command(output="Z.npz")
    places = ["-wdir", folder, program.PATH, *arguments, ":", "-n", 1, "-wdir", folder / "there", program.PATH]
    done = mpirun.run(1, *arguments, launched=places, status=FAILED)
    line, = lines_of_program(done)
    assert "rank 1 on " in line and "does not see the folder of Z.npz as rank 0 does" in line
    assert not list(folder.glob("Z.npz*")) and not list((folder / "there").iterdir())


@pytest.mark.parametrize("row", [0, 1, 1999])
def test_ranks_with_other_observations_are_refused(folder, row):
    """A name that means another file on another node: told by the first, the last and some rows in between."""
    work = Work(folder)
    other = work.X.copy()
    (folder / "there").mkdir()
    other[row if row != 1 else slice(1, 1999)] += 1
    np.save(folder / "there" / "X.npy", other)
    arguments = work.command()
    arguments[arguments.index(folder / "X.npy")] = "X.npy"
    places = ["-wdir", folder, program.PATH, *arguments, ":", "-n", 1, "-wdir", folder / "there", program.PATH]
    done = mpirun.run(1, *arguments, launched=places, status=FAILED)
    line, = lines_of_program(done)
    said = r"shrinkwarp: rank 1 on \S+: rank 0 differs .*: some rows of --observations: found [0-9a-f]{16},"
    assert re.match(said, line)
    assert not work.output.exists() and work.journals() == []


def test_one_process_of_a_launcher_needs_no_mpi(folder):
    """A shell that srun has started, where Open MPI would end who calls it: what runs there is alone."""
    work = Work(folder, rows=100)
    step = {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0", "SLURM_JOBID": "1", "SLURM_STEPID": "0"}
    done = program.run(*work.command(), env={**os.environ, **step}, status=DONE)
    assert done.stderr == ""
    work.check()


@pytest.mark.parametrize("problems, rows, limit", [(60000, n, 8), (1000000, n, 64)])
def test_memory_of_a_rank_stays_within_the_limit(folder, problems, rows, limit):
    """The output is larger than what a rank may hold. What a rank takes beside the limit is what R = 1 takes."""
    measure = folder / "measure.py"  # each rank writes a file: mpirun may lose what a rank prints when it ends
    measure.write_text(
        "import os, pathlib, resource, subprocess, sys\n"
        "status = subprocess.call(sys.argv[2:], close_fds=False)\n"
        "peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024\n"
        "pathlib.Path(sys.argv[1], str(os.getpid())).write_text(str(peak))\n"
        "sys.exit(status)\n"
    )
    random_ = np.random.default_rng(0)
    files = program.save(folder, random_.standard_normal((rows, m)), random_.standard_normal((problems, rows)))
    options = ["solve", *files, "--lambda-fraction", 0.05, "--gap", 1e-3, "--memory-limit", f"{limit}MiB", "--quiet"]
    besides = 48 * MIB  # the program, its libraries, MPI's among them, and buffers
    for ranks in (1, 2):
        output, told = folder / f"Z{ranks}.npz", folder / f"peaks{ranks}"
        told.mkdir()
        measured = (sys.executable, "-S", measure, told, program.PATH)
        mpirun.run(ranks, *options, "--output", output, "--threads", 1, launched=measured, status=DONE)
        peaks = [int(file.read_text()) for file in told.iterdir()]
        assert len(peaks) == ranks
        assert max(peaks) <= limit * MIB + besides, peaks
        assert output.stat().st_size > 2 * limit * MIB
    assert (folder / "Z1.npz").read_bytes() == (folder / "Z2.npz").read_bytes()
