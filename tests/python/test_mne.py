"""apply_lasso: on a small recording made here, and on real ones where SHRINKWARP_DATA names them."""

import subprocess
import sys
import warnings

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

mne = pytest.importorskip("mne")

import lasso_reference as reference  # noqa: E402
import small_meg  # noqa: E402

from shrinkwarp import Interrupted  # noqa: E402
from shrinkwarp.mne import LassoEstimate, _apply, apply_lasso  # noqa: E402

GAP = 1e-6


@pytest.fixture(autouse=True)
def quiet():
    with mne.use_log_level("error"):
        yield


class Small:
    """A recording of 60 samples: 30 magnetometers, 20 electrodes, sources on two half spheres or in a volume."""

    def __init__(self):
        with mne.use_log_level("error"):
            self.info = small_meg.info()
            self.forward = small_meg.forward(self.info, small_meg.surfaces())
            self.volume = small_meg.forward(self.info, small_meg.volume())
            self.raw = self.raw_of(small_meg.samples(self.info, self.forward))
            self.cov = small_meg.noise_cov(self.info)

    def raw_of(self, data):
        return mne.io.RawArray(data, self.info).set_eeg_reference(projection=True)

    def evoked(self, first=0, last=60, nave=4):
        data = self.raw.get_data()[:, first:last]
        return mne.EvokedArray(data, self.raw.info, tmin=-0.1, nave=nave)

    def epochs(self):
        data = self.raw.get_data().reshape(50, 4, 15).transpose(1, 0, 2)
        return mne.EpochsArray(data, self.raw.info, tmin=-0.02, proj=False)


@pytest.fixture(scope="module")
def small():
    return Small()


def whitened(estimate, data):
    """Observations (N, n), of data of the problem's channels."""
    return (estimate.problem.whitener @ data).T


def codes(estimate):
    return estimate.codes[:, estimate.problem.kept].toarray()


def certify(estimate, data, samples=()):
    """Every gap is within GAP in float64, and the objectives of `samples` are those of the reference solver."""
    D, size = estimate.problem.gain, estimate.problem.group_size
    X, Z = whitened(estimate, data), codes(estimate)
    power = 0.5 * np.sum(X**2, axis=1)
    gaps = reference.dual_gaps(D, X, Z, estimate.lam, size)
    assert estimate.converged.all()
    assert np.all(gaps <= GAP * power)
    np.testing.assert_allclose(estimate.dual_gap, gaps, atol=1e-10 * power.max())
    np.testing.assert_allclose(estimate.relative_gap * power, estimate.dual_gap, atol=1e-12 * power.max())
    for k in samples:
        z = reference.solve(D, X[k], estimate.lam[k], size, gap=1e-9)
        best = reference.objective(D, X[k], z, estimate.lam[k], size)
        found = reference.objective(D, X[k], Z[k], estimate.lam[k], size)
        assert best - 1e-9 * power[k] <= found <= best + GAP * power[k]
        # A gap bounds half the squared distance of the explained fields.
        assert np.linalg.norm(D @ (Z[k] - z)) <= np.sqrt(2 * power[k]) * (np.sqrt(GAP) + np.sqrt(1e-9))


def field_of_channels(estimate, inst):
    """Data (channels, N) of the problem's channels."""
    return inst.get_data(picks=list(estimate.problem.info["ch_names"]))


# ---- the whitened problem and its solution


@pytest.mark.parametrize("loose", [0, 0.3, 1])
def test_every_sample_is_solved_to_its_gap(small, loose):
    estimate = apply_lasso(small.raw, small.forward, small.cov, alpha=20, loose=loose)
    assert estimate.problem.gain.shape == (49, 80 if loose == 0 else 240)  # an average reference takes one dimension
    certify(estimate, small.raw.get_data(), samples=(0, 20, 40))


def test_volume_sources_have_free_orientation(small):
    estimate = apply_lasso(small.raw, small.volume, small.cov, alpha=20)
    assert isinstance(estimate.stc, mne.VolSourceEstimate)
    certify(estimate, small.raw.get_data(), samples=(5,))


