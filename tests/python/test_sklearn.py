"""shrinkwarp.sklearn: scikit-learn's own checks, its toy cases of the Lasso, celer's cases of weights, mathematics."""

import doctest
import pickle
import warnings
from functools import partial

import numpy as np
import pytest
import scipy.sparse
import sklearn.utils.estimator_checks as estimator_checks
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.decomposition import SparseCoder
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import Lasso, LinearRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils._testing import SkipTest, TempMemmap

import shrinkwarp
import shrinkwarp.sklearn
from shrinkwarp.sklearn import BatchLasso, BatchSparseCoder



def build_dataset(n_samples=50, n_features=200, n_informative=10, n_targets=1, seed=0):
    """An ill-posed regression problem, as scikit-learn's tests have it, with noise."""
    rng = np.random.RandomState(seed)
    w = rng.randn(n_features, n_targets)
    w[n_informative:] = 0.0
    X = rng.randn(n_samples, n_features)
    Y = X @ w + 0.1 * rng.randn(n_samples, n_targets)
    return X, Y[:, 0] if n_targets == 1 else Y


def gap_of(X, y, coef, intercept, alpha, weights=None, positive=False):
    """The duality gap of one target in scikit-learn's scaling, in float64, from nothing but its definition."""
    X, y, coef = (np.asarray(a, dtype=np.float64) for a in (X, y, coef))
    n = len(y)
    weights = np.ones(X.shape[1]) if weights is None else np.asarray(weights)
    r = y - X @ coef - intercept
    used = coef != 0
    assert not (positive and (coef < 0).any()) and not np.isinf(weights[used]).any()
    primal = r @ r / (2 * n) + alpha * np.sum(weights[used] * np.abs(coef[used]))
    # theta = s r is feasible where |X'theta| <= n alpha w; with an intercept sum(theta) = 0 too, as sum(r) is.
    correlation = X.T @ r
    penalised = weights > 0
    ratio = (correlation if positive else np.abs(correlation))[penalised] / weights[penalised]
    largest = max(0.0, ratio.max()) if ratio.size else 0.0
    best = (y @ r) / (r @ r) if r @ r > 0 else 0.0
    limit = n * alpha / largest if largest > 0 else np.inf
    s = min(max(best, 0.0), limit)
    return primal - (s * (y @ r) - 0.5 * s * s * (r @ r)) / n


def assert_solved(model, X, Y, alphas, slack=0.0):
    """Every target of a fitted BatchLasso has the gap that it reports, and the one that was asked for."""
    X, Y = np.asarray(X, dtype=np.float64), np.asarray(Y, dtype=np.float64)
    columns = Y.reshape(len(Y), -1).T
    coefs = np.atleast_2d(model.coef_.toarray() if scipy.sparse.issparse(model.coef_) else model.coef_)
    intercepts = np.broadcast_to(model.intercept_, len(columns))
    gaps = np.atleast_1d(model.dual_gap_)
    for y, coef, intercept, alpha, gap in zip(columns, coefs, intercepts, np.broadcast_to(alphas, len(columns)), gaps):
        centred = y - y.mean() if model.fit_intercept else y
        energy = centred @ centred / (2 * len(y))
        features = X - X.mean(axis=0) if model.fit_intercept else X
        own = gap_of(features, centred, coef, 0.0, alpha, model.weights, model.positive)
        rounding = 1e-12 * energy + slack
        assert -rounding <= own <= gap + rounding
        assert gap <= 2 * model.tol * energy * (1 + 1e-9) + 1e-300


