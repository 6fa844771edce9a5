"""`mpirun -n R shrinkwarp train` and `net train`: one training, whatever R is and what ends it before."""

import json
import os
import random
import signal
import time

import numpy as np
import pytest

import mpirun
import program
from mpirun import lines_of_program, processes_of
from program import DONE, FAILED, USAGE

n, m = 12, 30


class Training:
    """A training in a folder of its own. `words`: of the command but for its files."""

    def __init__(self, folder, *words):
        self.folder, self.words = folder, words
        self.output, self.history = folder / "net.safetensors", folder / "net.jsonl"

    def command(self, *more, name="net"):
        output, history = self.folder / f"{name}.safetensors", self.folder / f"{name}.jsonl"
        return [*self.words, "--output", output, "--history", history, "--quiet", "--threads", 1, *more]

    def alone(self, *more, name="net", status=DONE):
        return program.run(*self.command(*more, name=name), status=status)

    def train(self, ranks, *more, name="net", status=DONE):
        return mpirun.run(ranks, *self.command(*more, name=name), status=status)

    def bytes(self, name="net"):
        return (self.folder / f"{name}.safetensors").read_bytes()

    def losses(self, name="net", key="cost"):
        lines = (self.folder / f"{name}.jsonl").read_text().splitlines()
        return np.array([json.loads(line)[key] for line in lines])

    @property
    def checkpoint(self):
        return self.folder / "net.safetensors.checkpoint"


def network(folder, kind, *more, rows=500):
    random_ = np.random.default_rng(0)
    D = random_.standard_normal((n, m))
    np.save(folder / "D.npy", D / np.linalg.norm(D, axis=0))
    np.save(folder / "X.npy", random_.standard_normal((rows, n)))
    files = ["--dictionary", folder / "D.npy", "--observations", folder / "X.npy"]
    return Training(folder, "train", kind, *files, "--layers", 3, "--lambda-range", "0.1,0.5", *more)


def classifier(folder, *more, rows=300):
    random_ = np.random.default_rng(0)
    X = random_.standard_normal((rows, 8)).astype(np.float32)
    np.save(folder / "S.npy", X)
    np.save(folder / "y.npy", (X[:, 0] > X[:, 1] ** 2).astype(np.int64))
    files = ["--samples", folder / "S.npy", "--labels", folder / "y.npy"]
    return Training(folder, "net", "train", "mlp", *files, "--blocks", 6, "--gamma", 0.9, *more)


def cases(folder):
    """Trainings, what their losses are called, and how far those of other numbers of ranks may be: 50 steps."""
    return {
        "lista": (network(folder, "lista", "--start", "ista", "--epochs", 10, "--batch", 90), "cost", 1e-5),
        "step": (network(folder, "step", "--optimizer", "adam", "--epochs", 10, "--batch", 90), "cost", 1e-12),
        "all": (network(folder, "step", "--optimizer", "linesearch", "--epochs", 20), "cost", 0),
        "exact": (classifier(folder, "--epochs", 10, "--batch", 50, "--dropout", 0.1), "loss", 1e-5),
    }


@pytest.mark.parametrize("case", ["lista", "step", "all", "exact"])
def test_other_numbers_of_ranks_follow_one_process(folder, case):
    training, key, rounding = cases(folder)[case]
    training.alone(name="alone")
    wanted = training.losses("alone", key)
    training.train(1, name="one")
    assert training.bytes("one") == training.bytes("alone")
    for ranks in (2, 3):
        assert training.train(ranks, name=f"r{ranks}").stdout == ""
        assert np.max(np.abs(training.losses(f"r{ranks}", key) / wanted - 1)) <= rounding
        training.train(ranks, name="again")
        assert training.bytes("again") == training.bytes(f"r{ranks}")


@pytest.mark.skipif(not mpirun.has_nodes(), reason="this machine cannot stand for several nodes")
@pytest.mark.parametrize("case", ["lista", "all", "exact"])
def test_several_nodes_make_the_bits_of_one(folder, case):
    training, _, _ = cases(folder)[case]
    training.train(4, name="one")
    mpirun.run(4, *training.command(name="two"), status=DONE, nodes=2)
    assert training.bytes("two") == training.bytes("one")


def test_the_start_is_shared_out_too(folder):
    training = network(folder, "coupled", "--epochs", 2)
    training.alone(name="alone")
    training.train(2)
    training.train(2, name="again")
    assert training.bytes() == training.bytes("again")
    np.testing.assert_allclose(training.losses(), training.losses("alone"), rtol=1e-5)


