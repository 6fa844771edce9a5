"""shrinkwarp-meg for many recordings: a table or a BIDS data set, on several processes or a dask scheduler."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

mne = pytest.importorskip("mne")

import small_meg  # noqa: E402

from shrinkwarp.mne import _command, _single, _task, apply_lasso  # noqa: E402
from shrinkwarp.mne._table import read_table  # noqa: E402

PROGRAM = [sys.executable, "-m", "shrinkwarp.mne"]
SLOW = ("--loose", "1", "--alpha", "2", "--alpha-scope", "sample", "--no-report")
QUICK = ("--loose", "0", "--no-report")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with small-fwd.fif, small-cov.fif, two evoked files, a raw, a long raw and a broken one."""
    folder = tmp_path_factory.mktemp("cohort")
    with mne.use_log_level("error"):
        info, forward = small_meg.write_problem(folder)
        for name, count in (("small", 60), ("long", 4000)):
            raw = small_meg.raw(info, forward, count)
            raw.save(folder / f"{name}_raw.fif", fmt="double")
        for k, name in enumerate(("one", "two")):
            data = small_meg.samples(info, forward, 40, seed=k)
            evoked = mne.EvokedArray(data, raw.info, tmin=-0.1, nave=4, comment="tone")
            mne.write_evokeds(folder / f"{name}-ave.fif", evoked)
    (folder / "broken_raw.fif").write_bytes((folder / "small_raw.fif").read_bytes()[:20000])
    return folder


@pytest.fixture
def place(files, tmp_path):
    """A copy of its own, of which inputs may be changed."""
    for path in files.iterdir():
        shutil.copy2(path, tmp_path / path.name)
    return tmp_path


def table(folder, *rows, columns="name,forward,data,covariance,output", name="recordings.csv"):
    """Of rows (name, data, *more)."""
    lines = [columns]
    for given, data, *more in rows:
        lines.append(",".join((given, "small-fwd.fif", data, "small-cov.fif", f"out/{given}", *more)))
    (folder / name).write_text("\n".join(lines) + "\n")
    return folder / name


def run(*given):
    return _command.main([str(text) for text in given])


def record(folder, name):
    path = folder / "out" / f"{name}.status.json"
    return json.loads(path.read_text()) if path.exists() else None


def state(folder, name):
    found = record(folder, name)
    return found and found["state"]