def ran(check, estimator):
    """Whether a check of scikit-learn passes: None, or what it raised. One that skips itself passes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            check(estimator)
        except SkipTest:
            return None
        except Exception as error:  # whatever a check raises is its verdict
            return error
    return None


def test_check_estimator():
    estimator_checks.check_estimator(BatchLasso())


@pytest.mark.parametrize(
    "parameters",
    [dict(positive=True), dict(sparse_coef=True), dict(fit_intercept=False, warm_start=True), dict(solver="fista")],
)
def test_check_estimator_with_other_parameters(parameters):
    estimator_checks.check_estimator(BatchLasso(**parameters))


def coder_checks(Coder):
    """What scikit-learn's own checks say of a sparse coder, by their names."""
    rng = np.random.RandomState(0)
    if hasattr(estimator_checks, "estimator_checks_generator"):
        from sklearn.utils._test_common import instance_generator

        # scikit-learn gives SparseCoder a dictionary that suits each check.
        table = instance_generator.PER_ESTIMATOR_CHECK_PARAMS
        added = Coder not in table
        if added:
            table[Coder] = table[SparseCoder]
        try:
            pairs = list(estimator_checks.estimator_checks_generator(Coder(rng.normal(size=(5, 3)))))
        finally:
            if added:
                del table[Coder]
    else:
        # scikit-learn's own tests of SparseCoder have these.
        name = Coder.__name__
        pairs = [
            (Coder(rng.normal(size=(40, 3))), partial(check, name))
            for check in (
                estimator_checks.check_transformer_data_not_an_array,
                estimator_checks.check_transformer_general,
                partial(estimator_checks.check_transformer_general, readonly_memmap=True),
                estimator_checks.check_transformers_unfitted,
                estimator_checks.check_transformer_preserve_dtypes,
                estimator_checks.check_parameters_default_constructible,
                estimator_checks.check_get_params_invariance,
                estimator_checks.check_set_params,
            )
        ]
    names = [f"{i} {check}".replace(Coder.__name__, "").split(" at 0x")[0] for i, (_, check) in enumerate(pairs)]
    return {name: ran(check, estimator) for name, (estimator, check) in zip(names, pairs)}


def test_sparse_coder_passes_the_checks_that_scikit_learns_passes():
    ours, theirs = coder_checks(BatchSparseCoder), coder_checks(SparseCoder)
    assert len(ours) == len(theirs) >= 8
    assert not {name: error for name, error in ours.items() if error is not None and theirs[name] is None}


# The toy cases of scikit-learn's test_coordinate_descent.py.


def test_lasso_zero():
    model = BatchLasso(alpha=0.1).fit([[0], [0], [0]], [0, 0, 0])
    assert_array_equal(model.coef_, [0])
    assert_array_equal(model.predict([[1], [2], [3]]), [0, 0, 0])
    assert model.dual_gap_ == 0


@pytest.mark.parametrize("alpha, coef", [(1e-8, 1.0), (0.1, 0.85), (0.5, 0.25), (1.0, 0.0)])
def test_lasso_toy(alpha, coef):
    model = BatchLasso(alpha=alpha).fit([[-1], [0], [1]], [-1, 0, 1])
    assert_allclose(model.coef_, [coef], atol=5e-7)
    assert_allclose(model.predict([[2], [3], [4]]), [2 * coef, 3 * coef, 4 * coef], atol=5e-6)
    assert model.dual_gap_ == pytest.approx(0, abs=1e-7)
    assert isinstance(model.dual_gap_, float) and isinstance(model.n_iter_, int) and model.n_iter_ >= 1


def test_lasso_positive_constraint():
    assert BatchLasso(alpha=0.1, positive=True).fit([[-1], [0], [1]], [1, 0, -1]).coef_.min() >= 0


def test_lasso_readonly_data():
    with TempMemmap((np.array([[-1], [0], [1]]), np.array([-1, 0, 1]))) as (X, y):
        model = BatchLasso(alpha=0.5).fit(X, y)
    assert_allclose(model.coef_, [0.25], atol=1e-6)
    assert_allclose(model.predict([[2], [3], [4]]), [0.5, 0.75, 1.0], atol=1e-5)


def test_lasso_non_float_y():
    X = [[0, 0], [1, 1], [-1, -1]]
    of_ints, of_floats = (BatchLasso(fit_intercept=False).fit(X, y) for y in ([0, 1, 2], [0.0, 1.0, 2.0]))
    assert_array_equal(of_ints.coef_, of_floats.coef_)


def test_coef_shape_not_zero():
    assert BatchLasso(fit_intercept=False).fit(np.ones((3, 1)), np.ones(3)).coef_.shape == (1,)


def test_uniform_targets_are_predicted_exactly():
    rng = np.random.RandomState(0)
    X, X_test = rng.random_sample((10, 3)), rng.random_sample((10, 3))
    for value in (0, 5, 0.1):
        y = np.full(10, value)
        assert_array_equal(BatchLasso(alpha=1e-10).fit(X, y).predict(X_test), y)
    Y = np.full((10, 2), [0.1, 1 / 3])
    assert_array_equal(BatchLasso(alpha=1e-10).fit(X, Y).predict(X_test), Y)


