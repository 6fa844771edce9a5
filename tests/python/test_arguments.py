"""What entry points make of arguments: a right result, by its own float64 gap, or an error that names the argument."""

import inspect
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import scipy.sparse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import shrinkwarp
import shrinkwarp.momentum
import shrinkwarp.networks
from shrinkwarp.sklearn import BatchLasso, BatchSparseCoder

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

examples = settings(deadline=None, derandomize=True, max_examples=100, suppress_health_check=list(HealthCheck))


# The oracle.


def own_gap(D, x, z, lam, weights=None, nonnegative=False, mu=0.0, group_size=1):
    """(gap, energy, rounding) of a code in float64, from the definition of the problem alone.

    An elastic net is a Lasso with m rows more. Of a residual what the unpenalised atoms see is taken away, the rest
    scaled until it is feasible: any feasible point gives a bound.
    """
    D, x, z = (np.asarray(a, dtype=np.float64) for a in (D, x, z))
    m = D.shape[1]
    weights = np.ones(m // group_size) if weights is None else np.asarray(weights, dtype=np.float64)
    if mu > 0:
        D, x = np.vstack([D, np.sqrt(mu) * np.eye(m)]), np.concatenate([x, np.zeros(m)])
    r = x - D @ z
    groups = np.linalg.norm(z.reshape(-1, group_size), axis=1)
    assert not np.isinf(weights[groups > 0]).any()
    assert not (nonnegative and (z < 0).any())
    primal = 0.5 * r @ r + lam * np.sum(weights[groups > 0] * groups[groups > 0])
    free = np.repeat(weights == 0, group_size)
    theta = r
    if free.any():
        theta = r - D[:, free] @ np.linalg.lstsq(D[:, free], r, rcond=None)[0]
        if np.linalg.norm(theta) <= 1e-11 * np.linalg.norm(x):
            theta = np.zeros(len(x))  # rounding has no direction
    correlations = D.T @ theta
    sizes = np.maximum(correlations, 0) if nonnegative else np.linalg.norm(correlations.reshape(-1, group_size), axis=1)
    penalised = weights > 0
    largest = np.max(sizes[penalised] / weights[penalised], initial=0)
    s = max(0.0, x @ theta / (theta @ theta)) if theta @ theta > 0 else 0.0
    s = min(s, lam / largest) if largest > 0 else s
    dual = s * (x @ theta) - 0.5 * s * s * (theta @ theta)
    scale = np.linalg.norm(D, axis=0) @ np.abs(z) + np.linalg.norm(x)
    return primal - dual, 0.5 * x @ x, 1e-13 * (len(x) + m) * (primal + scale**2)


def assert_right(D, X, result, gap=1e-6, **penalty):
    """The codes of a LassoResult are within the gaps that it reports, these are what was asked for where it says so."""
    D, X = np.asarray(D, dtype=np.float64), np.atleast_2d(np.asarray(X, dtype=np.float64))
    N, m = X.shape[0], D.shape[1]
    codes = result.codes.toarray()
    assert codes.shape == (N, m) and codes.dtype == np.float64 and np.isfinite(codes).all()
    for values in (result.lam, result.dual_gap, result.objective, result.iterations, result.converged):
        assert values.shape == (N,)
    for i in range(N):
        own, energy, rounding = own_gap(D, X[i], codes[i], result.lam[i], **penalty)
        assert -rounding <= own <= result.dual_gap[i] + rounding
        assert result.converged[i] == (result.dual_gap[i] <= gap * energy * (1 + 1e-12))
        assert result.converged[i]


def refused(call, argument):
    """Calls what has to be refused; the message names the argument, what was found and what was wanted."""
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    assert_names(caught.value, argument)


def assert_names(error, *arguments):
    message = str(error)
    says = r"\b.*\b(found|is|leaves)\b.*\bwanted\b"
    assert any(re.search(rf"\b{argument}{says}", message, re.DOTALL) for argument in arguments), message


# What arrays may be.


def strided(a):
    wide = np.zeros((3 * a.shape[0], 2 * a.shape[1]), dtype=a.dtype)
    wide[::3, ::2] = a
    return wide[::3, ::2]


def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


LAYOUTS = {
    "C": np.ascontiguousarray,
    "F": np.asfortranarray,
    "rows reversed": lambda a: a[::-1].copy()[::-1],
    "columns reversed": lambda a: a[:, ::-1].copy()[:, ::-1],
    "all reversed": lambda a: np.asfortranarray(a[::-1, ::-1])[::-1, ::-1],
    "strided": strided,
    "read only": read_only,
    "a row again and again": lambda a: np.broadcast_to(a[:1], a.shape),
    "foreign byte order": lambda a: a.astype(a.dtype.newbyteorder(">" if sys.byteorder == "little" else "<")),
    "lists": lambda a: a.tolist(),
}
DTYPES = [np.float64, np.float32, np.float16, np.longdouble, np.int8, np.int64, np.uint16, np.bool_]
NOT_NUMBERS = [np.complex128, np.dtype("U8"), np.dtype("S8"), "datetime64[s]"]


def matrices(rows, columns):
    """Arrays of small numbers that every type holds exactly, in all types and layouts."""
    values = hnp.arrays(np.int8, (rows, columns), elements=st.integers(-8, 8))
    quarters = st.sampled_from([1.0, 0.25])

    def made(values, quarter, dtype, layout):
        if np.dtype(dtype).kind == "u":
            values = abs(values)
        scaled = values * quarter if np.dtype(dtype).kind == "f" else values
        return LAYOUTS[layout](scaled.astype(dtype))

    return st.builds(made, values, quarters, st.sampled_from(DTYPES), st.sampled_from(sorted(LAYOUTS)))


def arrays(least_rows=0):
    """D (n, m) and X (N, n) that belong together."""
    sizes = st.tuples(st.integers(1, 7), st.integers(1, 9), st.integers(least_rows, 5))
    return sizes.flatmap(lambda nmN: st.tuples(matrices(nmN[0], nmN[1]), matrices(nmN[2], nmN[0])))


def must_be_taken(array):
    """float32 and float64 of the machine's byte order, however they lie: what is promised."""
    return isinstance(array, np.ndarray) and array.dtype in (np.float32, np.float64) and array.dtype.isnative


# Right results.


@given(arrays(), st.sampled_from([0.01, 0.5, 3, np.float32(0.25)]))
@examples
def test_lasso_of_arrays_of_any_kind(problem, lam):
    D, X = problem
    try:
        result = shrinkwarp.lasso(D, X, lam=lam)
    except (ValueError, TypeError) as error:
        assert not (must_be_taken(D) and must_be_taken(X)), error
        assert_names(error, "D", "X")
        return
    assert_right(D, np.reshape(X, (-1, np.shape(D)[0])), result)


@given(arrays(least_rows=1), st.data())
@examples
def test_lasso_of_penalties_of_any_kind(problem, data):
    D, X = (np.array(a, dtype=np.float64) for a in problem)
    N, m = X.shape[0], D.shape[1]
    group_size = data.draw(st.sampled_from([k for k in (1, 2, 3) if m % k == 0]))
    nonnegative = group_size == 1 and data.draw(st.booleans())
    some = [0.5, 1.0, 7.0, np.inf] + ([] if nonnegative else [0.0])
    weights = data.draw(st.none() | hnp.arrays(np.float64, m // group_size, elements=st.sampled_from(some)))
    mu = data.draw(st.sampled_from([0.0, 0.1, 2.0]))
    lam = data.draw(hnp.arrays(np.float64, N, elements=st.sampled_from([0.1, 1.0, 10.0, 1000.0])))
    kinds = dict(weights=weights, nonnegative=nonnegative, group_size=group_size)
    result = shrinkwarp.lasso(
        D, X, lam, elastic_net=mu, solver=data.draw(st.sampled_from(["auto", "fista"])), gap=1e-4, **kinds
    )
    np.testing.assert_array_equal(result.lam, lam)
    assert_right(D, X, result, gap=1e-4, mu=mu, **kinds)


@given(arrays(least_rows=1), st.lists(st.sampled_from([0.1, 0.5, 0.9, 2.0]), min_size=1, max_size=3))
@settings(examples, max_examples=40)
def test_lasso_path_of_arrays_of_any_kind(problem, lams):
    D, X = problem
    try:
        results = shrinkwarp.lasso_path(D, X, lams)
    except (ValueError, TypeError) as error:
        assert not (must_be_taken(D) and must_be_taken(X)), error
        assert_names(error, "D", "X")
        return
    assert len(results) == len(lams)
    for lam, result in zip(lams, results):
        np.testing.assert_array_equal(result.lam, lam)
        assert_right(D, X, result)


@given(arrays(least_rows=1))
@settings(examples, max_examples=60)
def test_dictionary_solves_as_lasso_does(problem):
    D, X = problem
    try:
        dictionary = shrinkwarp.Dictionary(D)
    except (ValueError, TypeError) as error:
        assert not must_be_taken(D), error
        assert_names(error, "D")
        return
    assert dictionary.shape == np.shape(D)
    try:
        result, lam_max = dictionary.solve(X, lam=0.3), dictionary.lam_max(X)
    except (ValueError, TypeError) as error:
        assert not must_be_taken(X), error
        assert_names(error, "X")
        return
    assert_right(D, X, result)
    same_bits(result, shrinkwarp.lasso(D, X, lam=0.3))
    wanted = np.abs(np.asarray(X, dtype=np.float64) @ np.asarray(D, dtype=np.float64)).max(axis=1)
    np.testing.assert_allclose(lam_max, wanted, rtol=1e-12)


@given(arrays(least_rows=1), st.sampled_from([0.01, 0.4, np.float64(2)]), st.booleans(), st.booleans())
@examples
def test_batch_lasso_of_arrays_of_any_kind(problem, alpha, fit_intercept, positive):
    X, Y = problem[0], np.transpose(problem[1])
    model = BatchLasso(alpha, fit_intercept=fit_intercept, positive=positive)
    try:
        model.fit(X, Y)
    except (ValueError, TypeError) as error:
        assert not (must_be_taken(X) and must_be_taken(Y)), error
        assert "BatchLasso: X: " in str(error) or "BatchLasso: y: " in str(error)
        return
    X, Y = np.asarray(X, dtype=np.float64), np.asarray(Y, dtype=np.float64)
    n = len(X)
    assert model.coef_.shape == (Y.shape[1], X.shape[1])
    centre = (lambda a: a - a.mean(axis=0)) if fit_intercept else (lambda a: a)
    for y, coef, gap in zip(centre(Y).T, model.coef_, model.dual_gap_):
        own, energy, rounding = own_gap(centre(X), y, coef, n * alpha, nonnegative=positive)
        # A target that is constant is 0 once centred, but for the rounding of its mean here.
        assert -rounding - 1e-25 <= own <= n * gap + rounding + 1e-25
        assert n * gap <= 2 * model.tol * energy * (1 + 1e-9)
    residual = Y - model.predict(X)
    if fit_intercept:
        np.testing.assert_allclose(residual.mean(axis=0), 0, atol=1e-11)


@given(arrays(least_rows=1), st.sampled_from([None, 0, 0.3]), st.booleans())
@settings(examples, max_examples=60)
def test_batch_sparse_coder_of_arrays_of_any_kind(problem, alpha, fitted):
    (D, X) = problem
    coder = BatchSparseCoder(np.transpose(D), transform_alpha=0.5 if alpha == 0 else alpha, tol=1e-8)
    try:
        codes = (coder.fit(X) if fitted else coder).transform(X)
    except (ValueError, TypeError) as error:
        assert not (must_be_taken(D) and must_be_taken(X)), error
        assert "BatchSparseCoder: X: " in str(error) or "BatchSparseCoder: dictionary: " in str(error)
        return
    lam = {None: 1.0, 0: 0.5}.get(alpha, alpha)
    codes32 = codes.dtype == np.float32  # float32 codes are rounded ones
    for x, z in zip(np.asarray(X, dtype=np.float64), codes):
        own, energy, rounding = own_gap(D, x, z, lam)
        assert -rounding <= own <= (1e-4 if codes32 else 2e-8) * energy + rounding


@given(st.data())
@examples
def test_magnitudes_of_any_kind(data):
    n, m, N = (data.draw(st.integers(1, 4)) for _ in range(3))
    wide = st.floats(allow_nan=True, allow_infinity=True) | st.sampled_from([0.0, 1.0, -1.0, 5e-324, 1e-200, 1e200])
    D, X = (data.draw(hnp.arrays(np.float64, shape, elements=wide)) for shape in ((n, m), (N, n)))
    lam = data.draw(wide)
    try:
        result = shrinkwarp.lasso(D, X, lam=lam, max_iterations=2000)
    except (ValueError, TypeError) as error:
        assert_names(error, "D", "X", "lam")
        return
    assert np.isfinite(D).all() and np.isfinite(X).all() and np.isfinite(lam) and lam >= 0
    assert np.isfinite(result.codes.data).all() and (result.dual_gap >= 0).all()


def test_no_observations():
    D = np.eye(3)
    for X in (np.zeros((0, 3)), np.zeros((0, 3), dtype=np.float32)):
        result = shrinkwarp.lasso(D, X, lam=1.0)
        assert result.codes.shape == (0, 3) and result.dual_gap.shape == result.converged.shape == (0,)
        assert shrinkwarp.Dictionary(D).solve(X, lam_fraction=0.5).codes.shape == (0, 3)
        assert [r.codes.shape for r in shrinkwarp.lasso_path(D, X, [1.0, 0.5])] == [(0, 3)] * 2


def public_functions():
    modules = (shrinkwarp, shrinkwarp.networks, shrinkwarp.momentum)
    for name, value in [item for module in modules for item in inspect.getmembers(module)]:
        if name.startswith("_") or not getattr(value, "__module__", "").startswith("shrinkwarp."):
            continue
        if inspect.isfunction(value) and value.__doc__ and "Parameters" in value.__doc__:
            yield name, value
        elif inspect.isclass(value) and value.__doc__:
            for method, its in vars(value).items():
                its = its.__func__ if isinstance(its, classmethod) else its.fget if isinstance(its, property) else its
                if inspect.isfunction(its) and its.__doc__ and not method.startswith("_"):
                    yield f"{name}.{method}", its


def test_public_functions_have_types():
    found = dict(public_functions())
    assert len(found) > 30
    for name, function in found.items():
        signature = inspect.signature(function)
        lacking = [its.name for its in signature.parameters.values()
                   if its.annotation is its.empty and its.name not in ("self", "cls")]
        assert not lacking and signature.return_annotation is not signature.empty, (name, lacking)


# What is refused.

D = np.eye(4) + 0.1
X = np.arange(12.0).reshape(3, 4)

NO_MATRIX = [None, "matrix", 3.0, object(), {"a": 1}, [[1.0, "x"]], [[1.0], [1.0, 2.0]], np.ones((2, 2, 2)), np.ma,
             [[10**400] * 4] * 4]
NOT_FINITE = [np.where(np.eye(4) > 0, bad, D) for bad in (np.nan, np.inf, -np.inf)]
NO_NUMBER = ["x", object(), 1j, [[1.0]], {"a": 1}, np.ma, b"1"]
NOT_POSITIVE = [-1, -0.5, np.nan, np.inf, -np.inf, 10**400]


def broken(**arrays):
    """Codes whose arrays are no CSR matrix any more."""
    codes = scipy.sparse.csr_matrix(np.ones((3, 4)))
    for name, (place, value) in arrays.items():
        getattr(codes, name)[place] = value
    return codes


BAD = {
    "D": NO_MATRIX + NOT_FINITE + [np.ones(4), np.ones((0, 4)), np.ones((4, 0)), scipy.sparse.eye(4, format="csr")]
    + [np.ones((4, 4)).astype(dtype) for dtype in NOT_NUMBERS] + [np.full((4, 4), None), np.full((4, 4), 1e308)],
    "X": NO_MATRIX + NOT_FINITE + [np.ones(3), np.ones((3, 5)), np.ones((3, 0)), scipy.sparse.eye(4, format="csr")]
    + [np.ones((3, 4)).astype(dtype) for dtype in NOT_NUMBERS] + [np.full((3, 4), None)],
    "lam": NO_NUMBER + NOT_POSITIVE + [np.ones(2), np.ones((3, 1)), [1.0, -1.0, 1.0], [1.0, np.nan, 1.0], [],
                                   [[1.0], [1.0, 2.0]]],
    "lam_fraction": NO_NUMBER + NOT_POSITIVE + [0, np.ones(3)],
    "gap": NO_NUMBER + NOT_POSITIVE + [None, 0, 1e-15, [1e-6]],
    "solver": [None, 3, "lars", "", object(), b"fista", ["fista"]],
    "weights": ["x", object(), -1.0, 2.0, np.ones(3), np.ones((4, 1)), [1, 1, 1, -1], [1, 1, 1, np.nan], [1, 1, 1, 1j],
                [1, 1, 1, 1e-30], [1, 1, 1, 1e30], [1, 1, 1, "x"], {"a": 1}],
    "nonnegative": [None, "yes", 2, object(), 0.5, np.ones(2)],
    "group_size": ["x", 0, -1, 3, 2.5, object(), 2**70, np.nan],
    "device": [None, 3, "tpu", "", object(), "cuda:x", "cpu:x"],
    "warm_start": ["x", 3, object(), np.ones((2, 4)), np.ones((3, 5)), np.full((3, 4), np.nan),
                   scipy.sparse.csr_matrix(np.full((3, 4), np.inf)), scipy.sparse.csr_matrix((3, 5)),
                   broken(indices=(0, 4)), broken(indices=(3, -1)), broken(indptr=(1, 10**6)),
                   broken(indptr=(-1, 10**6)), broken(indptr=(0, 2)), broken(indptr=(2, 2))],
    "threads": ["x", 0, -1, 1.5, object(), 2**70, np.nan],
    "lam_scope": [None, 3, "row", object()],
    "l1_radius": NO_NUMBER + NOT_POSITIVE + [0],
    "residual_norm": NO_NUMBER + NOT_POSITIVE + [0],
    "max_nonzeros": NO_NUMBER + [-1, 1.5, 2**70, np.nan],
    "elastic_net": NO_NUMBER + NOT_POSITIVE + [None],
    "debias": [None, "yes", 2, object()],
    "max_iterations": NO_NUMBER + [None, -1, 1.5, 2**70, np.nan],
    "memory_limit": NO_NUMBER + [-1, 0, 1.5, 2**70, np.nan, 1],
    "progress": [3, "yes", object(), [True]],
}


def shown(value):
    """In the name of a test: the same in every process that collects it, so without addresses."""
    return re.sub(" at 0x[0-9a-f]+", "", repr(value)).replace("\n", "")[:40]


def cases(table):
    return [
        pytest.param(argument, value, id=f"{argument}-{k}-{shown(value)}")
        for argument, values in table.items()
        for k, value in enumerate(values)
    ]


@pytest.mark.parametrize("argument, value", cases(BAD))
def test_lasso_refuses(argument, value):
    given_lambda = argument in ("lam", "lam_fraction", "l1_radius", "residual_norm", "max_nonzeros")
    arguments = dict(D=D, X=X) if given_lambda else dict(D=D, X=X, lam=0.5)
    refused(lambda: shrinkwarp.lasso(**{**arguments, argument: value}), argument)


@pytest.mark.parametrize("argument, value", cases({name: BAD[name] for name in BAD if not name.startswith("lam")}))
def test_dictionary_refuses(argument, value):
    if argument in ("D", "device", "threads"):
        refused(lambda: shrinkwarp.Dictionary(**{"D": D, argument: value}), argument)
        return
    given_lambda = argument in ("l1_radius", "residual_norm", "max_nonzeros")
    arguments = dict(X=X) if given_lambda else dict(X=X, lam=0.5)
    dictionary = shrinkwarp.Dictionary(D)
    refused(lambda: dictionary.solve(**{**arguments, argument: value}), argument)
    if argument in ("X", "weights", "group_size", "nonnegative"):
        refused(lambda: dictionary.lam_max(**{"X": X, argument: value}), argument)


@pytest.mark.parametrize("argument", ["lams", "lam_fractions"])
@pytest.mark.parametrize("value", ["x", 1.0j, -1.0, [-1.0], [np.nan], [np.inf], ["x"], object(), [None]])
def test_lasso_path_refuses(argument, value):
    refused(lambda: shrinkwarp.lasso_path(D, X, **{argument: value}), argument)


def test_exactly_one_rule_for_lambda():
    rules = dict(lam=0.5, lam_fraction=0.5, l1_radius=1.0, residual_norm=0.1, max_nonzeros=2)
    refused(lambda: shrinkwarp.lasso(D, X), "lam")
    for one in rules:
        for other in rules:
            if one < other:
                refused(lambda: shrinkwarp.lasso(D, X, **{one: rules[one], other: rules[other]}), "lam")


NO_FLAG = [None, 1, "yes", 0.0, object()]
NO_COUNT = [None, 0, -1, 1.5, "x", 2**70, True, np.nan]
NO_TOL = [None, 0, -1, 1e-15, "x", np.nan, np.inf, True, 1j, [1e-6], 10**400]

BAD_LASSO = {
    "alpha": [None, "x", object(), 1j, True, -1, np.nan, np.inf, [1.0, -1.0], [1.0], np.ones(3), np.ones((2, 1)),
              [[1], [1, 2]]],
    "fit_intercept": NO_FLAG,
    "positive": NO_FLAG,
    "weights": ["x", object(), 1.0, np.ones(3), np.ones((4, 1)), [1, 1, 1, -1], [1, 1, 1, np.nan], [1, 1, 1, 1e-30],
                [1, "x"], [1, 1, 1, 1e30], [[1], [1, 2]], [True] * 4],
    "tol": NO_TOL,
    "max_iter": NO_COUNT,
    "warm_start": NO_FLAG,
    "copy_X": NO_FLAG,
    "sparse_coef": NO_FLAG,
    "solver": BAD["solver"],
    "device": BAD["device"],
    "threads": BAD["threads"],
}


@pytest.mark.parametrize("argument, value", cases(BAD_LASSO))
def test_batch_lasso_refuses(argument, value):
    refused(lambda: BatchLasso(**{argument: value}).fit(D, X.T[:, :2]), argument)


def test_batch_lasso_refuses_weights_of_zero_with_positive():
    refused(lambda: BatchLasso(positive=True, weights=[0, 1, 1, 1]).fit(D, D), "weights")


BAD_CODER = {
    "transform_alpha": ["x", object(), 1j, True, -1, np.nan, np.inf, np.ones(2), 10**400],
    "split_sign": NO_FLAG,
    "positive_code": NO_FLAG,
    "tol": NO_TOL,
    "transform_max_iter": NO_COUNT,
    "sparse_output": NO_FLAG,
    "solver": BAD["solver"],
    "device": BAD["device"],
    "threads": BAD["threads"],
}


@pytest.mark.parametrize("argument, value", cases(BAD_CODER))
def test_batch_sparse_coder_refuses(argument, value):
    refused(lambda: BatchSparseCoder(D, **{argument: value}).transform(X), argument)


# scikit-learn words what it finds in arrays; which of them it is comes first.
# Constant numbers, however large, are 0 once they are centred.
@pytest.mark.parametrize("value", [value for value in BAD["D"] if "1.e+308" not in shown(value)], ids=shown)
def test_estimators_refuse_arrays(value):
    calls = {
        "BatchLasso: X: ": lambda: BatchLasso().fit(value, X.T),
        "BatchLasso: y: ": lambda: BatchLasso().fit(D, value),
        "BatchSparseCoder: X: ": lambda: BatchSparseCoder(D).transform(value),
        "BatchSparseCoder: dictionary: ": lambda: BatchSparseCoder(value).transform(X),
    }
    if isinstance(value, np.ndarray) and value.shape == (4,):
        del calls["BatchLasso: y: "]
    for begin, call in calls.items():
        with pytest.raises((ValueError, TypeError)) as caught:
            call()
        assert str(caught.value).startswith(begin)


def test_estimators_refuse_what_leaves_the_range():
    huge = 1e308 * (np.eye(4) + 0.5)
    refused(lambda: BatchLasso(0.1).fit(huge, D), "X")
    refused(lambda: BatchLasso(0.1, fit_intercept=False).fit(huge, D), "X and y")
    refused(lambda: BatchLasso(0.1, fit_intercept=False).fit(D, huge), "X and y")
    refused(lambda: BatchSparseCoder(huge).transform(X), "dictionary")
    refused(lambda: BatchSparseCoder(D).transform(huge), "dictionary and X")


# Threads.


def same_bits(one, other):
    for name in ("dual_gap", "objective", "iterations", "converged", "lam"):
        assert getattr(one, name).tobytes() == getattr(other, name).tobytes()
    for name in ("data", "indices", "indptr"):
        assert getattr(one.codes, name).tobytes() == getattr(other.codes, name).tobytes()


@pytest.mark.parametrize("solver", ["auto", "fista"])
def test_threads_at_once_give_the_bits_of_one(solver):
    rng = np.random.RandomState(0)
    big = rng.randn(20, 60)
    problems = [rng.randn(30, 20) for _ in range(8)]
    dictionary = shrinkwarp.Dictionary(big)
    coder = BatchSparseCoder(big.T, transform_alpha=0.5, solver=solver).fit(problems[0])

    def work(i):
        X = problems[i % len(problems)]
        return (
            dictionary.solve(X, lam_fraction=0.1, solver=solver),
            shrinkwarp.lasso(big, X, lam=0.5, solver=solver, threads=1 + i % 2),
            BatchLasso(0.01, solver=solver).fit(big, X.T).coef_,
            coder.transform(X),
        )

    alone = [work(i) for i in range(len(problems))]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(work, range(3 * len(problems))))
    for i, found in enumerate(together):
        wanted = alone[i % len(problems)]
        same_bits(found[0], wanted[0])
        same_bits(found[1], wanted[1])
        assert found[2].tobytes() == wanted[2].tobytes() and found[3].tobytes() == wanted[3].tobytes()


def test_fields_of_packed_records():
    random = np.random.default_rng(4)
    for dtype in (np.float32, np.float64):
        values = random.standard_normal((3, 4)).astype(dtype)
        records = np.zeros((3, 4), dtype=[("a", np.int16), ("x", dtype)])
        records["x"] = values
        shifted = np.zeros(values.nbytes + 1, dtype=np.uint8)[1:].view(dtype).reshape(3, 4)
        shifted[:] = values
        wanted = shrinkwarp.lasso(D, values, lam_fraction=0.3)
        for X in (records["x"], shifted, np.asfortranarray(records)["x"]):
            found = shrinkwarp.lasso(D, X, lam_fraction=0.3)
            assert (found.codes != wanted.codes).nnz == 0
            assert shrinkwarp.Dictionary(X).shape == (3, 4)


def test_numbers_of_other_types():
    expected = shrinkwarp.lasso(D, X, lam=0.5)
    for lam in (np.float32(0.5), np.array(0.5), [0.5] * 3, np.full(3, 0.5, dtype=np.float32), Fraction(1, 2)):
        same_bits(shrinkwarp.lasso(D, X, lam=lam), expected)
    options = dict(threads=np.int64(1), group_size=np.int32(1), nonnegative=np.bool_(False))
    same_bits(shrinkwarp.lasso(D, X, 0.5, **options), expected)