def wait_until(condition, process=None, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it takes too long"
        assert process is None or process.poll() is None, "it ended too soon"
        time.sleep(0.01)


def times(folder, *names):
    return {path.name: path.stat().st_mtime_ns for name in names for path in (folder / "out").glob(f"{name}*")}


def is_alive(pid):
    """A process that has ended may stay as a zombie where nobody waits for it."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def test_a_cohort_killed_in_the_middle_goes_on_where_it_was(place, capfd):
    """The same that a single recording gives; the broken one is named, and stops nobody."""
    rows = table(place, ("one", "one-ave.fif"), ("two", "two-ave.fif"), ("broken", "broken_raw.fif"),
                 ("long", "long_raw.fif"))
    given = ["--table", str(rows), "--workers", "2", *SLOW]
    # The last two begin when one of the first two has ended.
    first = subprocess.Popen([*PROGRAM, *given], stdout=subprocess.PIPE, text=True)
    wait_until(lambda: state(place, "long") == "running", first)
    worker = record(place, "long")["pid"]
    first.kill()
    assert first.wait() == -signal.SIGKILL
    first.stdout.close()
    wait_until(lambda: not is_alive(worker), seconds=10)
    assert state(place, "long") == "running"
    done = [name for name in ("one", "two") if state(place, name) == "done"]
    before = times(place, *done)
    assert len(before) == 3 * len(done) >= 3

    capfd.readouterr()
    assert run(*given) == 1
    written, errors = capfd.readouterr()
    assert times(place, *done) == before
    for name in done:
        assert f"{name}: done before" in written
    assert "[4/4] long: done in" in written and "[3/4] broken: failed" in written
    assert "1 of 4 recordings are not done" in errors and "\n  broken: " in errors
    assert [state(place, name) for name in ("one", "broken", "long", "two")] == ["done", "failed", "done", "done"]

    evoked = mne.read_evokeds(place / "two-ave.fif", 0)
    forward = mne.read_forward_solution(place / "small-fwd.fif")
    noise_cov = mne.read_cov(place / "small-cov.fif")
    estimate = apply_lasso(evoked, forward, noise_cov, alpha=2, loose=1, alpha_scope="sample")
    stc = mne.read_source_estimate(place / "out/two")
    np.testing.assert_allclose(stc.data, estimate.stc.data, rtol=1e-5, atol=1e-15)

    (condition,) = record(place, "two")["conditions"]
    source, sample = np.unravel_index(np.argmax(estimate.stc.data), estimate.stc.data.shape)
    peak = condition["peak"]
    assert peak["moment_nAm"] == pytest.approx(1e9 * estimate.stc.data.max(), rel=1e-5)
    assert peak["time_s"] == pytest.approx(estimate.stc.times[sample])
    hemisphere = int(source >= len(estimate.stc.vertices[0]))
    vertex = np.concatenate(estimate.stc.vertices)[source]
    np.testing.assert_allclose(peak["place_mm"], 1000 * forward["src"][hemisphere]["rr"][vertex], atol=0.01)
    assert condition["largest_gap"] == pytest.approx(np.nanmax(estimate.relative_gap), rel=1e-6)

    page = (place / "recordings-group.html").read_text()
    assert "4 recordings: 3 done, 1 failed" in page
    assert record(place, "broken")["error"] in page and f"{peak['moment_nAm']:.2f}" in page


def test_the_page_leads_to_the_reports(place):
    rows = table(place, ("one & only", "one-ave.fif"), ("broken", "broken_raw.fif"))
    assert run("--table", rows, "--loose", "0", "--page", place / "pages/group.html") == 1
    page = (place / "pages/group.html").read_text()
    assert '<a href="../out/one%20%26%20only.html">one &amp; only</a>' in page and "out/broken.html" not in page
    assert "tone: source time courses" in (place / "out/one & only.html").read_text()


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_workers_and_writes_the_page(place, number, status):
    rows = table(place, ("long", "long_raw.fif"), ("one", "one-ave.fif"))
    given = [*PROGRAM, "--table", str(rows), *SLOW]
    process = subprocess.Popen(given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: state(place, "long") == "running", process)
    worker = record(place, "long")["pid"]
    process.send_signal(number)
    written, errors = process.communicate(timeout=30)
    assert process.returncode == status, errors
    assert "interrupted; 0 of 2 recordings are done" in errors and "Traceback" not in errors
    assert not is_alive(worker)
    assert "2 recordings: 1 unfinished, 1 not run" in (place / "recordings-group.html").read_text()


def test_a_worker_that_dies_takes_only_its_own_recording(place, capfd):
    rows = table(place, ("long", "long_raw.fif"), ("one", "one-ave.fif"))
    given = [*PROGRAM, "--table", str(rows), *SLOW]
    process = subprocess.Popen(given, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: state(place, "long") == "running", process)
    os.kill(record(place, "long")["pid"], signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "  long: its process was killed by SIGKILL" in errors
    assert state(place, "one") == "done"
    assert state(place, "long") == "failed"


def test_what_has_changed_is_refused_and_redone_when_asked(place, capfd):
    rows = table(place, ("one", "one-ave.fif"), ("two", "two-ave.fif"))
    given = ("--table", rows, *QUICK)
    assert run(*given, "--workers", "2") == 0
    before = times(place, "one", "two")
    assert run(*given, "--alpha", "30") == 1
    errors = capfd.readouterr().err
    assert "one.status.json is of other options or inputs (alpha was 50.0, is 30.0)" in errors
    assert times(place, "one", "two") == before
    os.utime(place / "two-ave.fif", ns=(1, 1))
    assert run(*given) == 1
    written, errors = capfd.readouterr()
    assert "one: done before" in written and "two-ave.fif has changed" in errors and "  one:" not in errors
    assert run(*given, "--overwrite") == 0
    after = times(place, "one", "two")
    assert {name for name in before if before[name] != after[name]} == {"two-lh.stc", "two-rh.stc", "two.status.json"}
    # A file that is cut short, as a power failure leaves it, is not taken for a result.
    os.truncate(place / "out/one-lh.stc", 10)
    assert run(*given) == 0
    assert "one: done in" in capfd.readouterr().out
    assert (place / "out/one-lh.stc").stat().st_size > 10
    # A whole cohort may move, and inputs that are gone have not changed.
    shutil.copytree(place, place / "moved", ignore=shutil.ignore_patterns("moved"))
    (place / "moved/one-ave.fif").unlink()
    assert run("--table", place / "moved/recordings.csv", *QUICK) == 0
    assert capfd.readouterr().out.count("done before") == 2


def test_files_of_others_are_left_alone(place, capfd):
    rows = table(place, ("one", "one-ave.fif"))
    (place / "out").mkdir()
    (place / "out/one-lh.stc").write_text("precious")
    for _ in range(2):
        assert run("--table", rows, *QUICK) == 1
        assert "one-lh.stc, wanted a name that is free, or --overwrite" in capfd.readouterr().err
        assert (place / "out/one-lh.stc").read_text() == "precious"
    (place / "recordings-group.html").write_text("precious")
    assert run("--table", rows, *QUICK) == 1
    assert "recordings-group.html, which is no group page" in capfd.readouterr().err


def test_rows_have_options_of_their_own_and_may_be_chosen(place, capfd):
    rows = table(place, ("one", "one-ave.fif", "30", "", "0.0"), ("two", "two-ave.fif", "", "0.5", ""),
                 columns="name,forward,data,covariance,output,alpha,Loose,tmin")
    assert run("--table", rows, *QUICK, "--rows", "2") == 0
    assert state(place, "one") is None and record(place, "two")["options"]["loose"] == 0.5
    assert "1 not run, 1 done" in (place / "recordings-group.html").read_text()
    assert run("--table", rows, *QUICK, "--page-only", "--page", place / "pages/p.html") == 1
    assert "one: has not been run" in capfd.readouterr().err
    assert 'href' not in (place / "pages/p.html").read_text()
    assert run("--table", rows, *QUICK, "--only", "one") == 0
    options = record(place, "one")["options"]
    assert (options["alpha"], options["loose"], options["tmin"]) == (30, 0, 0)
    assert mne.read_source_estimate(place / "out/one").tmin == pytest.approx(0, abs=1e-6)
    assert run("--table", rows, *QUICK, "--page-only") == 0
    for more, says in ((("--rows", "3"), "--rows: found '3', wanted numbers from 1 to 2"),
                       (("--rows", "2-1"), "--rows: found '2-1'"),
                       (("--only", "three"), "--only: found 'three', wanted one of one, two")):
        assert run("--table", rows, *more) == 1
        assert says in capfd.readouterr().err


def test_samples_that_miss_the_gap_are_told(place, capfd, monkeypatch):
    rows = table(place, ("one", "one-ave.fif"))
    parser, of_rows = _command._parser()
    (task,) = read_table(parser.parse_args(["--table", str(rows), *QUICK, "--alpha", "5"]), of_rows)
    monkeypatch.setattr(_single, "apply_lasso",
                        lambda *given, **more: apply_lasso(*given, **more, solver="fista", max_iterations=1))
    made = _task.run_task(task)
    assert made["state"] == "done", made
    missed = made["conditions"][0]["missed"]
    assert made["missed"] is True and missed > 0
    for _ in range(2):
        assert run("--table", rows, *QUICK, "--alpha", "5") == 3
        written, errors = capfd.readouterr()
        assert "one: done before" in written and f"one: {missed} samples have a gap over 1e-06" in errors
    page = (place / "recordings-group.html").read_text()
    assert "1 done, some over the gap" in page and f"{missed} of 40 problems missed the gap" in page


COLUMNS = "forward,data,covariance,output"


@pytest.mark.parametrize("text, says", [
    ("", "t.csv: found no line, wanted one with the names of columns"),
    (COLUMNS, "t.csv: found no row under the names"),
    ("forward,data,output\n", "t.csv, line 1: found no column covariance, wanted forward, data, covariance, output"),
    (COLUMNS + ",colour\n", "t.csv, line 1, column 5: found 'colour', wanted one of forward"),
    (COLUMNS + ",data\n", "t.csv, line 1, column 5: found 'data' a second time"),
    (COLUMNS + "\n\nf,d,c\n", "t.csv, line 3: found 3 cells, wanted 4"),
    (COLUMNS + "\nf,d,c,o,x\n", "t.csv, line 2: found 5 cells, wanted 4"),
    (COLUMNS + "\nf,,c,o\n", "t.csv, line 2, column data: found nothing, wanted a path"),
    (COLUMNS + ",alpha\nf,d,c,o,\nf,d,c,p,much\n",
     "t.csv, line 3, column alpha: found 'much', wanted a number or sure or discrepancy"),
    (COLUMNS + ",l-freq\nf,d,c,o,low\n", "t.csv, line 2, column l_freq: found 'low', wanted a number"),
    (COLUMNS + ",random_state\nf,d,c,o,1.5\n", "column random_state: found '1.5', wanted a whole number"),
    (COLUMNS + ",rank\nf,d,c,o,3\n", "t.csv, line 2, column rank: found '3', wanted info or full"),
    (COLUMNS + "\nf,d,c,o\nf,e,c,./o\n", "t.csv, line 3, column output: found ./o as in line 2, wanted another"),
    ("name," + COLUMNS + "\na,f,d,c,o\na,f,e,c,p\n", "t.csv, line 3, column name: found a as in line 2"),
    (COLUMNS + "\nf,d,c,\"o\n", "t.csv, line 2: unexpected end of data"),
    (COLUMNS + "\nf,d,c,t-group.stc\n", "--page: found"),
])
def test_a_bad_table_is_named_by_line_and_column(tmp_path, capsys, text, says):
    (tmp_path / "t.csv").write_text(text)
    assert run("--table", tmp_path / "t.csv") == 1
    error = capsys.readouterr().err
    assert error.startswith("shrinkwarp-meg: ") and says in error and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]


def test_tables_as_spreadsheets_write_them(place, capfd):
    text = "\ufeffForward\tData\tCovariance\tOutput\r\nsmall-fwd.fif\tone-ave.fif\tsmall-cov.fif\tout/one\r\n\t\t\t\r\n"
    (place / "t.tsv").write_bytes(text.encode())
    assert run("--table", place / "t.tsv", *QUICK) == 0
    assert "[1/1] out/one: done in" in capfd.readouterr().out
    (place / "t.csv").write_bytes(b"forward,data\xff")
    assert run("--table", place / "t.csv") == 1
    assert "found bytes that are no UTF-8" in capfd.readouterr().err


@pytest.mark.parametrize("given, says", [
    ((), "one of the arguments --data --table --bids is required"),
    (("--table", "t", "--bids", "b"), "not allowed with"),
    (("--table", "t", "--fwd", "f"), "--fwd: found it with --table"),
    (("--bids", "b"), "--bids: wanted --task with it"),
    (("--data", "d", "--fwd", "f"), "--data: wanted --cov, --out with it"),
    (("--data", "d", "--fwd", "f", "--cov", "c", "--out", "o", "--workers", "2"), "--workers: found it with --data"),
    (("--table", "t", "--workers", "0"), "--workers: invalid whole number from 1 on value: '0'"),
    (("--table", "t", "--workers", "2", "--scheduler", "s"), "--workers: found it with --scheduler"),
])
def test_wrong_usage(given, says, capsys):
    with pytest.raises(SystemExit) as ended:
        run(*given)
    assert ended.value.code == 2
    assert says in capsys.readouterr().err


def bids(place, *names):
    """A data set with these files under derivatives/mne-bids-pipeline, copies of what their suffixes say."""
    kinds = {"fwd": "small-fwd.fif", "cov": "small-cov.fif", "ave": "one-ave.fif", "raw": "small_raw.fif"}
    for name in names:
        path = place / "set/derivatives/mne-bids-pipeline" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(place / kinds[path.stem.rsplit("_", 1)[1]], path)
    return place / "set"


def test_a_bids_data_set(place, capfd):
    root = bids(
        place,
        "sub-01/meg/sub-01_task-tone_fwd.fif", "sub-01/meg/sub-01_task-tone_ave.fif",
        "sub-01/meg/sub-01_task-tone_proc-clean_cov.fif", "sub-01/meg/sub-01_task-rest_proc-clean_cov.fif",
        "sub-01/meg/sub-01_task-rest_ave.fif",
        "sub-02/ses-a/meg/sub-02_ses-a_task-tone_fwd.fif", "sub-02/ses-a/meg/sub-02_ses-a_task-tone_ave.fif",
        "sub-02/ses-a/meg/sub-02_ses-a_task-noise_proc-clean_cov.fif",
        "sub-03/meg/sub-03_task-tone_ave.fif", "sub-03/meg/sub-03_task-tone_cov.fif",
    )
    (root / "derivatives/mne-bids-pipeline/sub-01/meg/notes-ave.fif").touch()
    assert run("--bids", root, "--task", "tone", *QUICK) == 1
    written, errors = capfd.readouterr()
    assert "[1/3] sub-01_task-tone: done" in written and "[2/3] sub-02_ses-a_task-tone: done" in written
    assert "sub-03_task-tone: forward solution *_task-tone_fwd.fif: found none in" in errors
    out = root / "derivatives/shrinkwarp"
    stc = mne.read_source_estimate(out / "sub-02/ses-a/meg/sub-02_ses-a_task-tone_ave-lasso")
    assert stc.data.shape[1] == 40
    inputs = json.loads((out / "sub-01/meg/sub-01_task-tone_ave-lasso.status.json").read_text())["inputs"]
    assert [os.path.basename(inputs[role]["path"]) for role in ("forward", "data", "covariance")] == [
        "sub-01_task-tone_fwd.fif", "sub-01_task-tone_ave.fif", "sub-01_task-tone_proc-clean_cov.fif"]
    noise = json.loads((out / "sub-02/ses-a/meg/sub-02_ses-a_task-tone_ave-lasso.status.json").read_text())["inputs"]
    assert noise["covariance"]["path"].endswith("_task-noise_proc-clean_cov.fif")
    page = (out / "task-tone_ave-group.html").read_text()
    assert "3 recordings: 2 done, 1 failed" in page

    assert run("--bids", root, "--task", "sleep") == 1
    assert "found no *_task-sleep_*ave.fif" in capfd.readouterr().err
    derivatives = root / "derivatives/mne-bids-pipeline"
    assert run("--bids", derivatives, "--task", "tone", *QUICK) == 1
    assert "--out: found none" in capfd.readouterr().err
    assert run("--bids", derivatives, "--task", "tone", *QUICK, "--out", place / "o", "--only", "sub-01_task-tone") == 0
    assert (place / "o/sub-01/meg/sub-01_task-tone_ave-lasso-rh.stc").exists()


def test_runs_and_processings_of_a_bids_data_set(place):
    """Of each run the cleaned file; a forward solution of its own run before that of all; twice the same is refused."""
    from shrinkwarp.mne._bids import find_bids

    stem = "sub-01/meg/sub-01_task-tone"
    root = bids(place, f"{stem}_run-01_proc-filt_raw.fif", f"{stem}_run-01_proc-clean_raw.fif",
                f"{stem}_run-02_proc-filt_raw.fif", f"{stem}_run-03_proc-clean_split-01_raw.fif",
                f"{stem}_run-03_proc-clean_split-02_raw.fif",
                f"{stem}_fwd.fif", f"{stem}_run-02_fwd.fif", f"{stem}_acq-b_fwd.fif",
                f"{stem}_proc-custom_cov.fif", f"{stem}_proc-adhoc_cov.fif")
    parser, _ = _command._parser()

    def found(*more):
        tasks = find_bids(parser.parse_args(["--bids", str(root), "--task", "tone", "--kind", "raw", *more]))
        return [(os.path.basename(task.options.data).split("tone_")[1],
                 os.path.basename(task.options.fwd).split("tone_")[1], task.problem) for task in tasks]

    (clean, filtered, split) = found()
    assert clean[:2] == ("run-01_proc-clean_raw.fif", "fwd.fif")
    assert filtered[:2] == ("run-02_proc-filt_raw.fif", "run-02_fwd.fif")
    assert split[:2] == ("run-03_proc-clean_split-01_raw.fif", "fwd.fif")
    assert "found sub-01_task-tone_proc-adhoc_cov.fif and sub-01_task-tone_proc-custom_cov.fif in" in clean[2]
    os.unlink(root / "derivatives/mne-bids-pipeline" / f"{stem}_proc-adhoc_cov.fif")
    assert [data for data, _, _ in found("--proc", "filt")] == ["run-01_proc-filt_raw.fif", "run-02_proc-filt_raw.fif"]
    assert all(problem is None for _, _, problem in found())


def test_on_a_dask_scheduler(place, capfd):
    distributed = pytest.importorskip("distributed")
    rows = table(place, ("one", "one-ave.fif"), ("broken", "broken_raw.fif"), ("two", "two-ave.fif"))
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster:
        assert run("--table", rows, *QUICK, "--scheduler", cluster.scheduler_address) == 1
        written, errors = capfd.readouterr()
        assert "one: done in" in written and "two: done in" in written and "\n  broken: " in errors
        assert record(place, "one")["pid"] != os.getpid()
        assert run("--table", rows, *QUICK, "--scheduler", cluster.scheduler_address) == 1
        assert capfd.readouterr().out.count("done before") == 2

        killed = []

        def kill_one():
            wait_until(lambda: state(place, "long") == "running")
            killed.append(record(place, "long")["pid"])
            os.kill(killed[0], signal.SIGKILL)

        rows = table(place, ("long", "long_raw.fif"), name="long.csv")
        killer = threading.Thread(target=kill_one)
        killer.start()
        assert run("--table", rows, *SLOW, "--scheduler", cluster.scheduler_address) == 0
        killer.join()
        assert state(place, "long") == "done" and record(place, "long")["pid"] != killed[0]


def test_a_scheduler_that_is_not_there(place, capfd, monkeypatch):
    rows = table(place, ("one", "one-ave.fif"))
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert run("--table", rows, "--scheduler", "tcp://127.0.0.1:9") == 1
    assert "--scheduler needs the package distributed: pip install distributed" in capfd.readouterr().err


def test_a_record_that_is_none_is_as_good_as_no_record(place):
    rows = table(place, ("one", "one-ave.fif"))
    (place / "out").mkdir()
    (place / "out/one.status.json").write_text("{")
    assert run("--table", rows, *QUICK) == 0
    assert state(place, "one") == "done"


def test_files_appear_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "a"
    _task.write_in_one_step(path, "before")

    def fail(*given):
        raise OSError("no space")

    monkeypatch.setattr(_task.os, "fsync", fail)
    with pytest.raises(OSError, match="no space"):
        _task.write_in_one_step(path, "after")
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]


@pytest.mark.data
def test_real_recordings_are_killed_and_go_on(recordings, tmp_path):
    """Evoked, raw, SSS and a broken file, with two workers."""
    folder = recordings / "fif"
    raw = folder / "sample_audvis_trunc_meg303_raw.fif"
    (tmp_path / "broken_raw.fif").write_bytes(raw.read_bytes()[:200_000])
    lines = ["name,forward,data,covariance,output,tmin,tmax"]
    for name, data, span in (("evoked", folder / "sample_audvis_3cond-ave.fif", "0.05,0.15"),
                             ("broken", "broken_raw.fif", ","), ("raw", raw, "0,2"),
                             ("sss", folder / "sample_audvis_trunc_raw_sss.fif", ",")):
        lines.append(f"{name},{folder / 'medium-fwd.fif'},{data},{folder / 'test-cov.fif'},out/{name},{span}")
    (tmp_path / "recordings.csv").write_text("\n".join(lines) + "\n")
    given = [*PROGRAM, "--table", str(tmp_path / "recordings.csv"), "--workers", "2", "--no-report", "--alpha", "40"]
    names = ("evoked", "raw", "sss")
    first = subprocess.Popen(given, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: any(state(tmp_path, name) == "done" for name in names)
               and any(state(tmp_path, name) == "running" for name in names), first, seconds=120)
    first.kill()
    first.wait()
    done = [name for name in names if state(tmp_path, name) == "done"]
    before = times(tmp_path, *done)
    assert 1 <= len(done) < 3
    again = subprocess.run(given, capture_output=True, text=True, timeout=300)
    assert again.returncode == 1
    assert times(tmp_path, *done) == before
    assert all(f"{name}: done before" in again.stdout for name in done)
    assert again.stdout.count("done in") == 3 - len(done)
    assert "1 of 4 recordings are not done:\n  broken: " in again.stderr
    for name in names:
        assert record(tmp_path, name)["missed"] is False
        assert list((tmp_path / "out").glob(f"{name}*-lh.stc"))
    assert "4 recordings: 3 done, 1 failed" in (tmp_path / "recordings-group.html").read_text()