def test_dual_gap_is_in_the_scaling_of_scikit_learn():
    X, y = build_dataset(n_samples=10, n_features=30)
    alpha = 0.01 * np.max(np.abs(X.T @ y)) / len(y)
    for fit_intercept in (False, True):
        model = BatchLasso(alpha=alpha, fit_intercept=fit_intercept, tol=1e-3, solver="fista").fit(X, y)
        own = gap_of(X, y, model.coef_, model.intercept_, alpha)
        assert 0 < own and model.dual_gap_ == pytest.approx(own, rel=1e-6)


def test_convergence_warning():
    X, y = np.array([[-1.0, -1.0, 1.0, 1.0], [1.0, 1.0, -1.0, -1.0]]), np.array([-1.0, 1.0])
    model = BatchLasso(alpha=1e-10, fit_intercept=False, warm_start=True, max_iter=1, tol=1e-10, solver="fista")
    model.coef_ = np.array([1.0, 1.0, 1.0, 1000.0])
    with pytest.warns(ConvergenceWarning):
        model.fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        BatchLasso().fit(*build_dataset(200, 100, n_targets=3))


# Against scikit-learn and the definition of the problem.


@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_agrees_with_lasso_target_by_target(dtype, fit_intercept, positive):
    X, Y = build_dataset(30, 20, n_targets=4)
    X, Y = (X + 2).astype(dtype), (Y - 3).astype(dtype)
    alphas = np.array([0.01, 0.1, 0.5, 100.0])
    model = BatchLasso(alphas, fit_intercept=fit_intercept, positive=positive, tol=1e-12).fit(X, Y)
    assert model.coef_.shape == (4, 20) and model.coef_.dtype == np.float64
    assert model.dual_gap_.shape == model.n_iter_.shape == (4,)
    assert_solved(model, X, Y, alphas)
    for k, alpha in enumerate(alphas):
        theirs = Lasso(alpha, fit_intercept=fit_intercept, positive=positive, tol=1e-12, max_iter=100_000)
        theirs.fit(X.astype(np.float64), Y[:, k].astype(np.float64))
        assert_allclose(model.coef_[k], theirs.coef_, atol=5e-5)
        assert_allclose(np.broadcast_to(model.intercept_, 4)[k], theirs.intercept_, atol=2e-4)
        one = clone(model).set_params(alpha=alpha).fit(X, Y[:, k])
        assert one.coef_.shape == (20,) and isinstance(one.intercept_, float)
        assert_allclose(one.coef_, model.coef_[k], atol=1e-9)
    expected = X.astype(np.float64) @ model.coef_.T + model.intercept_
    assert_allclose(model.predict(X), expected, rtol=1e-6, atol=1e-6)


def test_targets_in_two_dimensions_stay_in_two():
    X, y = build_dataset(20, 5)
    flat, column = BatchLasso(0.1).fit(X, y), BatchLasso(0.1).fit(X, y[:, None])
    assert column.coef_.shape == (1, 5) and column.intercept_.shape == column.dual_gap_.shape == (1,)
    assert column.predict(X).shape == (20, 1)
    assert_array_equal(column.predict(X)[:, 0], flat.predict(X))


@pytest.mark.parametrize("tol", [1e-2, 1e-6, 1e-12])
@pytest.mark.parametrize("solver", ["auto", "fista"])
def test_tol_is_the_rule_of_scikit_learn(tol, solver):
    X, Y = build_dataset(30, 50, n_targets=3)
    model = BatchLasso(0.05, tol=tol, solver=solver).fit(X, Y)
    assert_solved(model, X, Y, 0.05)
    assert_array_equal(model.dual_gap_ <= tol * Y.var(axis=0) * (1 + 1e-9), True)