def test_alpha_is_percent_of_the_largest_lambda(small):
    of_recording = apply_lasso(small.raw, small.forward, small.cov, alpha=40, loose=1)
    of_sample = apply_lasso(small.raw, small.forward, small.cov, alpha=40, loose=1, alpha_scope="sample")
    X = whitened(of_recording, small.raw.get_data())
    largest = np.linalg.norm((X @ of_recording.problem.gain).reshape(60, -1, 3), axis=2).max(axis=1)
    np.testing.assert_allclose(of_recording.lam_max, largest, rtol=1e-9)
    np.testing.assert_allclose(of_recording.lam, 0.4 * largest.max(), rtol=1e-9)
    np.testing.assert_allclose(of_sample.lam, 0.4 * largest, rtol=1e-9)
    assert of_recording.alpha == of_sample.alpha == 40
    quiet_samples = largest < 0.4 * largest.max()
    assert quiet_samples.any() and of_recording.codes[quiet_samples].nnz == 0
    assert np.all(np.diff(of_sample.codes.indptr) > 0)


def test_alpha_0_explains_everything(small):
    estimate = apply_lasso(small.raw, small.forward, small.cov, alpha=0, loose=1)
    np.testing.assert_allclose(estimate.explained_variance, 100, atol=1e-6)


def test_channels_are_those_that_all_share(small):
    only_meg = small.raw.copy().pick("mag")
    only_meg.info["bads"] = ["MEG 003"]
    estimate = apply_lasso(only_meg, small.forward, small.cov, alpha=20, loose=0)
    names = [name for name in only_meg.ch_names if name != "MEG 003"]
    assert list(estimate.problem.info["ch_names"]) == names
    assert estimate.problem.gain.shape == (29, 80)
    certify(estimate, only_meg.get_data(picks=names))


def test_explained_variance_is_of_the_whitened_power(small):
    estimate = apply_lasso(small.raw, small.forward, small.cov, alpha=20, loose=1)
    X = whitened(estimate, small.raw.get_data())
    left = np.sum((X - codes(estimate) @ estimate.problem.gain.T) ** 2, axis=1)
    power = np.sum(X**2, axis=1)
    np.testing.assert_allclose(estimate.explained_variance, 100 * (1 - left / power), atol=1e-9)
    assert estimate.total_explained_variance == pytest.approx(100 * (1 - left.sum() / power.sum()))
    assert f"{estimate.total_explained_variance:.1f} % explained" in repr(estimate)


def test_samples_of_zeros_have_no_sources(small):
    data = small.raw.get_data()
    data[:, 10] = 0
    estimate = apply_lasso(small.raw_of(data), small.forward, small.cov, alpha=30, loose=1, alpha_scope="sample")
    assert estimate.codes[10].nnz == 0 and estimate.codes[11].nnz > 0
    assert estimate.dual_gap[10] == estimate.relative_gap[10] == estimate.explained_variance[10] == 0
    nothing = apply_lasso(small.raw_of(0 * data), small.forward, small.cov, loose=1)
    assert nothing.codes.nnz == 0 and nothing.converged.all() and nothing.total_explained_variance == 0


# ---- as MNE-Python


def agrees_with_mixed_norm(evoked, forward, cov, tolerance=1e-7, **options):
    """Of one sample, MxNE is the Lasso: the same field, sources and residual."""
    stc, residual = mne.inverse_sparse.mixed_norm(
        evoked, forward, cov, debias=False, tol=tolerance, maxit=20000, return_residual=True, random_state=0, **options)
    estimate = apply_lasso(evoked, forward, cov, gap=1e-9, random_state=0, **options)
    power = np.sum(whitened(estimate, field_of_channels(estimate, evoked)) ** 2)
    apart = whitened(estimate, residual.data - estimate.residual.data)
    assert residual.ch_names == estimate.residual.ch_names
    assert np.linalg.norm(apart) <= np.sqrt(2 * tolerance * power) + np.sqrt(1e-9 * power)
    amplitude, expected = np.zeros(forward["nsource"]), np.zeros(forward["nsource"])
    numbers = np.cumsum([0, *(space["nuse"] for space in forward["src"])])
    for values, found in ((amplitude, estimate.stc), (expected, stc)):
        where = [start + np.searchsorted(space["vertno"], vertices)
                 for start, space, vertices in zip(numbers, forward["src"], found.vertices)]
        values[np.concatenate(where)] = found.data[:, 0]
    assert np.max(np.abs(expected)) > 0
    np.testing.assert_allclose(amplitude, expected, atol=0.02 * np.max(np.abs(expected)))
    assert type(estimate.stc) is type(stc)
    assert (estimate.stc.tmin, estimate.stc.tstep, estimate.stc.subject) == (stc.tmin, stc.tstep, stc.subject)


