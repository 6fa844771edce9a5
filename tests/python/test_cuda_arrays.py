"""Arrays of other libraries on CUDA: codes, streams, lifetimes and errors, without a GPU.

The package is the module over the host executor, `cuda_arrays` stands in for the other library.
"""

import ctypes
import gc
import pickle
import threading
import weakref

import numpy as np
import pytest

import shrinkwarp
import shrinkwarp.momentum
import shrinkwarp.networks
import simt_package  # noqa: F401
from cuda_arrays import (NO_ORDER, CudaArray, Device, DeviceType, Managed, OldCudaArray, ReadOnlyCudaArray,
                         TensorWithGradient)

import shrinkwarp_on_simt as on_simt  # noqa: E402
from shrinkwarp_on_simt import _core, momentum, networks  # noqa: E402

DEVICE = Device(_core)
n, m, N = 12, 24, 30


def problem():
    random = np.random.default_rng(0)
    D = random.standard_normal((n, m))
    Z = random.standard_normal((N, m)) * (random.random((N, m)) < 0.15)
    return D, Z @ D.T + 0.1 * random.standard_normal((N, n))


D, X = problem()


@pytest.fixture(scope="module")
def dictionary():
    dictionary = on_simt.Dictionary(D)
    assert dictionary.device == "cuda:0"
    return dictionary


@pytest.fixture(scope="module")
def on_cpu():
    return on_simt.Dictionary(D, device="cpu")


def asked_once_and_returned(array, times=1):
    """Whether an array was lent so often, each time with a stream of the library's, and has come back."""
    # A handle: not 0, which means nothing, a default stream or "no order". CudaArray refuses what is no stream.
    streams = all(type(loan.stream) is int and loan.stream > 2 for loan in array.loans)
    return len(array.loans) == times and streams and returned(array)


def same_bits(found, expected):
    """Of results of one entry point."""
    if hasattr(found, "codes"):
        return (found.codes != expected.codes).nnz == 0 and np.array_equal(found.dual_gap, expected.dual_gap)
    return all(np.array_equal(a, b) for a, b in zip(found, expected))


def returned(*arrays):
    """Whether all that was lent has come back, once each."""
    return all(loan.returned == 1 for array in arrays for loan in array.loans)


# Every entry point that takes observations on CUDA: a function of the package, D, which may be a Dictionary, and X.

TIGHT = dict(gap=1e-12)
STEPS = dict(steps=np.full(4, 0.02))


def prepared(package, D):
    return D if isinstance(D, package.Dictionary) else package.Dictionary(D)


def step_network(package, D):
    its = networks if package is on_simt else shrinkwarp.networks
    return its.Network.from_tensors("step", D, STEPS, 0.3)


def train(package, D, X, kind="step", **options):
    its = networks if package is on_simt else shrinkwarp.networks
    return its.train(kind, D, X, 3, 0.3, epochs=3, **options)


LASSO = {
    "lasso": lambda package, D, X: package.lasso(D, X, lam_fraction=0.3, **TIGHT),
    "solve": lambda package, D, X: prepared(package, D).solve(X, 0.5, **TIGHT),
    "recording": lambda package, D, X: package.lasso(D, X, lam_fraction=0.3, lam_scope="recording", **TIGHT),
    "fista": lambda package, D, X: package.lasso(D, X, lam_fraction=0.5, solver="fista", gap=1e-10),
    "working-set": lambda package, D, X: package.lasso(D, X, lam_fraction=0.3, solver="working-set", **TIGHT),
    "weights": lambda package, D, X: package.lasso(D, X, lam_fraction=0.3, weights=np.linspace(0.5, 2, m),
                                                   nonnegative=True, **TIGHT),
    "groups": lambda package, D, X: package.lasso(D, X, lam_fraction=0.5, group_size=4, **TIGHT),
    "elastic net": lambda package, D, X: package.lasso(D, X, lam_fraction=0.3, elastic_net=0.5, **TIGHT),
    "a lam each": lambda package, D, X: package.lasso(D, X, lam=np.linspace(0.5, 1, N), **TIGHT),
    "warm start": lambda package, D, X: package.lasso(D, X, lam_fraction=0.3,
                                                      warm_start=np.full((N, m), 0.1), **TIGHT),
    "debias": lambda package, D, X: package.lasso(D, X, lam_fraction=0.3, debias=True, **TIGHT),
}
OTHERS = {
    "lasso_path": lambda package, D, X: [result.codes.toarray()
                                         for result in package.lasso_path(D, X, lam_fractions=[0.6, 0.3], **TIGHT)],
    "lam_max": lambda package, D, X: prepared(package, D).lam_max(X),
    "apply": lambda package, D, X: step_network(package, D).apply(X).toarray(),
    "evaluate": lambda package, D, X: list(step_network(package, D).evaluate(X)["network"].values()),
    "train": lambda package, D, X: [value for _, value in sorted(train(package, D, X).tensors.items())],
    "train on batches": lambda package, D, X: list(train(package, D, X, "coupled", batch=8, rate=1e-4, start="ista",
                                                         memory_limit=1).tensors.values()),
}
ENTRIES = {**LASSO, **OTHERS}
WAYS = ["lasso", "recording", "debias", *OTHERS]  # to read X
TAKES = ["lasso", "lasso_path", "lam_max", "apply", "evaluate", "train"]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("entry", LASSO)
def test_codes_are_those_of_the_cpu(entry, dtype):
    values = X.astype(dtype)
    array = CudaArray(DEVICE, values)
    found, wanted = LASSO[entry](on_simt, D, array), LASSO[entry](shrinkwarp, D, values)
    assert found.converged.all() and wanted.converged.all()
    assert np.allclose(found.lam, wanted.lam, rtol=1e-12)
    # Each gap says how far its objective can be from the same minimum.
    assert (np.abs(found.objective - wanted.objective) <= found.dual_gap + wanted.dual_gap + 1e-12).all()
    its, theirs = found.codes.toarray(), wanted.codes.toarray()
    assert np.abs(its - theirs).max() < 1e-4
    assert np.array_equal(np.abs(its) > 1e-3, np.abs(theirs) > 1e-3)
    if entry == "debias":
        assert np.abs(found.debiased.toarray() - wanted.debiased.toarray()).max() < 1e-4
    assert asked_once_and_returned(array)