def test_alpha_in_the_scaling_of_scikit_learn():
    X, y = build_dataset(40, 20)
    centred, y_centred = X - X.mean(axis=0), y - y.mean()
    alpha_max = np.abs(centred.T @ y_centred).max() / len(y)
    assert np.count_nonzero(BatchLasso(alpha_max * 1.000001).fit(X, y).coef_) == 0
    assert np.count_nonzero(BatchLasso(alpha_max * 0.999, tol=1e-12).fit(X, y).coef_) == 1
    result = shrinkwarp.lasso(centred, y_centred, lam=40 * 0.1, gap=2e-12)
    model = BatchLasso(0.1, tol=1e-12).fit(X, y)
    assert_allclose(model.coef_, result.codes.toarray()[0], atol=1e-12)
    assert model.dual_gap_ == pytest.approx(result.dual_gap[0] / 40, rel=1e-3, abs=1e-15)


def test_n_iter_is_one_where_nothing_is_to_be_done():
    X, y = build_dataset(100, 50)  # celer's test_one_iteration_alpha_max
    model = BatchLasso(alpha=5 * np.abs(X.T @ y).max() / 100, fit_intercept=False).fit(X, y)
    assert_array_equal(model.coef_, 0)
    assert model.n_iter_ == 1


def test_alpha_of_zero_is_least_squares():
    for n_samples, n_features in ((40, 5), (5, 20)):
        X, Y = build_dataset(n_samples, n_features, n_targets=3)
        for fit_intercept in (False, True):
            model = BatchLasso(0, fit_intercept=fit_intercept).fit(X, Y)
            theirs = LinearRegression(fit_intercept=fit_intercept).fit(X, Y)
            assert_allclose(model.coef_, theirs.coef_, atol=1e-9)
            assert_allclose(model.intercept_, theirs.intercept_, atol=1e-9)


@pytest.mark.parametrize("solver", ["auto", "fista"])
def test_warm_start(solver):
    X, Y = build_dataset(n_targets=3)
    model = BatchLasso(0.01, solver=solver).fit(X, Y)
    cold, coef = model.n_iter_, model.coef_
    assert_array_equal(model.fit(X, Y).n_iter_, cold)  # without warm_start nothing is remembered
    assert_array_equal(model.coef_, coef)
    model.set_params(warm_start=True).fit(X, Y)
    assert_array_equal(model.n_iter_, 1)
    assert_solved(model, X, Y, 0.01)
    model.set_params(alpha=0.009).fit(X, Y)
    assert_solved(model, X, Y, 0.009)
    if solver == "fista":
        assert cold.min() > 2 and model.n_iter_.sum() < BatchLasso(0.009, solver=solver).fit(X, Y).n_iter_.sum()
    message = "BatchLasso: warm_start: found coef_ of 3 targets and 200 features, wanted 1 and 7"
    with pytest.raises(ValueError, match=message):
        model.fit(X[:, :7], Y[:, 0])


def test_warm_start_from_coefficients_that_were_set():
    X, y = build_dataset(100, 60)
    solved = BatchLasso(0.05).fit(X, y)
    model = BatchLasso(0.05, warm_start=True, sparse_coef=True, solver="fista")
    model.coef_ = solved.coef_
    model.fit(X, y)
    assert model.n_iter_ == 1
    assert_allclose(model.coef_.toarray()[0], solved.coef_, atol=1e-6)
    assert model.fit(X, y).n_iter_ == 1


def test_copy_semantics():
    X, Y = build_dataset(20, 10, n_targets=2)
    for order in "CF":
        kept, kept_Y = X.copy(order=order), Y.copy(order=order)
        reference = BatchLasso(0.1).fit(kept, kept_Y).coef_
        assert_array_equal(kept, X)
        BatchLasso(0.1, fit_intercept=False, copy_X=False).fit(kept, kept_Y)
        assert_array_equal(kept, X)
        read_only = kept.view()
        read_only.flags.writeable = False
        assert_array_equal(BatchLasso(0.1, copy_X=False).fit(read_only, kept_Y).coef_, reference)
        assert_array_equal(kept, X)
        assert_array_equal(BatchLasso(0.1, copy_X=False).fit(kept, kept_Y).coef_, reference)
        assert_allclose(kept, X - X.mean(axis=0), atol=1e-14)  # overwritten
        assert_array_equal(kept_Y, Y)


def test_parameters_are_not_changed_by_fit():
    X, Y = build_dataset(20, 10, n_targets=2)
    alpha, weights = np.array([0.1, 0.2]), np.arange(1.0, 11.0)
    model = BatchLasso(alpha, weights=weights).fit(X, Y)
    assert model.alpha is alpha and model.weights is weights
    assert_array_equal(alpha, [0.1, 0.2])
    assert_array_equal(weights, np.arange(1.0, 11.0))