@pytest.mark.parametrize("loose", [0, 0.3, 1])
def test_one_sample_agrees_with_mixed_norm(small, loose):
    agrees_with_mixed_norm(small.evoked(12, 13), small.forward, small.cov, alpha=30, loose=loose)


def test_mixed_sources_agree_with_mixed_norm(small):
    mixed = small_meg.forward(small.info, small_meg.surfaces() + small_meg.volume())
    agrees_with_mixed_norm(small.evoked(12, 13), mixed, small.cov, alpha=30)
    stc = apply_lasso(small.evoked(), mixed, small.cov, alpha=30, pick_ori="vector").stc
    assert isinstance(stc, mne.MixedVectorSourceEstimate)


def test_depth_and_weights_are_as_in_mixed_norm(small):
    weights = np.random.RandomState(1).rand(80)
    options = dict(alpha=30, loose=1, depth=None, weights=weights, weights_min=0.3)
    agrees_with_mixed_norm(small.evoked(12, 13), small.forward, small.cov, **options)
    estimate = apply_lasso(small.evoked(), small.forward, small.cov, **options)
    assert estimate.problem.gain.shape[1] == 3 * np.count_nonzero(weights > 0.3)
    left_out = np.repeat(weights <= 0.3, 3)
    assert estimate.codes.shape[1] == 240 and estimate.codes[:, left_out].nnz == 0
    certify(estimate, small.evoked().data)


def test_weights_may_be_a_source_estimate(small):
    weights = np.random.RandomState(1).rand(80)
    as_stc = mne.SourceEstimate(np.c_[0.5 * weights, -weights], [np.arange(40)] * 2, 0, 1)
    one = apply_lasso(small.evoked(), small.forward, small.cov, loose=0, weights=weights)
    other = apply_lasso(small.evoked(), small.forward, small.cov, loose=0, weights=as_stc)
    np.testing.assert_array_equal(one.codes.toarray(), other.codes.toarray())


@pytest.mark.parametrize("loose", [0, 1])
def test_sure_chooses_as_mixed_norm(small, loose):
    grid = [80.0, 60.0, 45.0, 30.0, 20.0]
    options = dict(alpha="sure", loose=loose, sure_alpha_grid=grid)
    evoked, chosen = small.evoked(50, 51), []  # a quiet sample, where it is not always the least
    for seed in (0, 1):
        with mne.utils.catch_logging() as log:
            mne.inverse_sparse.mixed_norm(evoked, small.forward, small.cov, debias=False, time_pca=False, tol=1e-6,
                                          random_state=seed, verbose=True, **options)
        chosen.append(float(log.getvalue().split("Selected alpha: ")[1].split()[0]))
        estimate = apply_lasso(evoked, small.forward, small.cov, random_state=seed, **options)
        assert estimate.alpha == chosen[-1]
        assert estimate.lam == pytest.approx(chosen[-1] / 100 * estimate.lam_max)
    assert len(set(chosen)) > 1


def test_sure_is_the_same_for_any_order_of_the_grid_and_chooses_for_the_recording(small):
    one, other = (apply_lasso(small.raw, small.forward, small.cov, alpha="sure", loose=0, random_state=0,
                              sure_alpha_grid=grid) for grid in ([70, 40, 10], [10, 70, 40]))
    assert one.alpha == other.alpha
    np.testing.assert_allclose(one.lam, one.alpha / 100 * one.lam_max.max())