def test_one_summary_says_the_ranks(folder):
    training = network(folder, "step", "--epochs", 3)
    words = [word for word in training.command() if word != "--quiet"]
    done = mpirun.run(3, *words, "--json", status=DONE)
    said = json.loads(done.stdout)
    assert said["ranks"] == 3 and said["schema"] == "shrinkwarp-train-1"
    again = mpirun.run(2, *words, "--json", "--resume", status=DONE)
    assert json.loads(again.stdout)["finished"] is True


def long_training(folder, seconds=4):
    """One that takes a process about so long, whatever the machine. A step is long beside what ranks tell each other."""
    words = ["--optimizer", "adam", "--batch", 2000, "--epochs"]
    tried, epochs = network(folder, "step", *words, 10, rows=20000), 10
    started = time.monotonic()
    tried.alone(name="tried")
    epochs = max(20, int(10 * seconds / (time.monotonic() - started)))
    return Training(folder, *tried.words[:-1], epochs)


def wait_for_checkpoint(training, launcher, seconds=60):
    """@return whether there is one before the training has ended"""
    end = time.monotonic() + seconds
    while not training.checkpoint.exists():
        if launcher.poll() is not None:
            return False
        assert time.monotonic() < end, f"no checkpoint after {seconds} s"
        time.sleep(0.01)
    return True


def killed(training, ranks, moment):
    """Starts a training and kills one of its ranks so many seconds after it has left a state. @return whether that came
    in time"""
    launcher = mpirun.start(ranks, *training.command())
    processes = processes_of(launcher, ranks)
    if wait_for_checkpoint(training, launcher):
        time.sleep(moment)
        try:
            os.kill(random.choice(processes), signal.SIGKILL)
        except ProcessLookupError:
            pass
    said = "".join(launcher.communicate(timeout=60))
    if launcher.returncode == DONE:
        return False
    assert "signal 9" in said or "KILLED" in said.upper(), said
    return True


def test_a_killed_rank_ends_all_and_another_run_goes_on_to_the_same_bits(folder):
    random.seed(0)
    training = long_training(folder)
    training.train(2, name="wanted")
    in_time = 0
    for _ in range(20):
        for path in (training.output, training.checkpoint, training.history):
            path.unlink(missing_ok=True)
        if not killed(training, 2, random.uniform(0, 0.5)):
            continue
        in_time += 1
        training.train(2, "--resume")
        assert training.bytes() == training.bytes("wanted")
        assert not training.checkpoint.exists()
        assert (folder / "net.jsonl").read_bytes() == (folder / "wanted.jsonl").read_bytes()
        if in_time == 3:
            return
    raise AssertionError(f"only {in_time} kills of 20 came in time")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_any_rank_stops_all_and_another_number_of_ranks_goes_on(folder, number):
    training = long_training(folder)
    training.alone(name="wanted")
    launcher = mpirun.start(3, *training.command())
    processes = processes_of(launcher, 3)
    assert wait_for_checkpoint(training, launcher)
    os.kill(processes[-1], number)
    _, error = launcher.communicate(timeout=60)
    assert launcher.returncode == 128 + number
    assert lines_of_program(error) == [f"shrinkwarp: interrupted: --resume goes on with {training.checkpoint}"]
    for ranks in (2, 1):
        copy = Training(folder / f"of{ranks}", *training.words)
        copy.folder.mkdir()
        for name in ("net.safetensors.checkpoint", "net.jsonl"):
            (copy.folder / name).write_bytes((folder / name).read_bytes())
        copy.train(ranks, "--resume")
        np.testing.assert_allclose(copy.losses(), training.losses("wanted"), rtol=1e-12)


# --------------------------------------------------------------------------------------------------------------- errors


def said_once(done, *parts):
    lines = lines_of_program(done)
    assert len(lines) == 1, done.stderr
    for part in parts:
        assert part in lines[0], lines
    assert done.stdout == ""