@pytest.mark.parametrize("entry", OTHERS)
def test_other_results_are_those_of_the_cpu(entry):
    array = CudaArray(DEVICE, X)
    for found, wanted in zip(OTHERS[entry](on_simt, D, array), OTHERS[entry](shrinkwarp, D, X)):
        assert np.allclose(found, wanted, rtol=1e-4, atol=1e-5)
    assert asked_once_and_returned(array, 2 if entry == "lasso_path" else 1)


@pytest.mark.parametrize("kind", networks.KINDS)
def test_networks_are_trained_as_on_the_cpu(kind, dictionary):
    judges = CudaArray(DEVICE, X[:10])
    found = train(on_simt, dictionary, CudaArray(DEVICE, X[10:]), kind, validation=judges)
    wanted = train(shrinkwarp, D, X[10:], kind, validation=X[:10])
    assert found.validation == pytest.approx(wanted.validation, rel=1e-3)
    assert found.ista_validation == pytest.approx(wanted.ista_validation, rel=1e-6)
    assert np.allclose(found.apply(CudaArray(DEVICE, X)).toarray(), found.apply(X).toarray(), atol=1e-12)
    assert returned(judges)


# Streams.


class Unordered(CudaArray):
    """Lends what has not been written yet, and has nobody wait."""

    def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None):
        return self._lend(NO_ORDER)


@pytest.mark.parametrize("entry", WAYS)
def test_values_that_are_still_to_come_are_waited_for(entry, dictionary):
    expected = ENTRIES[entry](on_simt, dictionary, X)
    theirs = DEVICE.make_stream()
    with DEVICE.settings(late=True):
        found = ENTRIES[entry](on_simt, dictionary, CudaArray(DEVICE, X, stream=theirs))
        # What fresh memory of the executor holds.
        with pytest.raises(ValueError, match="X: .*nan, wanted a finite number"):
            ENTRIES[entry](on_simt, dictionary, Unordered(DEVICE, X, stream=theirs))
        DEVICE.wait(theirs)
    DEVICE.destroy_stream(theirs)
    assert same_bits(found, expected)


