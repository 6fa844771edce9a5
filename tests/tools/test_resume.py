"""Finished problems outlive the process, and `--resume` makes of them what an uninterrupted run makes, bit by bit."""

import fcntl
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import time

import numpy as np
import pytest

from program import DONE, FAILED, PATH, UNCONVERGED, USAGE, Codes, check, held, one_line, run, save, start

N, n, m = 240, 12, 30


def problem(rows, seed=0):
    random_ = np.random.default_rng(seed)
    D = random_.standard_normal((n, m))
    return D, random_.standard_normal((rows, n))


def processor_seconds(usage):
    return usage.ru_utime + usage.ru_stime


class Work:
    """A solve in a folder of its own, its result when nothing disturbs it, and ways to disturb it."""

    # A solver that finishes few problems at a time, so that there is a middle to be stopped in.
    options = ["--lambda-fraction", 0.2, "--gap", 1e-8, "--threads", 2, "--solver", "fista"]

    def __init__(self, folder, rows=N, options=None):
        self.folder = folder
        self.options = self.options if options is None else options
        self.D, self.X = problem(rows)
        self.files = save(folder, self.D, self.X)
        self.output = folder / "Z.npz"
        self.journal = folder / "Z.npz.journal"
        self.solve_undisturbed()

    def solve_undisturbed(self):
        started = time.monotonic()
        before = processor_seconds(resource.getrusage(resource.RUSAGE_CHILDREN))
        run(*self.command(output=self.folder / "A.npz"), timeout=1200)
        self.processor_seconds = processor_seconds(resource.getrusage(resource.RUSAGE_CHILDREN)) - before
        self.seconds = time.monotonic() - started
        self.wanted = Codes(self.folder / "A.npz").arrays

    def command(self, *more, options=None, output=None):
        options = self.options if options is None else options
        return ["solve", *self.files, "--output", output or self.output, "--quiet", *options, *more]

    def solve(self, *more, status=DONE, **others):
        options = {key: others.pop(key) for key in ("options", "output") if key in others}
        return run(*self.command(*more, **options), status=status, **others)

    def start(self, *more, **others):
        return start(*self.command(*more), stderr=subprocess.PIPE, text=True, **others)

    def stop_at(self, row):
        """Leaves a journal of the problems before `row`: a NaN is found there. The file is whole again afterwards."""
        bad = self.X.copy()
        bad[row, 3] = np.nan
        np.save(self.folder / "X.npy", bad)
        line = one_line(self.solve(status=FAILED))
        assert f"entry 3 of row {row} is nan" in line and f"{row:,} of {len(self.X):,} problems are kept" in line
        np.save(self.folder / "X.npy", self.X)
        assert self.journal.exists() and not self.output.exists()

    def stop_at_size(self, size):
        """Leaves a journal of no more than `size` bytes: it cannot grow further."""

        def limit():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

        line = one_line(self.solve(status=FAILED, preexec_fn=limit, restore_signals=False))
        assert "File too large" in line and "--resume" in line

    def resume(self, *more, status=DONE):
        """Resumes: the result is that of the undisturbed run, and nothing is left beside it."""
        done = self.solve("--resume", *more, status=status)
        self.check()
        return done

    def check(self):
        found = Codes(self.output).arrays
        assert set(found) == set(self.wanted)
        for name, array in self.wanted.items():
            assert found[name].dtype == array.dtype and found[name].tobytes() == array.tobytes(), name
        assert {path.name for path in self.folder.iterdir()} == {"D.npy", "X.npy", "A.npz", "Z.npz"}

    def again(self):
        self.output.unlink(missing_ok=True)
        self.journal.unlink(missing_ok=True)


@pytest.fixture
def work(folder):
    return Work(folder)


# ------------------------------------------------------------------------------------------------------------- SIGKILL


def kill_at(work, fraction):
    """Kills a solve. @return the share of its work that it had done, None if it was faster than the kill"""
    process = work.start()
    time.sleep(work.seconds * fraction)
    os.kill(process.pid, signal.SIGKILL)  # not process.kill(), which would wait for one that has ended
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stderr.close()
    if process.returncode != -signal.SIGKILL:
        return None
    return min(1, processor_seconds(usage) / work.processor_seconds)