def test_sparse_coefficients():
    X, Y = build_dataset(n_targets=5)
    dense, sparse = (BatchLasso(0.1, sparse_coef=flag).fit(X, Y) for flag in (False, True))
    assert scipy.sparse.issparse(sparse.coef_) and sparse.coef_.format == "csr"
    assert_array_equal(sparse.coef_.toarray(), dense.coef_)
    assert_array_equal(dense.sparse_coef_.toarray(), dense.coef_)
    assert sparse.sparse_coef_ is sparse.coef_
    assert_allclose(sparse.predict(X), dense.predict(X), rtol=1e-12)
    one = BatchLasso(0.1, sparse_coef=True).fit(X, Y[:, 0])
    assert one.coef_.shape == (1, 200) and one.predict(X).shape == (50,)
    with pytest.raises(NotFittedError):
        BatchLasso().sparse_coef_


def test_sparse_X_is_refused():
    X, y = build_dataset(10, 5)
    with pytest.raises(TypeError, match="BatchLasso: X: .*[Ss]parse.*dense data is required"):
        BatchLasso().fit(scipy.sparse.csr_matrix(X), y)
    with pytest.raises(TypeError, match="BatchLasso: y: .*[Ss]parse.*dense data is required"):
        BatchLasso().fit(X, scipy.sparse.csr_matrix(y))


def test_within_scikit_learn():
    X, Y = build_dataset(40, 10, n_targets=2)
    pipeline = make_pipeline(StandardScaler(), BatchLasso(0.01)).fit(X, Y)
    assert pipeline.score(X, Y) > 0.9
    assert cross_val_predict(BatchLasso(0.01), X, Y).shape == Y.shape
    search = GridSearchCV(BatchLasso(), {"alpha": [0.01, 10.0, np.array([0.01, 0.02])]}, cv=3).fit(X, Y)
    assert search.best_score_ > 0.9 and np.max(search.best_params_["alpha"]) < 1
    model = BatchLasso(np.array([0.01, 0.02]), weights=np.ones(10)).fit(X, Y)
    again = pickle.loads(pickle.dumps(model))
    assert_array_equal(again.predict(X), model.predict(X))
    copied = clone(model)
    assert not hasattr(copied, "coef_")
    assert_array_equal(copied.fit(X, Y).coef_, model.coef_)


# celer's cases of weights.


def test_weighted_lasso_is_the_lasso_of_rescaled_features():
    X, y = build_dataset(30, 50)
    weights = np.abs(np.random.RandomState(0).randn(50))
    for alpha in (0.001, 0.1):
        weighted = BatchLasso(alpha, weights=weights, fit_intercept=False, tol=1e-13).fit(X, y)
        rescaled = BatchLasso(alpha, fit_intercept=False, tol=1e-13).fit(X / weights, y)
        assert_solved(weighted, X, y, alpha)
        assert_allclose(weighted.coef_, rescaled.coef_ / weights, atol=1e-5)


@pytest.mark.parametrize("fit_intercept", [False, True])
def test_infinite_weights_leave_features_out(fit_intercept):
    X, Y = build_dataset(50, 100, n_targets=3)
    rng = np.random.RandomState(1)
    weights = np.abs(rng.randn(100))
    left_out = rng.choice(100, size=10, replace=False)
    weights[left_out] = np.inf
    alpha = 0.01 * np.abs(X.T @ Y / weights[:, None]).max() / 50
    model = BatchLasso(alpha, weights=weights, fit_intercept=fit_intercept, tol=1e-12).fit(X, Y)
    assert_array_equal(model.coef_[:, left_out], 0)
    assert_solved(model, X, Y, alpha)
    kept = np.isfinite(weights)
    without = BatchLasso(alpha, weights=weights[kept], fit_intercept=fit_intercept, tol=1e-12).fit(X[:, kept], Y)
    assert_allclose(model.coef_[:, kept], without.coef_, atol=1e-5)


def test_all_weights_infinite():
    X, y = build_dataset(10, 4)
    model = BatchLasso(0.1, weights=np.full(4, np.inf)).fit(X, y)
    assert_array_equal(model.coef_, 0)
    assert model.intercept_ == pytest.approx(y.mean())