def test_solves_at_once_have_streams_of_their_own(dictionary):
    both = threading.Barrier(2, timeout=60)

    class Meeting(CudaArray):
        def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None):
            both.wait()  # now either has a context
            return self._lend(stream)

    expected = dictionary.solve(X, lam_fraction=0.3)
    arrays, results = [Meeting(DEVICE, X), Meeting(DEVICE, X)], [None, None]

    def solve(i):
        results[i] = dictionary.solve(arrays[i], lam_fraction=0.3)

    threads = [threading.Thread(target=solve, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert arrays[0].loans[0].stream != arrays[1].loans[0].stream
    assert all(same_bits(result, expected) for result in results)
    assert returned(*arrays)


# Memory.


def test_rows_are_read_where_they_lie(dictionary):
    array = CudaArray(DEVICE, X)
    assert _core.address_of(array) == array.address
    many = CudaArray(DEVICE, np.tile(X, (1000, 1)))
    expected = dictionary.lam_max(X)
    with DEVICE.settings(memory=DEVICE.used + 500 * X.nbytes):  # half of it
        assert np.array_equal(dictionary.lam_max(many), np.tile(expected, 1000))


@pytest.mark.parametrize("entry", TAKES)
def test_arrays_come_back_before_the_result_is_used(entry, dictionary):
    ENTRIES[entry](on_simt, dictionary, CudaArray(DEVICE, X))  # what a dictionary keeps from its first call on
    gc.collect()
    array = CudaArray(DEVICE, X)
    loans, dead = array.loans, weakref.ref(array)
    before = DEVICE.used - len(X) * n * 8
    result = ENTRIES[entry](on_simt, dictionary, array)
    assert [loan.returned for loan in loans] == [1] * len(loans)
    del array
    gc.collect()
    assert dead() is None and DEVICE.used < before  # the array's memory is free, and nothing else is held
    assert same_bits(result, ENTRIES[entry](on_simt, dictionary, X))


class Reused(CudaArray):
    """Whose memory its library uses for other things once it is back."""

    def _lend(self, *args):
        self._device.copy(*self._copy)
        capsule = super()._lend(*args)
        others = np.full(self.shape, np.nan)
        self.loans[-1].then = lambda: self._device.copy(self.address, others.ctypes.data, others.nbytes)
        return capsule


@pytest.mark.parametrize("entry", TAKES)
def test_arrays_are_kept_as_long_as_they_are_read(entry, dictionary):
    result, expected = (ENTRIES[entry](on_simt, dictionary, its) for its in (Reused(DEVICE, X), X))
    assert same_bits(result, expected)


class Stopped(Exception):
    pass


def stop(*_):
    raise Stopped


def solve_without_memory(dictionary, array):
    with DEVICE.settings(memory=DEVICE.used + 1000):
        dictionary.solve(array, 0.5)


@pytest.mark.parametrize("error, call", [
    (Stopped, lambda dictionary, array: dictionary.solve(array, 0.5, progress=stop)),
    (Stopped, lambda dictionary, array: train(on_simt, dictionary, array, progress=stop)),
    (ValueError, lambda dictionary, array: dictionary.solve(array, lam=np.ones(3))),
    (MemoryError, solve_without_memory),
], ids=["progress", "training", "argument", "memory"])
def test_arrays_come_back_from_calls_that_fail(error, call, dictionary):
    array = CudaArray(DEVICE, X)
    with pytest.raises(error) as caught:
        call(dictionary, array)
    del caught
    gc.collect()
    assert returned(array)


# Arrays of all kinds.


@pytest.mark.parametrize("kind", [OldCudaArray, ReadOnlyCudaArray, TensorWithGradient])
def test_libraries_of_all_ages(kind, dictionary):
    array, judges = kind(DEVICE, X), kind(DEVICE, X[:10])
    result = dictionary.solve(array, lam_fraction=0.3)
    assert same_bits(result, dictionary.solve(X, lam_fraction=0.3))
    train(on_simt, dictionary, array, validation=judges)
    assert len(array.loans) == 2 and len(judges.loans) == 1 and returned(array, judges)


def test_managed_memory_is_on_its_device(dictionary):
    array = CudaArray(DEVICE, X, DeviceType.CUDA_MANAGED)
    assert same_bits(dictionary.solve(array, lam_fraction=0.3), dictionary.solve(X, lam_fraction=0.3))
    assert asked_once_and_returned(array)


class PageLocked(CudaArray):
    """In memory of the host that a device can read, as `pin_memory` gives it."""

    def __init__(self, values):
        super().__init__(DEVICE, values, DeviceType.CUDA_HOST)
        self._memory.address = values.ctypes.data - self._offset


@pytest.mark.parametrize("package", [on_simt, shrinkwarp])
def test_page_locked_memory_is_on_the_host(package):
    columns, weights = np.asfortranarray(D), np.linspace(1, 2, m)
    arrays = [PageLocked(columns), PageLocked(X), PageLocked(weights)]
    found = package.lasso(arrays[0], arrays[1], lam_fraction=0.3, weights=arrays[2])
    assert same_bits(found, package.lasso(columns, X, lam_fraction=0.3, weights=weights))
    array = PageLocked(X)
    assert np.array_equal(package.minimum_norm(D, array), package.minimum_norm(D, X))
    its = momentum if package is on_simt else shrinkwarp.momentum
    net = its.MomentumNet(n, 3, 5, dtype=np.float64)
    assert np.array_equal(net.forward(array).x, net.forward(X).x)
    gc.collect()
    assert returned(array, *arrays)


def padded(a):
    return np.concatenate([a, a], axis=1)[:, : a.shape[1]]


LAYOUTS = {
    "padded": padded,
    "every third": lambda a: padded(a)[::3],
    "one": lambda a: a[:1],
    "one of a wider array": lambda a: padded(a)[:1],
    "none": lambda a: a[:0],
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_rows_of_any_distance(layout, dictionary):
    values = LAYOUTS[layout](X)
    array = CudaArray(DEVICE, values)
    found, expected = dictionary.solve(array, lam_fraction=0.3), dictionary.solve(values, lam_fraction=0.3)
    assert found.codes.shape == (len(values), m) and same_bits(found, expected)
    assert np.array_equal(dictionary.lam_max(array), dictionary.lam_max(values))
    assert returned(array)


def test_strides_of_one_element_say_nothing():
    column = np.lib.stride_tricks.as_strided(X, (20, 1), (8, 24))
    wide = np.linspace(1, 2, 5)[np.newaxis, :]
    found = on_simt.lasso(wide, CudaArray(DEVICE, column), lam_fraction=0.5)
    assert same_bits(found, on_simt.lasso(wide, column, lam_fraction=0.5))


def test_arrays_of_the_host_go_with_a_dictionary_on_cuda(dictionary):
    found = dictionary.solve(np.asfortranarray(X, dtype=np.float32), lam_fraction=0.3)
    expected = dictionary.solve(CudaArray(DEVICE, X.astype(np.float32)), lam_fraction=0.3)
    assert same_bits(found, expected)


def test_dictionaries_on_cuda_are_copied(dictionary):
    again = pickle.loads(pickle.dumps(dictionary))
    assert again.device == "cuda:0"
    array = CudaArray(DEVICE, X)
    found, expected = again.solve(array, lam_fraction=0.3), dictionary.solve(array, lam_fraction=0.3)
    assert same_bits(found, expected)


# Errors.


class Vague:
    """On CUDA, and nothing more."""

    def __dlpack_device__(self):
        return DeviceType.CUDA, 0

    def __dlpack__(self, *, stream=None):
        raise AssertionError("it was asked for")


class Refusing(CudaArray):
    def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None):
        raise BufferError("it is sparse")


def of_another_shape():
    array = CudaArray(DEVICE, X[np.newaxis])
    array.shape = X.shape
    return array


def with_nan(row):
    values = X.copy()
    values[row, 3] = np.nan
    return values


NOT_READ = "wanted float32 or float64"
NO_ROWS = "on CUDA, wanted rows of adjacent elements, one after another"
BAD = {
    "another device": (lambda: CudaArray(DEVICE, X, index=1), ValueError,
                       "found an array on cuda:1, wanted one on cuda:0"),
    "half": (lambda: CudaArray(DEVICE, X.astype(np.float16)), ValueError,
             f"found elements of type float16, {NOT_READ}"),
    "integers": (lambda: CudaArray(DEVICE, X.astype(np.int32)), ValueError,
                 f"found elements of type int32, {NOT_READ}"),
    "complex": (lambda: CudaArray(DEVICE, X.astype(complex)), ValueError,
                f"found elements of type complex128, {NOT_READ}"),
    "Fortran order": (lambda: CudaArray(DEVICE, np.asfortranarray(X)), ValueError,
                      rf"found rows with strides \(1, 30\) {NO_ROWS}"),
    "reversed": (lambda: CudaArray(DEVICE, X[::-1]), ValueError, rf"found rows with strides \(-12, 1\) {NO_ROWS}"),
    "broadcast": (lambda: CudaArray(DEVICE, np.broadcast_to(X[:1], X.shape)), ValueError,
                  rf"found rows with strides \(0, 1\) {NO_ROWS}"),
    "every second": (lambda: CudaArray(DEVICE, np.repeat(X, 2, axis=1)[:, ::2]), ValueError,
                     rf"found rows with strides \(24, 2\) {NO_ROWS}"),
    "one dimension": (lambda: CudaArray(DEVICE, X[0]), ValueError, r"found shape \(12,\).*, wanted an array"),
    "three dimensions": (lambda: CudaArray(DEVICE, X[np.newaxis]), ValueError,
                         r"found shape \(1, 30, 12\).*, wanted an array"),
    "another length": (lambda: CudaArray(DEVICE, X[:, :-1]), ValueError, r"found shape \(30, 11\), wanted an array"),
    "NaN": (lambda: CudaArray(DEVICE, with_nan(7)), ValueError, "entry 3 of row 7 is nan, wanted a finite number"),
    "no shape": (Vague, TypeError, "found Vague without a shape, wanted an array"),
    "refused": (lambda: Refusing(DEVICE, X), TypeError, r"found \S*Refusing \(it is sparse\), wanted an array"),
    "another shape": (of_another_shape, TypeError,
                      r"found \S*CudaArray whose __dlpack__ gives no such array, wanted an array"),
    "ROCm": (lambda: CudaArray(DEVICE, X, kind=10), TypeError, r"found CudaArray \(.*\), wanted an array"),
}


@pytest.mark.parametrize("entry", TAKES)
@pytest.mark.parametrize("bad", BAD)
def test_bad_arrays(bad, entry, dictionary):
    make, error, message = BAD[bad]
    array = make()
    with pytest.raises(error, match="X: " + message) as caught:
        ENTRIES[entry](on_simt, dictionary, array)
    del caught
    gc.collect()
    assert returned(array) if bad != "no shape" else True
    if bad == "another device":
        assert not array.loans  # a stream of ours means nothing there


@pytest.mark.parametrize("entry", TAKES)
def test_a_dictionary_on_the_cpu_takes_no_array_on_cuda(entry, on_cpu):
    for array in (CudaArray(DEVICE, X), CudaArray(DEVICE, np.asfortranarray(X))):
        with pytest.raises(ValueError, match="X: found an array on cuda:0, wanted one on cpu"):
            ENTRIES[entry](on_simt, on_cpu, array)
        assert not array.loans
    with pytest.raises(ValueError, match="X: found an array on cuda:0, wanted one on cpu"):
        ENTRIES[entry](shrinkwarp, D, CudaArray(DEVICE, X))  # a build without CUDA


def test_a_bad_validation_is_named(dictionary):
    with pytest.raises(ValueError, match="validation: found an array on cuda:1, wanted one on cuda:0"):
        train(on_simt, dictionary, X, validation=CudaArray(DEVICE, X, index=1))
    with pytest.raises(ValueError, match=r"validation: found shape \(12,\) on a CUDA device, wanted"):
        train(on_simt, dictionary, X, validation=CudaArray(DEVICE, X[0]))


# What else a call takes is copied to the host.


def on_cuda(values):
    return CudaArray(DEVICE, np.asarray(values, dtype=np.float64))


# A function of the package, its modules, and what to do with an argument.
COPIED = {
    "lasso, D": lambda package, its, put: package.lasso(put(D), X, lam_fraction=0.3),
    "Dictionary, D": lambda package, its, put: package.Dictionary(put(D), device="cuda").solve(X, 1),
    "lasso, lam": lambda package, its, put: package.lasso(D, X, lam=put(np.linspace(0.5, 1, len(X)))),
    "lasso, weights": lambda package, its, put: package.lasso(D, X, lam=1, weights=put(np.linspace(1, 2, m))),
    "lasso, warm_start": lambda package, its, put: package.lasso(D, X, lam=1, warm_start=put(np.full((len(X), m), 0.1))),
    "lasso_path, lams": lambda package, its, put: package.lasso_path(D, X, lams=put([2, 1]))[1],
    "minimum_norm, D": lambda package, its, put: [package.minimum_norm(put(D), X)],
    "minimum_norm, X": lambda package, its, put: [package.minimum_norm(D, put(X))],
    "from_tensors, tensors['steps']": lambda package, its, put: [
        its[0].Network.from_tensors("step", D, {"steps": put([0.02, 0.01])}, 0.3).apply(X).toarray()],
    "apply, lam": lambda package, its, put: [step_network(package, D).apply(X, lam=put(np.ones(len(X)))).toarray()],
    "forward, X": lambda package, its, put: [its[1].Net.mlp(n, 3, seed=1).forward(put(X))],
    "record, X": lambda package, its, put: [its[1].Net.mlp(n, 3, seed=1).record(put(X)).output],
    "forward, x": lambda package, its, put: [its[1].MomentumNet(n, 3, 5, seed=1).forward(put(X)).x],
    "forward, V": lambda package, its, put: [its[1].MomentumNet(n, 3, 5, seed=1).forward(X, put(0.1 * X)).x],
}


@pytest.mark.parametrize("name", COPIED)
def test_other_arguments_are_copied_to_the_host(name):
    lent = []

    def put(values):
        lent.append(on_cuda(values))
        return lent[-1]

    modules = networks, momentum
    expected = COPIED[name](on_simt, modules, lambda values: np.asarray(values, dtype=np.float64))
    assert same_bits(COPIED[name](on_simt, modules, put), expected)
    array, = lent
    assert asked_once_and_returned(array)


@pytest.mark.parametrize("name, call", [
    ("D", lambda: shrinkwarp.lasso(on_cuda(D), X, lam=1)),
    ("weights", lambda: shrinkwarp.lasso(D, X, lam=1, weights=on_cuda(np.ones(m)))),
    ("X", lambda: shrinkwarp.minimum_norm(D, on_cuda(X))),
    ("X", lambda: shrinkwarp.momentum.Net.mlp(n, 3).forward(on_cuda(X))),
], ids=["D", "weights", "X", "samples"])
def test_a_module_without_cuda_takes_no_array_on_cuda(name, call):
    with pytest.raises(TypeError, match=rf"{name}: found CudaArray on a CUDA device \(.+\), wanted .* on the CPU"):
        call()


COPIED_LAYOUTS = {
    **LAYOUTS,
    "Fortran order": np.asfortranarray,
    "reversed": lambda a: a[::-1, ::-1],
    "every second": lambda a: a[:, ::2],
    "broadcast": lambda a: np.broadcast_to(a[:1], a.shape),
    "a column": lambda a: a[:, 3],
    "one number": lambda a: a[2, 3],
    "three dimensions": lambda a: a.reshape(5, 6, n).transpose(2, 0, 1),
}


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int64", "uint8", "bool", "complex64"])
@pytest.mark.parametrize("layout", COPIED_LAYOUTS)
def test_copies_are_the_same_array(layout, dtype):
    values = np.asarray(COPIED_LAYOUTS[layout]((10 * X).astype(dtype)))
    array = CudaArray(DEVICE, values)
    found = _core.on_host(array, "a")
    assert isinstance(found, np.ndarray) and found.dtype == values.dtype and found.shape == values.shape
    assert np.array_equal(found, values)
    assert returned(array)


def test_values_that_are_still_to_come_are_waited_for_to_be_copied():
    theirs = DEVICE.make_stream()
    with DEVICE.settings(late=True):
        found = _core.on_host(CudaArray(DEVICE, X, stream=theirs), "a")
        DEVICE.wait(theirs)
    DEVICE.destroy_stream(theirs)
    assert np.array_equal(found, X)


@pytest.mark.parametrize("device", [(2,), (2, "a"), "cuda", None, (2, -1)])
def test_a_device_that_is_none_is_named(device):
    array = CudaArray(DEVICE, X)
    array.__class__ = type("Odd", (CudaArray,), {"__dlpack_device__": lambda self: device})
    for name, call in (("X", lambda: on_simt.lasso(D, array, lam=1)), ("D", lambda: on_simt.lasso(array, X, lam=1)),
                       ("weights", lambda: on_simt.lasso(D, X, lam=1, weights=array))):
        with pytest.raises((TypeError, ValueError), match=f"{name}: found .*Odd"):
            call()


def test_a_dictionary_on_cuda_says_where_solves_run():
    assert on_simt.Dictionary(on_cuda(D)).device == "cuda:0"
    assert on_simt.Dictionary(on_cuda(D), device="cpu").device == "cpu"
    with pytest.raises(TypeError, match=r"Dictionary: D: found CudaArray on a CUDA device \(.*device 1 does not exist"):
        on_simt.Dictionary(CudaArray(DEVICE, D, index=1))


@pytest.mark.parametrize("make, message", [
    (lambda: Refusing(DEVICE, D), r"D: found \S*Refusing \(it is sparse\), wanted an array that DLPack can lend"),
    (lambda: CudaArray(DEVICE, D.astype(complex)), "D: found elements of type complex128, wanted"),
    (Vague, "it was asked for"),
], ids=["refused", "complex", "vague"])
def test_a_bad_array_to_be_copied_is_named(make, message):
    error = AssertionError if make is Vague else TypeError
    with pytest.raises(error, match=message):
        on_simt.lasso(make(), X, lam=1)


def test_devices_that_are_not_there():
    with pytest.raises(RuntimeError, match="device 1 does not exist, wanted 0 to 0"):
        on_simt.Dictionary(D, device="cuda:1")


# Momentum networks on a device read samples there, and give there what comes of them.

SAMPLES = np.random.default_rng(1).standard_normal((7, n)).astype(np.float32)
LOSS = np.random.default_rng(2).standard_normal((7, n)).astype(np.float32)


def there_and_back(net, put, get):
    state = net.forward(put(SAMPLES))
    start = net.inverse(state)
    dX, gradients = net.backward(state, put(LOSS))
    its = [state.x, state.v, start.x, start.v, dX, *(state.fixed if net._mode == "exact" else ())]
    return [get(array) for array in its] + [gradients[name] for name in sorted(gradients)]


def recorded(net, put, get):
    recording = net.record(put(SAMPLES), training=True)
    dX, gradients = recording.backward(put(LOSS[:, :3]))
    result = [get(array) for array in (recording.output, dX, net.forward(put(SAMPLES)))]
    return result + [values[name] for values in (gradients, net.tensors) for name in sorted(values)]


def images(net, put, get):
    values = np.random.default_rng(3).standard_normal((2, 3, 8, 8)).astype(np.float32)
    recording = net.record(put(values))
    dX, _ = recording.backward(put(LOSS[:2, :3]))
    assert dX.shape == values.shape
    return [get(recording.output), get(dX)]


SAMPLE_ENTRIES = {
    "exact": (there_and_back, lambda: momentum.MomentumNet(n, 4, 9, gamma=0.8, seed=1)),
    "approximate": (there_and_back, lambda: momentum.MomentumNet(n, 4, 9, gamma=0.8, mode="approximate", seed=1)),
    "residual": (recorded, lambda: momentum.Net.mlp(n, 3, normalisation="batch", dropout=0.2, seed=1)),
    "momentum": (recorded, lambda: momentum.Net.mlp(n, 3, gamma=0.9, seed=1)),
    "images": (images, lambda: momentum.Net.resnet("resnet18", 3, (3, 8, 8), gamma=0.9, seed=1)),
}


def pointer_of(capsule):
    get = ctypes.pythonapi.PyCapsule_GetPointer
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return get(capsule, b"dltensor")


def address_of(array):
    """Of the first element that an array lends."""
    capsule = array.__dlpack__()
    tensor = Managed.from_address(pointer_of(capsule)).tensor
    assert (tensor.device_type, tensor.device_id) == array.__dlpack_device__() == (DeviceType.CUDA, 0)
    return tensor.data + tensor.byte_offset


@pytest.mark.parametrize("kind", SAMPLE_ENTRIES)
def test_samples_on_a_device_stay_there(kind):
    run, make = SAMPLE_ENTRIES[kind]
    lent = []

    def put(values):
        lent.append(CudaArray(DEVICE, values))
        return lent[-1]

    def get(array):
        assert isinstance(array, _core.CudaArray) and array.device == "cuda:0"
        return array.numpy()

    found, wanted = run(make(), put, get), run(make(), lambda values: values, np.asarray)
    assert all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in zip(found, wanted)) and len(found) == len(wanted)
    gc.collect()
    assert all(asked_once_and_returned(array) for array in lent)


def test_samples_on_a_device_are_read_in_place():
    net = momentum.MomentumNet(n, 4, 9)
    array = CudaArray(DEVICE, SAMPLES)
    taken = net._rows("forward", "X", array)
    assert address_of(taken) == array.address and taken.shape == SAMPLES.shape and not returned(array)
    del taken
    gc.collect()
    assert asked_once_and_returned(array)


@pytest.mark.parametrize("change", [np.asfortranarray, lambda a: a.astype(np.float64), lambda a: a[::-1],
                                    lambda a: (10 * a).astype(np.int32), lambda a: a > 0],
                         ids=["Fortran order", "float64", "reversed", "int32", "bool"])
def test_samples_in_another_order_or_of_another_type_come_by_the_host(change):
    net, values = momentum.MomentumNet(n, 4, 9), change(SAMPLES)
    array = CudaArray(DEVICE, values)
    state = net.forward(array)
    assert isinstance(state.x, np.ndarray) and np.array_equal(state.x, net.forward(values).x)
    assert asked_once_and_returned(array)


def test_samples_of_another_device_are_refused_by_name():
    array = CudaArray(DEVICE, SAMPLES, index=1)
    with pytest.raises(TypeError, match=r"forward: X: found CudaArray on a CUDA device \(.*device 1 does not exist"):
        momentum.MomentumNet(n, 4, 9).forward(array)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [(0, 0), (6, n - 1), (3, 5)])