@pytest.mark.parametrize("loose", [0, 1])
@pytest.mark.parametrize("nave", [1, 4])
def test_discrepancy_leaves_the_noise(small, loose, nave):
    estimate = apply_lasso(small.evoked(nave=nave), small.forward, small.cov, alpha="discrepancy", loose=loose)
    X = whitened(estimate, small.evoked().data)
    left = np.linalg.norm(X - codes(estimate) @ estimate.problem.gain.T, axis=1)
    noise = np.sqrt(49 / nave)
    loud = np.linalg.norm(X, axis=1) > noise
    assert loud.sum() > 30
    np.testing.assert_allclose(left[loud], noise, rtol=3e-3)
    assert estimate.codes[np.flatnonzero(~loud)].nnz == 0
    np.testing.assert_allclose(estimate.alpha, 100 * estimate.lam / estimate.lam_max)
    certify(estimate, small.evoked().data)


# ---- recordings and results


def test_a_raw_on_disk_is_read_in_chunks_with_one_dictionary(small, tmp_path, monkeypatch):
    whole = apply_lasso(small.raw, small.forward, small.cov, alpha=20, loose=1)
    small.raw.save(tmp_path / "small_raw.fif", fmt="double")
    raw = mne.io.read_raw_fif(tmp_path / "small_raw.fif")
    read, prepared, told = [], [], []
    get_data, prepare = type(raw).get_data, _apply.Dictionary
    monkeypatch.setattr(type(raw), "get_data", lambda *a, **k: read.append(k["stop"] - k["start"]) or get_data(*a, **k))
    monkeypatch.setattr(_apply, "Dictionary", lambda *a, **k: prepared.append(1) or prepare(*a, **k))
    estimate = apply_lasso(raw, small.forward, small.cov, alpha=20, loose=1, chunk_size=7,
                           progress=lambda done, total: told.append((done, total)))
    assert not raw.preload
    assert len(prepared) == 1
    assert max(read) == 7 and sum(read) == 2 * 60  # once for the largest lambda, once to solve
    assert told[-1] == (60, 60) and told == sorted(told)
    certify(estimate, small.raw.get_data())
    np.testing.assert_allclose(estimate.lam, whole.lam, rtol=1e-6)
    np.testing.assert_allclose(estimate.stc.data, whole.stc.data, atol=1e-3 * whole.stc.data.max())


def test_a_part_of_the_source_estimate(small):
    estimate = apply_lasso(small.raw, small.forward, small.cov, alpha=20, loose=0)
    part = estimate.stc_between(10, 25)
    whole = estimate.stc.copy().crop(10 / 200, 24 / 200)
    np.testing.assert_allclose(part.times, whole.times)
    numbers = [np.r_[stc.lh_vertno, 1000 + stc.rh_vertno] for stc in (whole, part)]
    np.testing.assert_array_equal(part.data, whole.data[np.searchsorted(*numbers)])
    with pytest.raises(ValueError, match="^stc_between: last: found 61, wanted a whole number from 11 to 60"):
        estimate.stc_between(10, 61)
    with pytest.raises(TypeError, match="^stc_between: first: found float 1.5, wanted a whole number"):
        estimate.stc_between(1.5, 3)


@pytest.mark.parametrize("preload", [True, False])
def test_each_epoch_has_its_source_estimate(small, tmp_path, preload):
    small.epochs().save(tmp_path / "small-epo.fif", fmt="double")
    epochs = mne.read_epochs(tmp_path / "small-epo.fif", preload=preload, proj=False)
    estimate = apply_lasso(epochs, small.forward, small.cov, alpha=20, loose=0, chunk_size=31)
    same = apply_lasso(small.raw, small.forward, small.cov, alpha=20, loose=0)
    assert len(estimate.stc) == 4
    assert epochs.preload == preload
    np.testing.assert_allclose(estimate.lam, same.lam, rtol=1e-6)
    for k, stc in enumerate(estimate.stc):
        expected = same.stc_between(15 * k, 15 * k + 15)
        assert stc.tmin == epochs.tmin and stc.tstep == 1 / 200
        assert all(np.array_equal(a, b) for a, b in zip(stc.vertices, expected.vertices))
        np.testing.assert_allclose(stc.data, expected.data, atol=1e-3 * expected.data.max())
    residual = estimate.residual
    assert isinstance(residual, mne.BaseEpochs)
    np.testing.assert_array_equal(residual.events, epochs.events)
    left = [whitened(same, data) for data in (np.hstack(list(residual.get_data())), same.residual.get_data())]
    np.testing.assert_allclose(*left, atol=0.1)  # in units of the noise: what two gaps of 1e-6 may be apart


