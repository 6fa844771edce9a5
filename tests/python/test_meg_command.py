"""The program shrinkwarp-meg: from files to files."""

import subprocess
import sys

import numpy as np
import pytest

mne = pytest.importorskip("mne")

import small_meg  # noqa: E402

from shrinkwarp.mne import _command, _single, apply_lasso  # noqa: E402


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with small-fwd.fif, small-cov.fif and recordings of all kinds."""
    folder = tmp_path_factory.mktemp("meg")
    with mne.use_log_level("error"):
        info, forward = small_meg.write_problem(folder)
        raw = small_meg.raw(info, forward, 120)
        mne.write_forward_solution(folder / "volume-fwd.fif", small_meg.forward(info, small_meg.volume()))
        raw.save(folder / "small_raw.fif", fmt="double")
        data = raw.get_data()
        evokeds = [mne.EvokedArray(data[:, 60 * k:60 * k + 60], raw.info, tmin=-0.1, nave=4, comment=comment)
                   for k, comment in enumerate(("left ear", "right ear"))]
        mne.write_evokeds(folder / "small-ave.fif", evokeds)
        epochs = mne.EpochsArray(data.reshape(50, 4, 30).transpose(1, 0, 2), raw.info, tmin=-0.02, proj=False)
        epochs.save(folder / "small-epo.fif", fmt="double")
    return folder


def arguments(files, data, out, *more, fwd="small-fwd.fif"):
    return ["--fwd", str(files / fwd), "--data", str(files / data), "--cov", str(files / "small-cov.fif"),
            "--out", str(out), *more]


def run(*given):
    return _command.main(arguments(*given))


def expected(files, inst, **options):
    with mne.use_log_level("error"):
        forward = mne.read_forward_solution(files / "small-fwd.fif")
        return apply_lasso(inst, forward, mne.read_cov(files / "small-cov.fif"), **options)


def test_an_evoked_gives_a_source_estimate_and_a_report_for_each_condition(files, tmp_path, capsys):
    assert run(files, "small-ave.fif", tmp_path / "s", "--alpha", "30", "--loose", "1", "--alpha-scope", "sample") == 0
    written = capsys.readouterr().out.split("\n")
    assert written[:-1] == [str(tmp_path / name) for name in (
        "s-left_ear-lh.stc", "s-left_ear-rh.stc", "s-right_ear-lh.stc", "s-right_ear-rh.stc", "s.html")]
    for k, name in enumerate(("left_ear", "right_ear")):
        stc = mne.read_source_estimate(tmp_path / f"s-{name}")
        evoked = mne.read_evokeds(files / "small-ave.fif", k)
        estimate = expected(files, evoked, alpha=30, loose=1, alpha_scope="sample")
        np.testing.assert_allclose(stc.data, estimate.stc.data, rtol=1e-5, atol=1e-15)
    report = (tmp_path / "s.html").read_text()
    for section in ("left ear", "right ear"):
        for title in ("summary", "source time courses", "where the sources are", "measured and explained field, mag",
                      "measured and explained field, eeg", "duality gaps"):
            assert f"{section}: {title}" in report
    assert report.count("data:image") >= 10
    assert f"{estimate.total_explained_variance:.1f} %" in report and "dSPM" in report


def test_a_raw_streams(files, tmp_path):
    assert run(files, "small_raw.fif", tmp_path / "s", "--alpha", "40", "--loose", "0", "--chunk-size", "50",
               "--tmin", "0.1", "--tmax", "0.4") == 0
    stc = mne.read_source_estimate(tmp_path / "s")
    with mne.use_log_level("error"):
        raw = mne.io.read_raw_fif(files / "small_raw.fif").crop(0.1, 0.4)
    estimate = expected(files, raw, alpha=40, loose=0)
    assert stc.data.shape[1] == 61
    np.testing.assert_allclose(stc.data, estimate.stc.data, atol=1e-3 * np.abs(stc.data).max())
    assert (tmp_path / "s.html").exists()


def test_a_raw_can_be_filtered_first(files, tmp_path):
    assert run(files, "small_raw.fif", tmp_path / "s", "--h-freq", "40", "--loose", "0", "--no-report") == 0
    with mne.use_log_level("error"):
        raw = mne.io.read_raw_fif(files / "small_raw.fif").load_data().filter(None, 40)
    estimate = expected(files, raw, loose=0)
    np.testing.assert_allclose(mne.read_source_estimate(tmp_path / "s").data, estimate.stc.data, rtol=1e-5, atol=1e-15)


def test_epochs_are_numbered(files, tmp_path, capsys):
    assert run(files, "small-epo.fif", tmp_path / "s.stc", "--loose", "0") == 0
    assert [mne.read_source_estimate(tmp_path / f"s-{k}").tmin for k in range(4)] == pytest.approx([-0.02] * 4)
    assert "epochs: source time courses" in (tmp_path / "s.html").read_text()


def test_a_volume_has_one_file(files, tmp_path):
    assert _command.main(arguments(files, "small-ave.fif", tmp_path / "s", "--condition", "1", "--no-report",
                                   fwd="volume-fwd.fif")) == 0
    assert isinstance(mne.read_source_estimate(tmp_path / "s-vl.stc"), mne.VolSourceEstimate)


def test_vectors_go_into_hdf5(files, tmp_path, capsys):
    more = ("--condition", "left ear", "--pick-ori", "vector", "--loose", "1", "--no-report")
    assert run(files, "small-ave.fif", tmp_path / "s", *more) == 1
    assert "--out: found" in (error := capsys.readouterr().err) and "wanted a name that ends in .h5" in error
    if not _has_h5io():
        assert run(files, "small-ave.fif", tmp_path / "s.h5", *more) == 1
        assert "needs the package h5io" in capsys.readouterr().err
        return
    assert run(files, "small-ave.fif", tmp_path / "s.h5", *more) == 0
    assert isinstance(mne.read_source_estimate(tmp_path / "s.h5"), mne.VectorSourceEstimate)


def _has_h5io():
    try:
        import h5io  # noqa: F401
    except ImportError:
        return False
    return True


def test_sure_and_discrepancy(files, tmp_path):
    for alpha in ("sure", "discrepancy"):
        assert run(files, "small-ave.fif", tmp_path / alpha, "--condition", "0", "--alpha", alpha,
                   "--random-state", "0", "--loose", "0", "--no-report") == 0
        estimate = expected(files, mne.read_evokeds(files / "small-ave.fif", 0), alpha=alpha, random_state=0, loose=0)
        np.testing.assert_allclose(mne.read_source_estimate(tmp_path / alpha).data, estimate.stc.data, rtol=1e-5,
                                   atol=1e-15)


def test_samples_that_miss_the_gap_are_told(files, tmp_path, capsys, monkeypatch):
    class Missed:
        def __init__(self, estimate):
            self.converged = estimate.converged.copy()
            self.converged[:3] = False
            self.lam, self.stc = estimate.lam, estimate.stc

    solve = _single.apply_lasso
    monkeypatch.setattr(_single, "apply_lasso", lambda *given, **options: Missed(solve(*given, **options)))
    assert run(files, "small-ave.fif", tmp_path / "s", "--condition", "0", "--loose", "0", "--no-report") == 3
    assert "3 of 60 samples of left ear have a gap over 1e-06" in capsys.readouterr().err
    assert (tmp_path / "s-lh.stc").exists()


def test_ctrl_c_writes_what_is_done(files, tmp_path, capsys, monkeypatch):
    def stop(done, total):
        if done >= 20:
            raise KeyboardInterrupt

    solve = _single.apply_lasso
    monkeypatch.setattr(_single, "apply_lasso", lambda *given, **more: solve(*given, **{**more, "progress": stop}))
    assert run(files, "small-ave.fif", tmp_path / "s", "--loose", "0", "--chunk-size", "10") == 130
    assert "samples that were not reached have no sources" in capsys.readouterr().err
    stc = mne.read_source_estimate(tmp_path / "s-left_ear")
    assert np.any(stc.data[:, :20]) and not np.any(stc.data[:, 20:])
    assert not (tmp_path / "s-right_ear-lh.stc").exists()


def test_nothing_is_overwritten_unasked(files, tmp_path, capsys):
    given = (files, "small-ave.fif", tmp_path / "s", "--condition", "0", "--loose", "0")
    assert run(*given, "--no-report") == 0
    before = (tmp_path / "s-lh.stc").stat().st_mtime_ns
    assert run(*given) == 1
    assert "s-lh.stc, wanted a name that is free, or --overwrite" in capsys.readouterr().err
    assert (tmp_path / "s-lh.stc").stat().st_mtime_ns == before
    assert run(*given, "--no-report", "--overwrite") == 0
    assert (tmp_path / "s-lh.stc").stat().st_mtime_ns > before
    (tmp_path / "t.html").touch()
    assert run(files, "small-ave.fif", tmp_path / "t") == 1
    assert "t.html, wanted a name that is free" in capsys.readouterr().err


@pytest.mark.parametrize("more, says", [
    (("--condition", "2"), "--condition: found '2', wanted one of 0 (left ear), 1 (right ear)"),
    (("--l-freq", "1"), "--l-freq, --h-freq: found evoked in --data, wanted raw"),
    (("--alpha", "120"), "apply_lasso: alpha: found 120.0, wanted"),
    (("--loose", "2"), "apply_lasso: loose: found 2.0, wanted"),
    (("--device", "abacus"), "device: found 'abacus', wanted"),
    (("--data", "{files}/small-cov.fif"), "small-cov.fif (cov), wanted a file of raw, epochs or evoked"),
    (("--fwd", "{files}/none-fwd.fif"), "none-fwd.fif"),
    (("--out", "{files}/none/s"), "wanted a folder that exists"),
])
def test_what_cannot_be_done_is_said_in_one_line(files, tmp_path, capsys, more, says):
    given = [text.format(files=files) for text in more]
    assert run(files, "small-ave.fif", tmp_path / "s", *given) == 1
    error = capsys.readouterr().err
    assert error.startswith("shrinkwarp-meg: ") and says in error and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("more", [["--alpha", "much"], ["--pick-ori", "normal"], ["--colour", "red"]])
def test_wrong_usage(files, tmp_path, more, capsys):
    with pytest.raises(SystemExit) as ended:
        run(files, "small-ave.fif", tmp_path / "s", *more)
    assert ended.value.code == 2
    assert "usage: shrinkwarp-meg" in capsys.readouterr().err


def test_it_runs_as_a_program(files, tmp_path):
    program = [sys.executable, "-m", "shrinkwarp.mne"]
    given = arguments(files, "small-ave.fif", tmp_path / "s", "--condition", "0", "--loose", "0", "--no-report")
    done = subprocess.run([*program, *given], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "s-rh.stc").exists()


@pytest.mark.data
def test_a_real_recording(recordings, tmp_path):
    folder = recordings / "fif"
    assert _command.main([
        "--fwd", str(folder / "medium-fwd.fif"), "--data", str(folder / "sample_audvis_3cond-ave.fif"),
        "--cov", str(folder / "test-cov.fif"), "--alpha", "30", "--alpha-scope", "sample", "--loose", "1",
        "--condition", "Left visual", "--tmin", "0.12", "--tmax", "0.14", "--out", str(tmp_path / "visual")]) == 0
    stc = mne.read_source_estimate(tmp_path / "visual")
    src = mne.read_forward_solution(folder / "medium-fwd.fif", verbose="error")["src"]
    y = np.concatenate([space["rr"][vertices, 1] for space, vertices in zip(src, stc.vertices)])
    assert 1000 * y[np.argmax(stc.data[:, stc.time_as_index(0.128)[0]])] < -40
    assert "measured and explained field, grad" in (tmp_path / "visual.html").read_text()


@pytest.mark.data
def test_a_raw_with_active_shielding_is_no_evoked(recordings, tmp_path, capsys):
    folder = recordings / "fif"  # the recording of another machine, whose channels the forward solution does not have
    assert _command.main([
        "--fwd", str(folder / "medium-fwd.fif"), "--data", str(folder / "test_move_anon_erm_raw.fif"),
        "--cov", str(folder / "test-cov.fif"), "--loose", "0", "--out", str(tmp_path / "erm")]) == 1
    assert "found no good channel of inst" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