def test_samples_on_a_device_have_to_be_finite(at, bad):
    values = SAMPLES.copy()
    values[at] = bad
    for its, call in ((momentum.MomentumNet(n, 4, 9), "MomentumNet.forward"), (momentum.Net.mlp(n, 3), "Net.forward")):
        with pytest.raises(ValueError, match=f"{call}: X: found NaN or infinity, wanted finite numbers"):
            its.forward(CudaArray(DEVICE, values))
        its.forward(CudaArray(DEVICE, SAMPLES))


def test_shapes_of_samples_on_a_device():
    net, classifier = momentum.MomentumNet(n, 4, 9), momentum.Net.mlp(n, 3)
    for values in (SAMPLES[0], SAMPLES[:, :5].copy(), SAMPLES[:, None], SAMPLES[0, 0]):
        for its in (net, classifier):
            with pytest.raises(ValueError, match=r"X: found shape \("):
                its.forward(CudaArray(DEVICE, np.ascontiguousarray(values)))
    none = net.forward(CudaArray(DEVICE, SAMPLES[:0]))
    assert none.x.shape == none.v.shape == (0, n) and none.x.numpy().shape == (0, n)
    assert classifier.forward(CudaArray(DEVICE, SAMPLES[:0])).shape == (0, 3)
    state = net.forward(CudaArray(DEVICE, SAMPLES))
    with pytest.raises(ValueError, match=r"dY: found shape \(7, 5\), wanted an array of shape \(7, 12\)"):
        net.backward(state, CudaArray(DEVICE, LOSS[:, :5].copy()))
    # What is given for them may lie elsewhere.
    dX, _ = net.backward(state, LOSS)
    assert isinstance(dX, _core.CudaArray)