def test_the_residual_is_what_the_sources_leave(small):
    for inst, kind in ((small.raw, mne.io.BaseRaw), (small.evoked(), mne.Evoked)):
        estimate = apply_lasso(inst, small.forward, small.cov, alpha=20, loose=0.3)
        X = whitened(estimate, inst.get_data())
        assert isinstance(estimate.residual, kind)
        np.testing.assert_allclose(whitened(estimate, estimate.residual.get_data()),
                                   X - codes(estimate) @ estimate.problem.gain.T, atol=1e-8)
        np.testing.assert_allclose(estimate.residual.get_data() + estimate.explained_field(0, 60), inst.get_data(),
                                   atol=1e-20)


def test_the_residual_goes_through_the_projectors_of_the_recording(small):
    projected = small.evoked().apply_proj()
    estimate = apply_lasso(projected, small.forward, small.cov, alpha=20, loose=1)
    electrodes = mne.pick_types(projected.info, meg=False, eeg=True)
    np.testing.assert_allclose(estimate.residual.data[electrodes].mean(axis=0), 0, atol=1e-18)
    raw = apply_lasso(small.evoked(), small.forward, small.cov, alpha=20, loose=1).explained_field(0, 60)[electrodes]
    assert np.max(np.abs(raw.mean(axis=0))) > 1e-9


@pytest.mark.parametrize("loose", [0, 0.3, 1])
def test_surface_estimates_round_trip(small, tmp_path, loose):
    stc = apply_lasso(small.evoked(), small.forward, small.cov, alpha=20, loose=loose).stc
    assert isinstance(stc, mne.SourceEstimate) and stc.tmin == -0.1
    stc.save(tmp_path / "small")
    read = mne.read_source_estimate(tmp_path / "small")
    np.testing.assert_allclose(read.data, stc.data, rtol=1e-6, atol=1e-20)
    assert all(np.array_equal(a, b) for a, b in zip(read.vertices, stc.vertices))
    np.testing.assert_allclose(read.times, stc.times, atol=1e-6)


def test_volume_estimates_round_trip(small, tmp_path):
    stc = apply_lasso(small.evoked(), small.volume, small.cov, alpha=20).stc
    stc.save(tmp_path / "small")
    read = mne.read_source_estimate(tmp_path / "small-vl.stc")
    assert isinstance(read, mne.VolSourceEstimate)
    np.testing.assert_allclose(read.data, stc.data, rtol=1e-6, atol=1e-20)
    np.testing.assert_array_equal(read.vertices[0], stc.vertices[0])


def test_vector_estimates_round_trip(small, tmp_path):
    pytest.importorskip("h5io")
    for forward, kind in ((small.forward, mne.VectorSourceEstimate), (small.volume, mne.VolVectorSourceEstimate)):
        stc = apply_lasso(small.evoked(), forward, small.cov, alpha=20, loose=1, pick_ori="vector").stc
        stc.save(tmp_path / "small-stc.h5", overwrite=True)
        read = mne.read_source_estimate(tmp_path / "small-stc.h5")
        assert type(read) is kind
        np.testing.assert_array_equal(read.data, stc.data)


@pytest.mark.parametrize("loose", [0.3, 1])
def test_vectors_are_moments_in_the_head(small, loose):
    vector = apply_lasso(small.evoked(), small.forward, small.cov, alpha=20, loose=loose, pick_ori="vector")
    length = apply_lasso(small.evoked(), small.forward, small.cov, alpha=20, loose=loose)
    np.testing.assert_allclose(vector.stc.magnitude().data, length.stc.data, atol=1e-20)
    # The moments times the lead field as it was given, in the head's axes, are the field that is explained.
    G = small.forward["sol"]["data"].reshape(50, 80, 3)
    places = np.r_[vector.stc.vertices[0], 40 + vector.stc.vertices[1]]
    field = np.einsum("cpk,pkt->ct", G[:, places], vector.stc.data)
    rows = [small.forward["sol"]["row_names"].index(name) for name in vector.problem.info["ch_names"]]
    np.testing.assert_allclose(field[rows], vector.explained_field(0, 60), atol=1e-6 * np.abs(field).max())