@pytest.mark.parametrize("fit_intercept", [False, True])
def test_weights_of_zero_leave_features_unpenalised(fit_intercept):
    X, y = build_dataset(40, 20)
    weights = np.ones(20)
    weights[[3, 17]] = 0
    alpha = 10 * np.abs(X.T @ y).max() / 40  # over every lambda_max: what is left is least squares
    model = BatchLasso(alpha, weights=weights, fit_intercept=fit_intercept).fit(X, y)
    least_squares = LinearRegression(fit_intercept=fit_intercept).fit(X[:, [3, 17]], y)
    assert_allclose(model.coef_[[3, 17]], least_squares.coef_, rtol=1e-9)
    assert_allclose(model.intercept_, least_squares.intercept_, atol=1e-9)
    assert np.count_nonzero(model.coef_) == 2
    # A weight of 0 is the limit of small ones.
    unpenalised, small = (
        BatchLasso(0.05, weights=np.where(weights == 0, w, weights), fit_intercept=fit_intercept, tol=1e-12).fit(X, y)
        for w in (0, 1e-5)
    )
    assert_solved(small, X, y, 0.05, slack=1e-9)  # the rounding of correlations is divided by the smallest weight
    assert_allclose(unpenalised.coef_, small.coef_, atol=2e-5)


def test_a_constant_feature_of_weight_zero_is_the_intercept():
    X, y = build_dataset(30, 6)
    X[:, 2] = 0.1
    weights = np.array([1.0, 1, 0, 1, 1, 1])
    model = BatchLasso(0.1, weights=weights, tol=1e-12).fit(X, y)
    assert model.coef_[2] == 0
    without = BatchLasso(0.1, weights=weights, fit_intercept=False, tol=1e-12).fit(X, y)
    assert_allclose(without.coef_[2] * 0.1, model.intercept_, atol=1e-5)
    assert_allclose(np.delete(without.coef_, 2), np.delete(model.coef_, 2), atol=1e-5)


@pytest.mark.parametrize("fit_intercept", [False, True])
def test_agrees_with_celer(fit_intercept):
    celer = pytest.importorskip("celer")
    X, Y = build_dataset(50, 100, n_targets=3)
    weights = np.abs(np.random.RandomState(2).randn(100)) + 0.1
    weights[5:15] = np.inf
    for alpha in (0.02, 0.3):
        model = BatchLasso(alpha, weights=weights, fit_intercept=fit_intercept, tol=1e-12).fit(X, Y)
        for k in range(3):
            theirs = celer.Lasso(alpha, weights=weights, fit_intercept=fit_intercept, tol=1e-12).fit(X, Y[:, k])
            assert_allclose(model.coef_[k], theirs.coef_, atol=5e-5)


# BatchSparseCoder.


def coding_problem(n_samples=12, n_features=8, n_components=20, seed=0, dtype=np.float64):
    rng = np.random.RandomState(seed)
    V = rng.randn(n_components, n_features)
    V /= np.linalg.norm(V, axis=1, keepdims=True)
    return V.astype(dtype), rng.randn(n_samples, n_features).astype(dtype)


@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("alpha", [None, 0.05, 0.4])
def test_transform_alpha_is_that_of_sparse_coder(alpha, positive):
    V, X = coding_problem()
    ours = BatchSparseCoder(V, transform_alpha=alpha, positive_code=positive, tol=1e-13).transform(X)
    assert np.count_nonzero(ours) > 0

    def theirs(algorithm):
        options = dict(transform_alpha=alpha, positive_code=positive, transform_max_iter=100_000)
        return SparseCoder(V, transform_algorithm=algorithm, **options).transform(X)

    assert_allclose(ours, theirs("lasso_lars"), atol=1e-6)
    # lasso_cd stops at a gap of about 1e-8 ||x||^2, which bounds objectives: those of transform_alpha as it is.

    def objectives(codes):
        return 0.5 * ((X - codes @ V) ** 2).sum(axis=1) + (1 if alpha is None else alpha) * np.abs(codes).sum(axis=1)

    distance = objectives(theirs("lasso_cd")) - objectives(ours)
    energy = (X**2).sum(axis=1)
    assert (distance >= -1e-12 * energy).all() and (distance <= 1e-6 * energy).all()