def test_samples_that_are_still_to_come_are_waited_for():
    net = momentum.MomentumNet(n, 4, 9)
    expected = net.forward(SAMPLES)
    theirs = DEVICE.make_stream()
    with DEVICE.settings(late=True):
        state = net.forward(CudaArray(DEVICE, SAMPLES, stream=theirs))
        dX, _ = net.backward(state, CudaArray(DEVICE, LOSS, stream=theirs))
        DEVICE.wait(theirs)
    DEVICE.destroy_stream(theirs)
    assert np.array_equal(state.x.numpy(), expected.x)
    assert np.array_equal(dX.numpy(), net.backward(expected, LOSS)[0])


def test_samples_that_were_taken_on_another_stream_are_there():
    net, other = momentum.MomentumNet(n, 4, 9), momentum.MomentumNet(n, 4, 9)
    expected = net.forward(SAMPLES)
    theirs = DEVICE.make_stream()
    with DEVICE.settings(late=True):
        taken, = other._contexts.taken([CudaArray(DEVICE, SAMPLES, stream=theirs)], "X")
        state = net.forward(taken)
        DEVICE.wait(theirs)
    DEVICE.destroy_stream(theirs)
    assert np.array_equal(state.x.numpy(), expected.x)


def test_results_on_a_device_live_as_long_as_somebody_has_them():
    gc.collect()
    used = DEVICE.used
    state = momentum.MomentumNet(n, 4, 9, seed=2).forward(CudaArray(DEVICE, SAMPLES))
    wanted, x = state.x.numpy(), state.x
    capsule = x.__dlpack__(stream=1)
    del state, x
    gc.collect()
    tensor = Managed.from_address(pointer_of(capsule)).tensor
    found = np.empty_like(wanted)
    DEVICE.copy(found.ctypes.data, tensor.data, found.nbytes)
    assert np.array_equal(found, wanted) and DEVICE.used > used
    del capsule, tensor
    gc.collect()
    assert DEVICE.used == used