def test_a_hemisphere_without_sources_has_its_first_with_zeros(small, tmp_path):
    evoked = small.evoked(12, 13)
    estimate = apply_lasso(evoked, small.forward, small.cov, alpha=95, loose=0)
    assert estimate.codes.nnz == 1
    stc = estimate.stc
    assert [len(vertices) for vertices in stc.vertices] == [1, 1]
    assert np.count_nonzero(stc.data) == 1
    stc.save(tmp_path / "one")
    np.testing.assert_allclose(mne.read_source_estimate(tmp_path / "one").data, stc.data, rtol=1e-6)


def test_ctrl_c_gives_what_is_done(small):
    def stop(done, total):
        if done >= 20:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="20 of 60 samples are done") as caught:
        apply_lasso(small.raw, small.forward, small.cov, alpha=20, loose=1, chunk_size=10, progress=stop)
    estimate = caught.value.result
    assert isinstance(estimate, LassoEstimate)
    assert estimate.converged[:20].all() and not estimate.converged[20:].any()
    assert np.isnan(estimate.dual_gap[20:]).all() and np.isnan(estimate.explained_variance[20:]).all()
    assert estimate.codes[:20].nnz > 0 and estimate.codes[20:].nnz == 0
    assert estimate.stc.data.shape[1] == 60


# ---- bad input


@pytest.mark.parametrize("options, error, says", [
    (dict(alpha=100), ValueError, "alpha: found 100, wanted"),
    (dict(alpha=-1), ValueError, "alpha: found -1, wanted"),
    (dict(alpha=float("nan")), ValueError, "alpha: found nan, wanted"),
    (dict(alpha="best"), ValueError, "alpha: found 'best', wanted"),
    (dict(alpha=None), TypeError, "alpha: found NoneType None, wanted"),
    (dict(alpha_scope="epoch"), ValueError, "alpha_scope: found 'epoch', wanted"),
    (dict(alpha_scope=3), TypeError, "alpha_scope: found int 3, wanted"),
    (dict(loose=1.5), ValueError, "loose: found 1.5, wanted"),
    (dict(loose="tight"), ValueError, "loose: found 'tight', wanted"),
    (dict(loose=None), TypeError, "loose: found NoneType None, wanted"),
    (dict(depth=-1), ValueError, "depth: found -1, wanted"),
    (dict(depth="deep"), TypeError, "depth: found str 'deep', wanted"),
    (dict(depth=1e9), ValueError, "depth: found 1000000000.0, wanted one with which all weights are finite"),
    (dict(depth=dict(deep=1)), ValueError, "depth: found the key 'deep', wanted some of exp, limit"),
    (dict(rank=30), TypeError, "rank: found int 30, wanted"),
    (dict(rank="most"), ValueError, "rank: found 'most', wanted"),
    (dict(rank=dict(mag=-1)), ValueError, "rank: found -1, wanted"),
    (dict(pick_ori="normal"), ValueError, "pick_ori: found 'normal', wanted"),
    (dict(pick_ori="vector", loose=0), ValueError, "pick_ori: found 'vector' for fixed orientation, wanted"),
    (dict(weights=np.ones(3)), ValueError, r"weights: found shape \(3,\), wanted \(80,\)"),
    (dict(weights=-np.ones(80)), ValueError, "weights: found -1, wanted"),
    (dict(weights="all"), TypeError, "weights: found str 'all', wanted"),
    (dict(weights=np.ones(80), weights_min=2), ValueError, "weights_min: found 2, wanted"),
    (dict(gap=0), ValueError, "gap: found 0, wanted"),
    (dict(gap="small"), TypeError, "gap: found str 'small', wanted"),
    (dict(alpha="sure", sure_alpha_grid=[0, 10]), ValueError, r"sure_alpha_grid: found \[0.0, 10.0\], wanted"),
    (dict(alpha="sure", sure_alpha_grid="fine"), TypeError, "sure_alpha_grid: found str 'fine', wanted"),
    (dict(alpha="sure", random_state="dice"), TypeError, "random_state: found str 'dice', wanted"),
    (dict(chunk_size=0), ValueError, "chunk_size: found 0, wanted"),
    (dict(chunk_size=2.5), TypeError, "chunk_size: found float 2.5, wanted"),
    (dict(device="abacus"), ValueError, "device: found 'abacus', wanted"),
    (dict(solver=np.ones(3)), TypeError, "solver: found an array of shape .*, wanted"),
    (dict(solver="magic"), ValueError, "solver: found 'magic', wanted"),
    (dict(progress="yes"), TypeError, "progress: found str 'yes', wanted"),
])
@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")
def test_bad_arguments_are_named(small, options, error, says):
    with pytest.raises(error, match=says):
        apply_lasso(small.evoked(), small.forward, small.cov, **options)