def resume_after(work, share):
    """Resumes after kill_at. No more than what README allows was lost: a thousand problems or two seconds of work.
    Work is counted in seconds of processors, which a busy machine does not change by much: half as much again."""
    kept = held(work.journal)
    said = json.loads(run(*work.command("--resume", "--json"), status=DONE).stdout)
    work.check()
    if share is None or said.get("finished"):  # it was done, or killed between its last step and its exit
        return
    assert said["resumed"] == len(kept) == len(set(kept))
    problems = len(work.X)
    may_be_lost = max(1000, 2 / work.seconds * problems)
    print(f"killed at {share:.2f} of {work.seconds:.1f} s: {len(kept)} of {problems} kept, {may_be_lost:.0f} may be lost")
    assert len(kept) >= share / 1.5 * problems - may_be_lost
    if share > 0.7:
        assert len(kept) > 0


@pytest.mark.parametrize("gap, rows", [(1e-5, 4000), (1e-10, 8000)], ids=["float", "double"])
def test_killed_at_any_moment(folder, gap, rows):
    work = Work(folder, rows=rows, options=["--lambda-fraction", 0.1, "--gap", gap, "--threads", 2, "--solver", "fista"])
    dice = random.Random(gap)
    kills = 0
    for fraction in (dice.uniform(0.05, 0.95), 0.9):
        share = kill_at(work, fraction)
        kills += share is not None
        resume_after(work, share)
        work.again()
    assert kills >= 1


def test_killed_again_and_again(folder):
    """Without an end of its own, each run goes on from where the last one was killed."""
    work = Work(folder, rows=6000, options=["--lambda-fraction", 0.1, "--threads", 2, "--solver", "fista"])
    kept = set()
    for _ in range(30):
        process = work.start("--resume")
        time.sleep(work.seconds / 4)
        process.kill()
        process.communicate()
        if process.returncode != -signal.SIGKILL:
            break
        if not work.journal.exists():  # killed between its last step and its exit
            break
        now = set(held(work.journal))
        assert kept <= now
        kept = now
    assert len(kept) > 0
    if process.returncode == -signal.SIGKILL:
        said = json.loads(run(*work.command("--resume", "--json"), status=DONE).stdout)
        assert said.get("finished") or said["resumed"] == len(kept)
    assert process.returncode in (DONE, -signal.SIGKILL)
    work.check()


@pytest.mark.slow
def test_fifty_kills(folder):
    run("phantom", "meg", "--sensors", 102, "--sources", 200, "--samples", 20000, "--quiet", "--dictionary",
        folder / "D.npy", "--observations", folder / "X.npy", status=DONE)  # fmt: skip
    D, X = np.load(folder / "D.npy"), np.load(folder / "X.npy")

    class Phantom(Work):
        options = ["--lambda-fraction", 0.5, "--threads", 2, "--solver", "fista"]

        def __init__(self):
            super().__init__(folder, rows=1)
            self.D, self.X = D, X
            save(folder, D, X)
            self.solve_undisturbed()

    work = Phantom()
    dice = random.Random(50)
    kills = tries = 0
    while kills < 50:
        tries += 1
        assert tries <= 200, f"only {kills} of {tries} kills came in time"
        share = kill_at(work, dice.uniform(0.02, 0.98))
        kills += share is not None
        if share is None:  # the machine has become quicker than it was at the undisturbed run
            work.seconds *= 0.9
        resume_after(work, share)
        work.again()


# -------------------------------------------------------------------------------------------------------- signals, NaN


def start_and_wait(work, **others):
    """Starts a solve and waits until it has kept a quarter of its problems, however busy the machine is."""
    process = work.start(**others)
    while len(held(work.journal)) < len(work.X) / 4:
        assert process.poll() is None, f"it ended too soon:\n{process.stderr.read()}"
        time.sleep(0.02)
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda s: s.name)
def test_interrupted(folder, number):
    work = Work(folder, rows=8000, options=["--lambda-fraction", 0.05, "--gap", 1e-7, "--threads", 1, "--solver", "fista"])
    process = start_and_wait(work)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number, err
    kept = re.fullmatch(
        r"shrinkwarp: interrupted: ([\d,]+) of 8,000 problems are kept in \S*/Z\.npz\.journal, --resume .*\n", err
    )
    assert kept, err
    assert not work.output.exists()
    said = json.loads(run(*work.command("--resume", "--json"), status=DONE).stdout)
    assert said["resumed"] == int(kept[1].replace(",", "")) > 0
    work.check()