def test_an_array_of_this_library():
    state = momentum.MomentumNet(n, 4, 9).forward(CudaArray(DEVICE, SAMPLES))
    x, (fixed, _) = state.x, state.fixed
    assert x.shape == (7, n) and x.ndim == 2 and len(x) == 7 and x.dtype == np.float32 and fixed.dtype == np.int64
    assert repr(x) == f"CudaArray(shape=(7, {n}), dtype=float32, device='cuda:0')"
    assert np.array_equal(x.reshape((n, 7)).numpy(), x.numpy().reshape(n, 7))
    assert np.array_equal(_core.on_host(x, "x"), x.numpy())
    with pytest.raises(ValueError, match=f"reshape: found {7 * n} elements, wanted 6"):
        x.reshape((2, 3))
    with pytest.raises(ValueError, match="reshape: found"):
        x.reshape((2**33, 2**33))
    with pytest.raises(BufferError, match="copy: found True"):
        x.__dlpack__(copy=True)
    with pytest.raises(BufferError, match="dl_device: found another device"):
        x.__dlpack__(dl_device=(1, 0))
    assert address_of(x) == address_of(x)
    x.__dlpack__(stream=2, max_version=(1, 0), dl_device=(2, 0), copy=False)
    again = momentum.MomentumNet(n, 4, 9).forward(x)  # as samples
    assert again.x.shape == x.shape
    with pytest.raises(TypeError, match="len"):
        len(momentum.MomentumNet(1, 1, 1).forward(CudaArray(DEVICE, SAMPLES[:1, :1].copy())).x.reshape(()))