NAMES = ("inst forward noise_cov alpha loose depth weights weights_min rank pick_ori alpha_scope gap sure_alpha_grid "
         "random_state solver max_iterations device threads chunk_size progress").split()
NUMBERS = st.one_of(st.integers(-3, 3), st.floats())
JUNK = st.one_of(
    st.none(), st.booleans(), NUMBERS, st.text(max_size=5), st.binary(max_size=3), st.complex_numbers(),
    st.lists(st.one_of(NUMBERS, st.text(max_size=2)), max_size=3), st.sets(st.integers(), max_size=2),
    st.dictionaries(st.sampled_from(["surface", "exp", "mag", "x"]), NUMBERS, max_size=2), st.builds(object),
    st.sampled_from([(0,), (80,), (80, 2)]).map(np.ones), st.just(np.full(80, np.nan)))


@hypothesis.settings(max_examples=300, deadline=None, derandomize=True, database=None,
                     suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(name=st.sampled_from(NAMES), value=JUNK)
def test_whatever_an_argument_is_it_is_taken_or_named(small, name, value):
    given = dict(inst=small.evoked(0, 3), forward=small.forward, noise_cov=small.cov, alpha=30.0, gap=1e-3,
                 weights=np.linspace(0, 1, 80))
    given[name] = value
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            apply_lasso(**given)
        except (TypeError, ValueError) as error:
            assert name in str(error).split(",")[0]


def test_a_dict_of_ranks_is_left_as_it_is(small):
    rank = {"eeg": 19}
    apply_lasso(small.evoked(), small.forward, small.cov, rank=rank)
    assert rank == {"eeg": 19}


def test_bad_recordings_are_named(small):
    evoked = small.evoked()
    with pytest.raises(TypeError, match="inst: found an array of shape .*, wanted a Raw, Epochs or Evoked"):
        apply_lasso(evoked.data, small.forward, small.cov)
    with pytest.raises(TypeError, match="forward: found NoneType None, wanted an mne.Forward"):
        apply_lasso(evoked, None, small.cov)
    with pytest.raises(TypeError, match="noise_cov: found .*, wanted an mne.Covariance"):
        apply_lasso(evoked, small.forward, small.cov["data"])
    renamed = mne.EvokedArray(evoked.data, small_meg.info())
    renamed.rename_channels({name: f"X{name}" for name in evoked.ch_names})
    with pytest.raises(ValueError, match="forward: found no good channel of inst in it .*, wanted .*XMEG 000"):
        apply_lasso(renamed, small.forward, small.cov)
    with pytest.raises(ValueError, match="noise_cov: found no good channel of inst in it"):
        apply_lasso(evoked, small.forward, mne.Covariance(np.eye(1), ["other"], [], [], nfree=9))
    evoked.data[7, 33] = np.nan
    with pytest.raises(ValueError, match="inst: found NaN or infinity at sample 33, wanted finite numbers"):
        apply_lasso(evoked, small.forward, small.cov)
    of_nothing = small.evoked()
    of_nothing.nave = 0
    with pytest.raises(ValueError, match="inst: found an Evoked of nave 0, wanted one of nave > 0"):
        apply_lasso(of_nothing, small.forward, small.cov)
    unreferenced = mne.EvokedArray(small.evoked().data, small.info)
    with pytest.raises(ValueError, match="EEG average reference"):
        apply_lasso(unreferenced, small.forward, small.cov)


def test_a_fixed_forward_solution_needs_fixed_orientation(small):
    fixed = mne.convert_forward_solution(small.forward, surf_ori=True, force_fixed=True, use_cps=True)
    with pytest.raises(ValueError, match="loose: found 'auto' for a forward solution of fixed orientation, wanted 0"):
        apply_lasso(small.evoked(), fixed, small.cov)
    estimate = apply_lasso(small.evoked(), fixed, small.cov, loose=0)
    certify(estimate, small.evoked().data)


def test_mne_is_imported_when_it_is_needed_and_missed_in_words():
    program = ("import sys; import shrinkwarp.mne; assert 'mne' not in sys.modules; sys.modules['mne'] = None\n"
               "try: shrinkwarp.mne.apply_lasso(0, 0, 0)\n"
               "except ImportError as error: print(error)")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "shrinkwarp.mne needs MNE-Python, which cannot be imported here: pip install mne" in done.stdout, done.stderr


# ---- real recordings


@pytest.fixture(scope="module")
def real(recordings):
    return Real(recordings / "fif")


class Real:
    """Recordings of the MNE sample subject."""

    def __init__(self, folder):
        with mne.use_log_level("error"):
            self.forward = mne.read_forward_solution(folder / "medium-fwd.fif")
            self.cov = mne.read_cov(folder / "test-cov.fif")
            self.evokeds = mne.read_evokeds(folder / "sample_audvis_3cond-ave.fif")
            self.raw = mne.io.read_raw_fif(folder / "sample_audvis_trunc_meg303_raw.fif")
            self.sss = mne.io.read_raw_fif(folder / "sample_audvis_trunc_raw_sss.fif", allow_maxshield="yes")

    def positions(self, stc):
        """Of the sources, in mm of the head frame."""
        spaces = zip(self.forward["src"], stc.vertices)
        return 1000 * np.concatenate([space["rr"][vertices] for space, vertices in spaces])


@pytest.mark.data
@pytest.mark.parametrize("loose", [0, 1])
@pytest.mark.parametrize("kind", ["evoked", "raw", "sss"])
def test_real_recordings_are_solved_to_their_gap(real, kind, loose):
    inst = {"evoked": real.evokeds[0], "raw": real.raw, "sss": real.sss}[kind]
    rank = {"meg": 69} if kind == "sss" else None
    estimate = apply_lasso(inst, real.forward, real.cov, alpha=30, loose=loose, rank=rank, alpha_scope="sample")
    assert estimate.problem.gain.shape[1] == (2046 if loose == 0 else 6138)
    assert estimate.problem.group_size == (1 if loose == 0 else 3)
    certify(estimate, field_of_channels(estimate, inst), samples=(0, len(inst.times) // 2))


@pytest.mark.data
@pytest.mark.parametrize("loose", [0, "auto", 1])
def test_auditory_and_visual_peaks_are_where_they_should_be(real, loose):
    def at(condition, time):
        evoked = real.evokeds[condition].copy().crop(time, time + 1e-4)
        assert len(evoked.times) == 1
        stc = apply_lasso(evoked, real.forward, real.cov, alpha=30, loose=loose, alpha_scope="sample").stc
        return real.positions(stc).T, np.abs(stc.data[:, 0])

    for condition in (0, 1):
        (x, y, z), amplitude = at(condition, 0.090)
        auditory = (np.abs(x) > 40) & (np.abs(y) < 40) & (z < 85)
        for side in (x < 0, x > 0):
            assert np.sum(amplitude[auditory & side]) >= 0.1 * np.sum(amplitude)
    place, amplitude = at(2, 0.128)
    assert place[1, np.argmax(amplitude)] < -40


@pytest.mark.data
def test_one_real_sample_agrees_with_mixed_norm(real):
    evoked = real.evokeds[1].copy().crop(0.090, 0.0901)
    agrees_with_mixed_norm(evoked, real.forward, real.cov, alpha=40, loose=1)


@pytest.mark.data
def test_real_results_round_trip(real, tmp_path):
    estimate = apply_lasso(real.raw.copy().crop(0, 0.3), real.forward, real.cov, alpha=30, loose=0)
    estimate.stc.save(tmp_path / "real")
    read = mne.read_source_estimate(tmp_path / "real")
    np.testing.assert_allclose(read.data, estimate.stc.data, rtol=1e-6, atol=1e-20)
    estimate.residual.save(tmp_path / "left_raw.fif", fmt="double")
    again = mne.io.read_raw_fif(tmp_path / "left_raw.fif").get_data()
    np.testing.assert_allclose(again, estimate.residual.get_data(), rtol=1e-9)