def test_encode_tells_gaps_and_transform_its_codes():
    V, X = coding_problem()
    coder = BatchSparseCoder(V, transform_alpha=0.1, tol=1e-9)
    result = coder.encode(X)
    assert isinstance(result, shrinkwarp.LassoResult) and result.converged.all()
    assert_array_equal(result.codes.toarray(), coder.transform(X))
    assert_array_equal(result.dual_gap <= 1e-9 * (X**2).sum(axis=1), True)
    for x, z, gap in zip(X, result.codes.toarray(), result.dual_gap):
        own = len(x) * gap_of(V.T, x, z, 0.0, 0.1 / len(x))
        assert -1e-12 <= own <= gap + 1e-12


def test_forms_of_codes():
    V, X = coding_problem()
    codes = BatchSparseCoder(V, transform_alpha=0.1).transform(X)
    assert isinstance(codes, np.ndarray) and codes.shape == (12, 20) and (codes < 0).any()
    sparse = BatchSparseCoder(V, transform_alpha=0.1, sparse_output=True).transform(X)
    assert sparse.format == "csr"
    assert_array_equal(sparse.toarray(), codes)
    for sparse_output in (False, True):
        coder = BatchSparseCoder(V, transform_alpha=0.1, split_sign=True, sparse_output=sparse_output)
        split = coder.transform(X)
        back = coder.inverse_transform(split)
        split = split.toarray() if sparse_output else split
        assert_array_equal(split, np.hstack([np.maximum(codes, 0), np.maximum(-codes, 0)]))
        assert_allclose(back, codes @ V, atol=1e-12)
        assert len(coder.fit(X).get_feature_names_out()) == 40
    plain = BatchSparseCoder(V, transform_alpha=0.1)
    assert_allclose(plain.inverse_transform(codes), codes @ V, atol=1e-12)
    with pytest.raises(ValueError, match="BatchSparseCoder: X: found 19 columns, wanted 20"):
        plain.inverse_transform(codes[:, :19])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_codes_have_the_type_of_the_samples(dtype):
    V, X = coding_problem(dtype=dtype)
    codes = BatchSparseCoder(V, transform_alpha=0.1).transform(X)
    assert codes.dtype == dtype
    assert_allclose(codes, BatchSparseCoder(V.astype(float), transform_alpha=0.1).transform(X.astype(float)), atol=1e-4)


def test_coder_within_scikit_learn():
    V, X = coding_problem()
    coder = BatchSparseCoder(V, transform_alpha=0.1)
    codes = coder.transform(X)  # needs no fit
    assert not hasattr(coder, "n_features_in_")
    assert_array_equal(coder.fit_transform(X), codes)
    assert coder.n_features_in_ == 8 and coder.n_components_ == 20
    assert list(coder.get_feature_names_out()) == [f"batchsparsecoder{i}" for i in range(20)]
    assert_array_equal(pickle.loads(pickle.dumps(coder)).transform(X), codes)
    copied = clone(coder)
    assert copied.dictionary is not V and not hasattr(copied, "n_features_in_")
    assert_array_equal(copied.transform(X), codes)
    # After fit another dictionary is noticed, and so is another alpha.
    coder.set_params(dictionary=2 * V, transform_alpha=0.2)
    assert_allclose(coder.transform(X), codes / 2, atol=1e-4)
    model = make_pipeline(BatchSparseCoder(V, transform_alpha=0.01), BatchLasso(1e-3)).fit(X, X)
    assert model.score(X, X) > 0.9


def test_coder_with_features_of_another_number():
    V, X = coding_problem()
    message = "BatchSparseCoder: X: found 7 features, wanted 8, as many as the dictionary has"
    for call in ("fit", "transform", "encode"):
        with pytest.raises(ValueError, match=message):
            getattr(BatchSparseCoder(V), call)(X[:, :7])
    with pytest.raises(ValueError, match="BatchSparseCoder: X: X has 7 features, but BatchSparseCoder is expecting 8"):
        BatchSparseCoder(V).fit(X).transform(X[:, :7])


# What is written.


def test_docstrings():
    assert doctest.testmod(shrinkwarp.sklearn).failed == 0