# From samples on the host they give arrays of the host.


@pytest.mark.parametrize("mode", ["exact", "approximate"])
def test_momentum_networks_on_cuda(mode):
    random = np.random.default_rng(1)
    rows, dY = random.standard_normal((7, n)).astype(np.float32), random.standard_normal((7, n)).astype(np.float32)
    nets = [its.MomentumNet(n, 5, hidden=9, gamma=0.8, mode=mode, device=device)
            for its, device in ((momentum, "cuda"), (shrinkwarp.momentum, "cpu"))]
    nets[0].tensors = nets[1].tensors
    states = [net.forward(rows) for net in nets]
    assert np.allclose(states[0].x, states[1].x, atol=1e-5) and np.allclose(states[0].v, states[1].v, atol=1e-5)
    start = nets[0].inverse(states[0])
    if mode == "exact":
        assert np.array_equal(start.x, rows) and not start.v.any()
    else:
        assert np.allclose(start.x, rows, atol=1e-5)
    (dX, gradients), (their_dX, theirs) = (net.backward(state, dY) for net, state in zip(nets, states))
    assert np.allclose(dX, their_dX, atol=1e-4)
    for name in theirs:
        assert np.allclose(gradients[name], theirs[name], rtol=1e-4, atol=1e-4)


def test_classifiers_on_cuda():
    random = np.random.default_rng(1)
    rows, dY = random.standard_normal((7, n)), random.standard_normal((7, 3))
    nets = [its.Net.mlp(n, 3, gamma=0.9, normalisation="batch", dtype=np.float64, device=device)
            for its, device in ((momentum, "cuda"), (shrinkwarp.momentum, "cpu"))]
    nets[0].tensors = {name: value.copy() for name, value in nets[1].tensors.items()}
    assert np.allclose(nets[0].forward(rows), nets[1].forward(rows), atol=1e-10)
    recordings = [net.record(rows, training=True) for net in nets]
    assert np.allclose(recordings[0].output, recordings[1].output, atol=1e-10)
    for name, value in nets[1].tensors.items():  # statistics too
        assert np.allclose(nets[0].tensors[name], value, atol=1e-10)
    (dX, gradients), (their_dX, theirs) = (recording.backward(dY) for recording in recordings)
    assert np.allclose(dX, their_dX, atol=1e-8)
    for name in theirs:
        assert np.allclose(gradients[name], theirs[name], atol=1e-8)