def test_a_signal_that_is_ignored_stays_ignored(folder):
    """As under nohup, and for SIGINT in the background jobs of a shell."""
    work = Work(folder, rows=8000, options=["--lambda-fraction", 0.05, "--gap", 1e-7, "--threads", 1, "--solver", "fista"])
    for ignored, other in ((signal.SIGINT, signal.SIGTERM), (signal.SIGTERM, signal.SIGINT)):
        process = start_and_wait(work, preexec_fn=lambda: signal.signal(ignored, signal.SIG_IGN))
        process.send_signal(ignored)
        time.sleep(work.seconds / 8)
        assert process.poll() is None
        process.send_signal(other)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 128 + other, err
        work.resume()
        work.again()
    process = start_and_wait(work, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == DONE, err
    work.check()


def test_bad_row_is_mended_and_the_rest_resumed(work):
    work.stop_at(200)
    said = json.loads(run(*work.command("--resume", "--json"), status=DONE).stdout)
    assert said["resumed"] == 200 and said["problems"] == N
    work.check()


def test_two_bad_rows_in_turn(work):
    bad = work.X.copy()
    bad[[90, 91, 170], 0] = np.inf
    for row in (90, 91, 170):
        np.save(work.folder / "X.npy", bad)
        assert f"entry 0 of row {row} is inf" in one_line(work.solve("--resume", status=FAILED))
        bad[row] = work.X[row]
    np.save(work.folder / "X.npy", work.X)
    work.resume()


def test_bad_row_under_the_recording_s_lambda_leaves_nothing(work):
    bad = work.X.copy()
    bad[200, 3] = np.nan
    np.save(work.folder / "X.npy", bad)
    work.solve("--lambda-scope", "recording", status=FAILED)
    assert not work.journal.exists()


def test_rows_that_were_solved_must_not_change(work):
    work.stop_at(200)
    before = work.journal.read_bytes()
    changed = work.X.copy()
    changed[[77, 230]] *= 1.0000001
    np.save(work.folder / "X.npy", changed)
    line = one_line(work.solve("--resume", status=FAILED))
    assert "row 77 " in line and "X.npy" in line and "Z.npz.journal" in line
    assert work.journal.read_bytes() == before
    np.save(work.folder / "X.npy", work.X)
    work.resume()


def test_rows_that_were_not_solved_may_change(work):
    work.stop_at(200)
    work.X[[200, 239]] *= 2
    np.save(work.folder / "X.npy", work.X)
    work.solve(output=work.folder / "A.npz")
    work.wanted = Codes(work.folder / "A.npz").arrays
    work.resume()


def test_a_row_of_another_type_of_the_same_numbers_is_the_same(folder):
    work = Work(folder)
    work.X = work.X.astype(np.float32)
    np.save(folder / "X.npy", work.X)
    work.solve(output=folder / "A.npz")
    work.wanted = Codes(folder / "A.npz").arrays
    work.stop_at(100)
    np.save(folder / "X.npy", np.asfortranarray(work.X.astype(np.float64)))
    work.resume()


# ----------------------------------------------------------------------------------------- what is there at the beginning


def test_without_a_journal_it_starts_afresh(work):
    work.resume()


def test_a_finished_output_has_nothing_to_resume(work):
    work.solve()
    before = work.output.stat()
    said = run(*[a for a in work.command("--resume") if a != "--quiet"], status=DONE).stdout
    assert "Z.npz is finished" in said and said.count("\n") == 1
    assert json.loads(work.solve("--resume", "--json").stdout) == {"finished": True, "output": str(work.output)}
    assert work.solve("--resume").stdout == ""
    assert work.output.stat().st_mtime_ns == before.st_mtime_ns and work.output.stat().st_ino == before.st_ino
    work.check()


def resume_refused(work, *more, **others):
    """Of an output that is there. @return what was said"""
    before = work.output.read_bytes()
    line = one_line(work.solve("--resume", *more, status=FAILED, **others))
    assert "Z.npz" in line and "without --resume a solve starts afresh and replaces it" in line
    assert work.output.read_bytes() == before and not work.journal.exists()
    return line


def test_the_output_of_another_solve_is_not_finished(work):
    work.solve()
    for options, wanted in (
        (["--lambda-fraction", 0.25, "--gap", 1e-8], "--lambda-fraction: found 0.2, wanted 0.25"),
        (["--lambda-fraction", 0.2, "--gap", 1e-7], "--gap: found 1e-08, wanted 1e-07"),
        (work.options[:4] + ["--lambda-scope", "recording"], "--lambda-scope: found sample, wanted recording"),
    ):
        assert wanted in resume_refused(work, options=[*options, "--threads", 2])
    D = work.D.copy()
    D[3, 4] *= 1.0000001
    np.save(work.folder / "D.npy", D)
    assert "values of --dictionary: found" in resume_refused(work)
    np.save(work.folder / "D.npy", work.D)
    X = work.X.copy()
    X[N - 1, n - 1] *= 1.0000001
    np.save(work.folder / "X.npy", X)
    assert "values of --observations: found" in resume_refused(work)
    np.save(work.folder / "X.npy", work.X[1:])
    assert f"--observations: found {N} x {n}, wanted {N - 1} x {n}" in resume_refused(work)
    np.save(work.folder / "X.npy", work.X.astype(">f8").astype("<f8", order="F"))
    assert work.solve("--resume").stdout == ""
    work.check()
    work.solve(options=["--lambda-fraction", 0.2, "--gap", 1e-7, "--threads", 2])
    assert "--gap: found 1e-07, wanted 1e-08" in resume_refused(work)


def test_an_output_that_does_not_say_how_it_was_made_is_not_finished(work):
    work.output.write_text("old")
    resume_refused(work)
    for fingerprint in ({}, {"fingerprint": np.arange(3)}, {"fingerprint": np.bytes_(b"--gap: 1\n\xff\n")}):
        arrays = {name: array for name, array in work.wanted.items() if name != "fingerprint"}
        np.savez(work.output, **arrays, **fingerprint)
        resume_refused(work)


def test_an_output_without_a_journal_is_replaced(work):
    work.output.write_text("old")
    work.solve()
    work.check()


def test_an_old_output_stays_until_the_new_one_is_whole(work):
    work.stop_at(100)
    work.output.write_text("old")
    bad = work.X.copy()
    bad[150] = np.nan
    np.save(work.folder / "X.npy", bad)
    work.solve("--resume", status=FAILED)
    assert work.output.read_text() == "old"
    np.save(work.folder / "X.npy", work.X)
    work.resume()


def test_finished_problems_are_not_lost_by_mistake(work):
    work.stop_at(200)
    before = work.journal.read_bytes()
    for options in (work.options, ["--lambda", 1]):
        line = one_line(work.solve(options=options, status=FAILED))
        assert "Z.npz.journal holds 200 finished problems" in line and "--resume" in line
        assert work.journal.read_bytes() == before and not work.output.exists()
    work.journal.unlink()
    work.solve()
    work.check()


@pytest.mark.parametrize("left", [0, 7, 16, 40, 100], ids=lambda left: f"{left} bytes")
def test_a_journal_without_problems_is_replaced(work, left):
    work.stop_at(200)
    work.journal.write_bytes(work.journal.read_bytes()[:left])
    work.solve()
    work.check()


def test_a_journal_in_use(work):
    work.stop_at(200)
    with open(work.journal, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for more in ([], ["--resume"]):
            assert "in use by another process" in one_line(work.solve(*more, status=FAILED))
    work.resume()


def test_two_solves_of_one_output(folder):
    work = Work(folder, rows=8000, options=["--lambda-fraction", 0.05, "--gap", 1e-7, "--threads", 1, "--solver", "fista"])
    first = start_and_wait(work)
    assert "in use by another process" in one_line(work.solve("--resume", status=FAILED))
    assert first.wait(timeout=120) == DONE
    work.check()


@pytest.mark.parametrize(
    "content, wanted",
    [
        (b"not a journal at all, rather a text", "wanted 'shrinkwarp-jrn-1'"),
        (b"x", "wanted 'shrinkwarp-jrn-1'"),
        (b"shrinkwarp-jrn-2" + bytes(100), "version '2'"),
        (b"shrinkwarp-jrn-1" + b"\xff" * 100, "damaged"),
        (b"shrinkwarp-jrn-1" + (5).to_bytes(8, "little") + bytes(100), "damaged"),
    ],
    ids=["text", "short", "version", "length", "checksum"],
)
def test_what_is_no_journal_stays(work, content, wanted):
    work.journal.write_bytes(content)
    for more in ([], ["--resume"]):
        line = one_line(work.solve(*more, status=FAILED))
        assert "Z.npz.journal" in line and wanted in line
    assert work.journal.read_bytes() == content and not work.output.exists()


def test_a_folder_or_a_fifo_for_a_journal(work):
    work.journal.mkdir()
    assert "Z.npz.journal" in one_line(work.solve("--resume", status=FAILED))
    work.journal.rmdir()
    os.mkfifo(work.journal)
    assert "FIFO" in one_line(work.solve("--resume", status=FAILED))


def test_inputs_are_no_journals(work):
    shutil.copy(work.folder / "X.npy", work.journal)
    files = ["--dictionary", work.folder / "D.npy", "--observations", work.journal]
    line = one_line(run("solve", *files, "--lambda", 1, "--output", work.output, status=USAGE))
    assert "journal of --output" in line and "--observations" in line


def test_output_is_a_link(work):
    (work.folder / "real").mkdir()
    (work.folder / "real" / "R.npz").write_text("old")
    work.output.symlink_to("real/R.npz")
    bad = work.X.copy()
    bad[100] = np.nan
    np.save(work.folder / "X.npy", bad)
    work.solve(status=FAILED)
    assert [path.name for path in (work.folder / "real").iterdir() if "journal" in path.name] == ["R.npz.journal"]
    np.save(work.folder / "X.npy", work.X)
    work.solve("--resume")
    assert work.output.is_symlink() and [path.name for path in (work.folder / "real").iterdir()] == ["R.npz"]
    assert (work.folder / "real" / "R.npz").read_bytes() == (work.folder / "A.npz").read_bytes()


# ------------------------------------------------------------------------------------------------- another solve than this


@pytest.mark.parametrize(
    "options, wanted",
    [
        (["--lambda-fraction", 0.2, "--gap", 1e-7, "--threads", 2], "--gap: found 1e-08, wanted 1e-07"),
        (["--lambda-fraction", 0.25, "--gap", 1e-8, "--threads", 2], "--lambda-fraction: found 0.2, wanted 0.25"),
        (["--lambda", 0.2, "--gap", 1e-8, "--threads", 2], "--lambda: found none, wanted 0.2"),
        (
            ["--lambda-fraction", 0.2, "--lambda-scope", "recording", "--gap", 1e-8, "--threads", 2],
            "--lambda-scope: found sample, wanted recording",
        ),
        (
            ["--lambda-fraction", 0.2, "--gap", 1e-8, "--threads", 2, "--solver", "ista"],
            "--solver: found fista, wanted ista",
        ),
        (["--lambda-fraction", 0.2, "--gap", 1e-8, "--threads", 2, "--no-restart"], "restarts: found yes, wanted no"),
        (
            ["--lambda-fraction", 0.2, "--gap", 1e-8, "--threads", 2, "--max-iterations", 99999],
            "--max-iterations: found 100000, wanted 99999",
        ),
    ],
    ids=lambda value: value.split(":")[0] if isinstance(value, str) else "",
)
def test_other_options_are_refused(work, options, wanted):
    work.stop_at(100)
    before = work.journal.read_bytes()
    line = one_line(work.solve("--resume", options=options, status=FAILED))
    assert wanted in line and "Z.npz.journal" in line
    assert work.journal.read_bytes() == before
    work.resume()


def test_many_differences_make_no_wall_of_text(work):
    work.stop_at(100)
    options = ["--lambda", 3, "--gap", 1e-3, "--threads", 1, "--solver", "ista", "--no-restart", "--max-iterations", 7]
    assert re.search(r"and \d more", one_line(work.solve("--resume", options=options, status=FAILED)))


def test_another_dictionary_or_recording_is_refused(work):
    work.stop_at(100)
    D = work.D.copy()
    D[3, 4] *= 1.0000001
    np.save(work.folder / "D.npy", D)
    assert "values of --dictionary: found" in one_line(work.solve("--resume", status=FAILED))
    np.save(work.folder / "D.npy", work.D[:, 1:])
    assert f"--dictionary: found {n} x {m}, wanted {n} x {m - 1}" in one_line(work.solve("--resume", status=FAILED))
    np.save(work.folder / "D.npy", work.D)
    for rows in (N - 1, N + 1, 10):
        np.save(work.folder / "X.npy", np.resize(work.X, (rows, n)))
        assert f"--observations: found {N} x {n}, wanted {rows} x {n}" in one_line(
            work.solve("--resume", status=FAILED)
        )
    np.save(work.folder / "X.npy", work.X)
    work.resume()


def test_another_lambda_file_is_refused(work):
    lambdas = np.random.default_rng(1).uniform(0.1, 1, N)
    np.save(work.folder / "L.npy", lambdas)
    work.options = ["--lambda-file", work.folder / "L.npy", "--threads", 2]
    work.stop_at(100)
    np.save(work.folder / "L.npy", lambdas[::-1])
    assert "values of --lambda-file: found" in one_line(work.solve("--resume", status=FAILED))
    np.save(work.folder / "L.npy", lambdas)
    work.solve("--resume")
    assert (Codes(work.output).lam == lambdas).all()


def test_the_recording_s_lambda_must_be_the_same(folder):
    """A row that is not solved yet, and louder than all others, changes the lambda of those that are."""
    work = Work(folder, options=["--lambda-fraction", 0.1, "--lambda-scope", "recording", "--threads", 1, "--solver", "fista"], rows=3000)
    work.stop_at_size((folder / "A.npz").stat().st_size // 2)
    before = work.journal.read_bytes()
    solved = held(work.journal)
    unsolved = sorted(set(range(len(work.X))) - set(solved))
    assert solved and unsolved
    louder = work.X.copy()
    louder[unsolved[-1]] *= 100
    np.save(folder / "X.npy", louder)
    assert "lambda_max of the recording: found" in one_line(work.solve("--resume", status=FAILED))
    assert work.journal.read_bytes() == before
    np.save(folder / "X.npy", work.X)
    work.resume()


def test_another_blas_is_refused(work):
    """OpenBLAS chooses its kernels by processor, or as it is told."""
    if json.loads(run("info", "--json").stdout)["cuda_devices"]:
        pytest.skip("the CPU's kernels say nothing of a GPU")
    others = {**os.environ, "OPENBLAS_CORETYPE": "Prescott"}
    there, here = (json.loads(run("info", "--json", env=env).stdout)["blas"] for env in (others, None))
    if there == here:
        pytest.skip("this OpenBLAS has one kind of kernels")
    work.stop_at(100)
    line = one_line(work.solve("--resume", status=FAILED, env=others))
    assert f"BLAS: found OpenBLAS, {here}, wanted OpenBLAS, {there}" in line
    work.resume()


def test_another_build_is_refused(work):
    if shutil.which("readelf") is None:
        pytest.skip("needs readelf")
    notes = subprocess.run(["readelf", "-n", PATH], capture_output=True, text=True, check=True).stdout
    build_id = bytes.fromhex(re.search(r"Build ID: ([0-9a-f]+)", notes)[1])
    assert len(build_id) == 20
    program = PATH.read_bytes()
    assert program.count(build_id) == 1
    other = PATH.parent / f"other-build-{os.getpid()}"  # beside it, for libraries that are found from there
    work.stop_at(100)
    try:
        other.write_bytes(program.replace(build_id, bytes([build_id[0] ^ 1]) + build_id[1:]))
        other.chmod(0o755)
        done = subprocess.run([other, *map(str, work.command("--resume"))], capture_output=True, text=True)
    finally:
        other.unlink()
    assert done.returncode == FAILED and re.search(r"program: found \S+, build \w{16}, wanted", one_line(done))
    work.resume()


def test_working_sets_go_on_where_they_were_stopped(folder):
    work = Work(folder, options=["--lambda-fraction", 0.1, "--gap", 1e-8, "--solver", "working-set", "--device", "cpu"])
    for row in (1, 100, N - 1):
        work.stop_at(row)
        work.resume()
        work.again()


def test_the_memory_limit_may_be_another(work):
    work.stop_at(100)
    work.resume("--memory-limit", "3MB")


@pytest.mark.parametrize("solver", ["fista", "working-set"])
def test_the_number_of_threads_may_be_another(folder, solver):
    work = Work(folder, options=["--lambda-fraction", 0.2, "--gap", 1e-8, "--solver", solver, "--threads", 1])
    work.stop_at(200)
    work.options[-1] = 3
    work.resume()
    assert json.loads(run(*work.command("--resume", "--json"), status=DONE).stdout)["finished"]


# ------------------------------------------------------------------------------------------------------ what is damaged


def test_a_torn_end_is_cut_off(work):
    work.stop_at(200)
    whole = work.journal.read_bytes()
    header = 32 + int.from_bytes(whole[16:24], "little")
    dice = random.Random(3)
    damaged = [whole[: dice.randrange(header, len(whole))] for _ in range(8)]
    damaged += [whole + bytes(dice.randrange(1, 5000)), whole + os.urandom(100), whole[:-1] + bytes([whole[-1] ^ 1])]
    for _ in range(4):
        torn = bytearray(whole)
        torn[dice.randrange(header, len(whole))] ^= 1 << dice.randrange(8)
        damaged.append(bytes(torn))
    for content in damaged:
        work.journal.write_bytes(content)
        work.resume()
        work.again()


def test_damage_is_told(work):
    work.stop_at(200)
    with open(work.journal, "ab") as file:
        file.write(b"torn")
    done = run(*[a for a in work.command("--resume") if a != "--quiet"], status=DONE)
    assert "4 bytes at its end are damaged" in done.stderr and "solved before" in done.stdout
    work.check()


def test_damage_in_the_first_record_is_no_empty_journal(work):
    work.stop_at(200)
    torn = bytearray(work.journal.read_bytes())
    torn[32 + int.from_bytes(torn[16:24], "little") + 20] ^= 1  # behind the header and the frame of the record
    work.journal.write_bytes(torn)
    line = one_line(work.solve(status=FAILED))
    assert "holds 0 finished problems" in line and "are damaged" in line and "--resume" in line
    assert work.journal.read_bytes() == torn and not work.output.exists()
    done = work.solve("--resume")
    assert "bytes at its end are damaged; the problems in them are solved again" in one_line(done)
    work.check()


# -------------------------------------------------------------------------------------------------------- how it ends


def test_the_summary_is_of_all_problems(work):
    whole = json.loads(work.solve("--json").stdout)
    work.again()
    work.stop_at(200)
    said = json.loads(work.solve("--resume", "--json").stdout)
    assert whole["resumed"] == 0 and said["resumed"] == 200
    for key in ("problems", "converged", "unconverged", "nonzeros", "iterations", "rows", "atoms", "solver", "device"):
        assert said[key] == whole[key], key
    assert np.isclose(said["worst_gap"], whole["worst_gap"], rtol=1e-12)


def test_problems_that_missed_their_gap_are_counted_after_all(folder):
    work = Work(folder, options=["--lambda-fraction", 0.05, "--max-iterations", 30, "--threads", 1, "--solver", "fista"])
    missed = int((~work.wanted["converged"]).sum())
    assert 0 < missed
    work.stop_at(200)
    done = work.solve("--resume", status=UNCONVERGED)
    assert f"{missed} of {N} problems missed" in one_line(done)
    work.check()


def test_disk_full_and_resumed(folder):
    """Once in the middle, once when there is room for the journal but not for the result."""
    disk = folder / "disk"
    disk.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("a small file system can be mounted by root only")
    work = Work(folder, rows=3000)
    work.stop_at(2999)
    journal = work.journal.stat().st_size
    work.again()
    for room, wanted in ((journal // 2, r"1?,?\d+ of 3,000"), (journal + 65536, "3,000 of 3,000")):
        mount = ["mount", "-t", "tmpfs", "-o", f"size={room}", "tmpfs", disk]
        if subprocess.run(mount, capture_output=True).returncode != 0:
            pytest.skip("no file system can be mounted here")
        try:
            line = one_line(work.solve(output=disk / "Z.npz", status=FAILED))
            assert "No space left" in line and re.search(wanted + " problems are kept", line), line
            assert [path.name for path in disk.iterdir()] == ["Z.npz.journal"]
            shutil.copy(disk / "Z.npz.journal", work.journal)
        finally:
            subprocess.run(["umount", disk], check=True)
        if wanted.startswith("3"):
            disk.rmdir()
            assert json.loads(run(*work.command("--resume", "--json"), status=DONE).stdout)["resumed"] == 3000
            work.check()
        else:
            work.solve("--resume")
            assert work.output.read_bytes() == (folder / "A.npz").read_bytes()
            work.again()


def test_file_size_limit_and_resumed(work):
    work.stop_at_size(20_000)
    work.resume()


def test_the_result_is_what_it_says(work):
    work.stop_at(150)
    work.resume()
    check(Codes(work.output), work.D, work.X, 1e-8)