def test_what_is_wrong_is_said_once(folder):
    training = network(folder, "lista", "--start", "ista", "--epochs", 2)
    done = training.train(3, "--batch", 2, status=USAGE)
    said_once(done, "--batch", "found batches of 2 observations for 3 ranks")
    done = training.train(2, "--optimizer", "sgd", "--lr", 1e30, status=FAILED)
    said_once(done, "found the loss", "a smaller rate")
    done = training.train(2, "--validation", folder / "none.npy", status=FAILED)
    said_once(done, "none.npy")
    X = np.load(folder / "X.npy")
    X[77, 2] = np.nan
    np.save(folder / "X.npy", X)
    said_once(training.train(2, status=FAILED), "77")
    training = classifier(folder, "--epochs", 2)
    said_once(training.train(3, "--batch", 2, status=USAGE), "found batches of 2 samples for 3 ranks")
    done = training.train(2, "--optimizer", "sgd", "--lr", 1e30, status=FAILED)
    said_once(done, "layer", "--lr, --clip, --normalisation")
    done = mpirun.run(2, "net", "info", folder / "net.safetensors", status=USAGE)
    said_once(done, "net info: found 2 ranks", "solve, train, net train and bench counter")
    assert not list(folder.glob("*.checkpoint")) and not list(folder.glob("*.safetensors"))


def test_ranks_that_see_other_checkpoints_leave_the_history(folder):
    """The output lies on a disk of each node, the history where all see it: nothing of it is lost."""
    training = long_training(folder)
    launcher = mpirun.start(2, *training.command())
    processes = processes_of(launcher, 2)
    assert wait_for_checkpoint(training, launcher)
    os.kill(processes[0], signal.SIGTERM)
    launcher.communicate(timeout=60)
    before = training.history.read_bytes()
    assert before
    for name in ("here", "there"):
        (folder / name).mkdir()
    (folder / "there" / training.checkpoint.name).write_bytes(training.checkpoint.read_bytes())
    words = [*training.words, "--output", training.output.name, "--history", training.history, "--quiet", "--resume"]
    places = ["-wdir", folder / "here", program.PATH, *words, ":", "-n", 1, "-wdir", folder / "there", program.PATH]
    done = mpirun.run(1, *words, launched=places, status=FAILED)
    said_once(done, "rank 1 on ", "as rank 0 does")
    assert training.history.read_bytes() == before


def test_the_first_of_several_ranks_with_an_error_speaks(folder):
    """X is cut while it is read in pieces by all."""
    training = network(folder, "lista", "--start", "ista", "--epochs", 2000, "--memory-limit", "1MiB", rows=40000)
    launcher = mpirun.start(3, *training.command())
    assert wait_for_checkpoint(training, launcher)
    os.truncate(folder / "X.npy", 50000)
    _, error = launcher.communicate(timeout=60)
    assert launcher.returncode == FAILED
    line, = lines_of_program(error)
    assert "X.npy" in line


def test_one_training_at_a_time_makes_an_output(folder):
    """A job that was submitted twice leaves checkpoint and history to the first."""
    training = long_training(folder)
    training.alone(name="wanted")
    launcher = mpirun.start(2, *training.command())
    assert wait_for_checkpoint(training, launcher)
    for more in ([], ["--resume"]):
        said_once(training.train(2, *more, status=FAILED), "net.safetensors: another process is making it")
        said_once(training.alone(*more, status=FAILED), "net.safetensors: another process is making it")
    assert launcher.communicate(timeout=100) is not None and launcher.returncode == DONE
    np.testing.assert_allclose(training.losses(), training.losses("wanted"), rtol=1e-12)
    assert not list(folder.glob("*.lock"))


def test_a_dictionary_of_another_size_is_refused(folder):
    training = network(folder, "step", "--epochs", 2)
    for name, rows in (("here", n), ("there", n + 1)):
        (folder / name).mkdir()
        np.save(folder / name / "D.npy", np.random.default_rng(0).standard_normal((rows, m)))
    words = [word if word != folder / "D.npy" else "D.npy" for word in training.command()]
    places = ["-wdir", folder / "here", program.PATH, *words, ":", "-n", 1, "-wdir", folder / "there", program.PATH]
    said_once(mpirun.run(1, *words, launched=places, status=FAILED), f"from {n} x {m} to {n + 1} x {m} on all")


def test_a_checkpoint_is_not_trained_over(folder):
    training = network(folder, "step", "--epochs", 2)
    training.checkpoint.write_bytes(b"not a checkpoint")
    said_once(training.train(2, status=FAILED), "holds an unfinished training")
    said_once(training.train(2, "--resume", status=FAILED), "net.safetensors.checkpoint")
    assert training.checkpoint.read_bytes() == b"not a checkpoint"
