"""Estimators for scikit-learn: a Lasso of very many targets, and sparse coding with a fixed dictionary.

`BatchLasso` is `sklearn.linear_model.Lasso` for many targets at once, `BatchSparseCoder` is
`sklearn.decomposition.SparseCoder` with its algorithms ``lasso_lars`` and ``lasso_cd``. What they call alpha,
coefficients and intercept is what scikit-learn calls so. They work with scikit-learn from 1.2 on. Both take dask
arrays as well.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any, Iterator, Optional

import numpy as np
import scipy.sparse
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    MultiOutputMixin,
    RegressorMixin,
    TransformerMixin,
)
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted

from . import Dictionary, LassoResult
from . import _arguments as arguments
from ._arguments import is_dask

try:
    from sklearn.utils.validation import validate_data as _validate_data
except ImportError:  # before scikit-learn 1.6

    def _validate_data(estimator, *args, **kwargs):
        return estimator._validate_data(*args, **kwargs)


__all__ = ["BatchLasso", "BatchSparseCoder"]

_FLOATS = (np.float64, np.float32)
_SMALLEST_TOL = 1e-14  # lasso's gap is twice a tol, and float64 certifies none under 2e-14
_SMALLEST_WEIGHT, _LARGEST_WEIGHT = 1e-18, 1e18


@contextmanager
def _naming(estimator: BaseEstimator, argument: str) -> Iterator[None]:
    """Errors from inside begin with the estimator's name and the argument's."""
    name = f"{type(estimator).__name__}: {argument}: "
    try:
        yield
    except TypeError as error:
        raise TypeError(name + str(error)) from error
    except (ValueError, OverflowError) as error:
        raise ValueError(name + str(error)) from error


@contextmanager
def _in_range(estimator: BaseEstimator, whose: str) -> Iterator[None]:
    """Says of numbers that are beyond float64 whose they are: the solver knows its arguments by other names."""
    try:
        yield
    except ValueError as error:
        if "the range of float64" not in str(error):
            raise
        raise ValueError(
            f"{type(estimator).__name__}: {whose}: found numbers whose products leave the range of float64, "
            f"wanted them in closer units"
        ) from error


def _refuse_non_numbers(estimator: BaseEstimator, argument: str, value: Any) -> None:
    """Refuses arrays of strings, dates and the like, which scikit-learn would convert; complex ones it refuses."""
    dtype = getattr(value, "dtype", None)
    if isinstance(dtype, np.dtype) and dtype.kind not in "biufcO":
        raise TypeError(f"{type(estimator).__name__}: {argument}: found elements of type {dtype}, wanted real numbers")


def _prepared(estimator: BaseEstimator, D: np.ndarray, missed: str) -> Dictionary:
    """A dictionary whose messages begin with the estimator's name."""
    dictionary = Dictionary._of(type(estimator).__name__, D, estimator.device, estimator.threads)
    dictionary._missed = missed
    return dictionary


def _flag(estimator: BaseEstimator, argument: str) -> bool:
    return arguments.flag(type(estimator).__name__, argument, getattr(estimator, argument))


def _number(estimator: BaseEstimator, argument: str, least: float) -> float:
    return arguments.number(type(estimator).__name__, argument, getattr(estimator, argument), least=least)


def _count(estimator: BaseEstimator, argument: str) -> int:
    return arguments.integer(type(estimator).__name__, argument, getattr(estimator, argument), 1)


def _numbers(estimator: BaseEstimator, argument: str, wanted: str) -> np.ndarray:
    """A float64 array of whatever shape, made of real numbers."""
    value = getattr(estimator, argument)
    with _naming(estimator, argument):
        try:
            array = np.asarray(value)
        except (TypeError, ValueError):  # rows of several lengths, say
            raise ValueError(f"found {arguments.shown(value)}, {wanted}") from None
        if array.dtype.kind not in "iuf":
            raise TypeError(f"found {arguments.shown(value)}, {wanted}")
        return np.asarray(array, dtype=np.float64)


class BatchLasso(MultiOutputMixin, RegressorMixin, BaseEstimator):
    r"""Lasso for many targets that share their features, each solved to a certified gap.

    For each target y, a column of ``y`` in `fit`, it minimises

    .. math:: \frac{1}{2 n} \|y - X c - b\|^2 + \alpha \sum_j w_j |c_j|,   n = n_samples

    over coefficients c and, with ``fit_intercept``, an intercept b: the objective of `sklearn.linear_model.Lasso`. In
    the words of `shrinkwarp.lasso` the dictionary is ``X``, the observations are the columns of ``y``, and all of the
    objective is multiplied by n: ``lam = n_samples * alpha``, ``gap = 2 * tol``.

    Parameters
    ----------
    alpha : float or array of shape (n_targets,), default=1.0
        Weight of the l1 norm, >= 0, of all targets or of each. 0 for all is least squares, of least norm.
    fit_intercept : bool, default=True
        Fits an intercept, which is not penalised, by centring features and targets in float64.
    positive : bool, default=False
        Coefficients are to be >= 0.
    weights : array of shape (n_features,), default=None
        w, >= 0; None is 1 for all. 0 leaves a feature unpenalised (not with ``positive``), infinity leaves it out.
    tol : float, default=1e-6
        A target is done when ``dual_gap_ <= tol * ||y - b_0||^2 / n_samples``, where b_0 is its mean with
        ``fit_intercept`` and else 0. That is the rule of `Lasso`, whose own default is 1e-4. At least 1e-14.
    max_iter : int, default=100000
        Iterations for each target, counted as `shrinkwarp.lasso` counts them.
    warm_start : bool, default=False
        Starts at the coefficients of the last `fit`, which needs targets and features of the same number.
    copy_X : bool, default=True
        False allows a float64 ``X`` to be centred where it lies, so that it is overwritten. Without an intercept ``X``
        is never overwritten.
    sparse_coef : bool, default=False
        ``coef_`` is a SciPy CSR matrix with a row for each target, for targets so many that dense ones have no room.
    solver, device, threads
        As in `shrinkwarp.lasso`.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,) or (n_targets, n_features), or CSR matrix of shape (n_targets, n_features)
        Coefficients, float64; of one row for each target where ``y`` has two dimensions, one target included.
    sparse_coef_ : CSR matrix of shape (n_targets, n_features)
        The same.
    intercept_ : float or ndarray of shape (n_targets,)
        Intercepts; 0.0 with ``fit_intercept=False``.
    dual_gap_ : float or ndarray of shape (n_targets,)
        How far the objective above can be from its minimum at most: `shrinkwarp.lasso`'s ``dual_gap / n_samples``.
    n_iter_ : int or ndarray of shape (n_targets,)
        Iterations; as in scikit-learn at least 1, also where there was nothing to do.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Notes
    -----
    Targets that do not reach their gap within ``max_iter`` have `sklearn.exceptions.ConvergenceWarning` issued.
    Sparse ``X`` is refused: the solver's products are dense.

    Examples
    --------
    >>> from shrinkwarp.sklearn import BatchLasso
    >>> model = BatchLasso(alpha=0.1).fit([[-1], [0], [1]], [-1, 0, 1])
    >>> model.coef_.round(6), round(model.intercept_, 6)
    (array([0.85]), 0.0)
    """

    def __init__(
        self,
        alpha=1.0,
        *,
        fit_intercept=True,
        positive=False,
        weights=None,
        tol=1e-6,
        max_iter=100_000,
        warm_start=False,
        copy_X=True,
        sparse_coef=False,
        solver="auto",
        device="auto",
        threads=None,
    ):
        self.alpha = alpha
        self.fit_intercept = fit_intercept
        self.positive = positive
        self.weights = weights
        self.tol = tol
        self.max_iter = max_iter
        self.warm_start = warm_start
        self.copy_X = copy_X
        self.sparse_coef = sparse_coef
        self.solver = solver
        self.device = device
        self.threads = threads

    def fit(self, X, y) -> "BatchLasso":
        """Fit all targets.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Features.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Targets. Of a dask array with two dimensions each block of columns is a task, and ``coef_``, ``intercept_``,
            ``dual_gap_`` and ``n_iter_`` are dask arrays, which are persisted; other dask arrays are computed first.

        Returns
        -------
        self : BatchLasso

        Raises
        ------
        ValueError, TypeError
            An argument or a parameter of the estimator is not as wanted; the message names it.
        """
        fit_intercept, positive = _flag(self, "fit_intercept"), _flag(self, "positive")
        warm_start, copy_X, sparse_coef = (_flag(self, name) for name in ("warm_start", "copy_X", "sparse_coef"))
        tol, max_iter = _number(self, "tol", _SMALLEST_TOL), _count(self, "max_iter")
        X = X.compute() if is_dask(X) else X
        if is_dask(y) and y.ndim == 2:
            return self._fit_blocks(X, y, warm_start)
        X, y = self._checked(X, y.compute() if is_dask(y) else y)
        n_samples, n_features = X.shape
        one_target = y.ndim == 1
        y = y.reshape(n_samples, -1)
        n_targets = y.shape[1]
        lam = n_samples * self._alphas(n_targets)
        weights = self._weights(n_features, positive)
        initial = self._initial(n_targets, n_features) if warm_start else None
        initial = initial.compute() if is_dask(initial) else initial

        if fit_intercept:
            X, X_mean = _centred(type(self).__name__, X, "X", in_place=not copy_X)
            y, y_mean = _centred(type(self).__name__, y, "y")
        with _in_range(self, "X and y"):
            dictionary = _prepared(self, X, "`dual_gap_` says which, and a larger max_iter may help")
            result = dictionary._solve(
                type(self).__name__,
                y.T,
                lam,
                gap=2 * tol,
                solver=self.solver,
                weights=weights,
                nonnegative=positive,
                warm_start=initial,
                max_iterations=max_iter,
            )

        self.dual_gap_ = result.dual_gap / n_samples
        self.n_iter_ = np.maximum(result.iterations, 1)
        self.intercept_ = y_mean - result.codes @ X_mean if fit_intercept else 0.0
        self.coef_ = result.codes if sparse_coef else result.codes.toarray()
        if one_target:
            self.dual_gap_, self.n_iter_ = float(self.dual_gap_[0]), int(self.n_iter_[0])
            if fit_intercept:
                self.intercept_ = float(self.intercept_[0])
            if not sparse_coef:
                self.coef_ = self.coef_[0]
        self._one_target = one_target
        return self

    def predict(self, X) -> np.ndarray:
        """Predict the targets of samples.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_targets)
            As ``y`` was in `fit`. A dask array, which nothing computes here, where X is one or ``coef_`` is.
        """
        check_is_fitted(self)
        if is_dask(X) or is_dask(self.coef_):
            return self._predict_blocks(X)
        with _naming(self, "X"):
            X = _validate_data(self, X, dtype=_FLOATS, reset=False)
        if not scipy.sparse.issparse(self.coef_):
            return X @ self.coef_.T + self.intercept_
        products = (self.coef_ @ X.T).T + self.intercept_
        return products[:, 0] if self._one_target else products

    @property
    def sparse_coef_(self):
        """`coef_` as a CSR matrix of shape (n_targets, n_features), or a dask array of such."""
        check_is_fitted(self)
        if is_dask(self.coef_):
            return self._codes
        if scipy.sparse.issparse(self.coef_):
            return self.coef_
        return scipy.sparse.csr_matrix(np.atleast_2d(self.coef_))

    def _checked(self, X, y) -> tuple:
        """Finite X of float32 or float64 and y of float64, or of float32 like X."""
        _refuse_non_numbers(self, "X", X)
        with _naming(self, "X"):
            X = _validate_data(self, X, dtype=_FLOATS)
        if y is None:
            raise ValueError(
                f"{type(self).__name__}: y: found None, wanted targets: fit requires y to be passed, but the target y "
                f"is None"
            )
        _refuse_non_numbers(self, "y", y)
        with _naming(self, "y"):
            y = check_array(y, dtype=None, ensure_2d=False, ensure_min_samples=0, ensure_min_features=0)
            if y.dtype.kind not in "biufO":
                raise TypeError(f"found {arguments.shown(y)}, wanted real numbers")
            if y.ndim == 0 or y.size == 0:
                raise ValueError(f"found {arguments.shown(y)}, wanted (n_samples,) or (n_samples, n_targets), n_targets > 0")
            as_X = y.dtype == np.float32 and X.dtype == np.float32
            y = check_array(y, dtype=np.float32 if as_X else np.float64, ensure_2d=False)
            if y.shape[0] != X.shape[0]:
                raise ValueError(f"found {y.shape[0]} samples, wanted {X.shape[0]}, as many as X has")
        return X, y

    def _alphas(self, n_targets: int) -> Any:
        """alpha as a number, or an array with one for each target."""
        wanted = f"wanted a finite number >= 0, or an array of them of shape ({n_targets},), one for each target"
        alphas = _numbers(self, "alpha", wanted)
        if alphas.shape not in ((), (n_targets,)):
            raise ValueError(f"{type(self).__name__}: alpha: found an array of shape {alphas.shape}, {wanted}")
        bad = ~((alphas >= 0) & np.isfinite(alphas))
        if bad.any():
            raise ValueError(f"{type(self).__name__}: alpha: found {alphas[bad][0]}, {wanted}")
        return alphas if alphas.ndim else float(alphas)

    def _weights(self, n_features: int, positive: bool) -> Optional[np.ndarray]:
        if self.weights is None:
            return None
        smallest = "" if positive else "0, "
        wanted = (
            f"wanted an array of shape ({n_features},), one for each feature, of {smallest}infinity or numbers from "
            f"{_SMALLEST_WEIGHT:g} to {_LARGEST_WEIGHT:g}" + (" with positive=True" if positive else "")
        )
        weights = _numbers(self, "weights", wanted)
        if weights.shape != (n_features,):
            raise ValueError(f"{type(self).__name__}: weights: found an array of shape {weights.shape}, {wanted}")
        good = (weights >= _SMALLEST_WEIGHT) & (weights <= _LARGEST_WEIGHT) | (weights == np.inf)
        if not positive:
            good |= weights == 0
        if not good.all():
            raise ValueError(f"{type(self).__name__}: weights: found {weights[~good][0]}, {wanted}")
        return weights

    def _initial(self, n_targets: int, n_features: int):
        """The coefficients of the last fit as a CSR matrix, or None before the first."""
        if not hasattr(self, "coef_"):
            return None
        initial = self.sparse_coef_
        if initial.shape != (n_targets, n_features):
            raise ValueError(
                f"{type(self).__name__}: warm_start: found coef_ of {initial.shape[0]} targets and {initial.shape[1]} "
                f"features, wanted {n_targets} and {n_features} as in X and y, or warm_start=False"
            )
        return initial

    def _fit_blocks(self, X, y, warm_start: bool) -> "BatchLasso":
        """`fit` for targets in a dask array."""
        from . import dask as blocks

        name = type(self).__name__
        _refuse_non_numbers(self, "X", X)
        with _naming(self, "X"):
            X = _validate_data(self, X, dtype=_FLOATS)
        n_samples, n_features = X.shape
        if y.shape[0] != n_samples:
            raise ValueError(f"{name}: y: found {y.shape[0]} samples, wanted {n_samples}, as many as X has")
        y = blocks._in_row_blocks(name, "y", y.T, "a dask array (n_samples, n_targets) of numbers").T
        n_targets = y.shape[1]
        if n_targets == 0:
            raise ValueError(f"{name}: y: found shape {y.shape}, wanted (n_samples, n_targets), n_targets > 0")
        initial = self._initial(n_targets, n_features) if warm_start else None
        targets = y.T
        if self.fit_intercept:
            X, X_mean = _centred(name, X, "X", in_place=not self.copy_X)
            targets = y.map_blocks(_centred_targets, name, dtype=np.float64).T
        result = blocks._lasso(
            name,
            X,
            targets,
            self.device,
            initial,
            self.threads,
            lam=n_samples * self._alphas(n_targets),
            gap=2 * self.tol,
            solver=self.solver,
            weights=self._weights(n_features, self.positive),
            nonnegative=self.positive,
            max_iterations=self.max_iter,
        )
        fitted = {
            "_codes": result.codes,
            "dual_gap_": result.dual_gap / n_samples,
            "n_iter_": result.iterations.map_blocks(np.maximum, 1),
            "converged": result.converged,
        }
        if self.fit_intercept:
            means = y.map_blocks(_means, drop_axis=0, dtype=np.float64)
            offsets = result.codes.map_blocks(_products, X_mean, drop_axis=1, dtype=np.float64, meta=np.empty(0))
            fitted["intercept_"] = means - offsets
        fitted = blocks.persisted(fitted)
        blocks.warn_of_missed(name, fitted.pop("converged").compute(), 2 * self.tol,
                              "`dual_gap_` says which, and a larger max_iter may help", stacklevel=4)
        self.intercept_ = 0.0
        vars(self).update(fitted)
        self.coef_ = self._codes
        if not self.sparse_coef:
            self.coef_ = blocks.map_sparse(_dense, self._codes, n_features, False, np.float64)
        self._one_target = False
        return self

    def _predict_blocks(self, X):
        """`predict` where X or the coefficients are dask arrays."""
        from . import dask as blocks

        if is_dask(X):
            X = blocks._in_row_blocks(type(self).__name__, "X", X, "a dask array (n_samples, n_features) of numbers")
            if X.shape[1] != self.n_features_in_:
                raise ValueError(
                    f"{type(self).__name__}: X: found {X.shape[1]} features, wanted {self.n_features_in_}, as in fit"
                )
        else:
            with _naming(self, "X"):
                X = _validate_data(self, X, dtype=_FLOATS, reset=False)
        products = blocks.products(type(self).__name__, X, self.sparse_coef_, self.intercept_)
        return products[:, 0] if self._one_target else products


def _centred(name: str, values: np.ndarray, argument: str, in_place: bool = False) -> tuple:
    """Columns less their means, in float64 and Fortran order, in which the solver reads them; and the means.

    Columns that are constant become 0 exactly: the rounding of a mean must not be taken for a feature or a target.
    `name` is the estimator's.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        mean = _means(values)
        out = values if in_place and values.dtype == np.float64 and values.flags.writeable else None
        centred = np.subtract(values, mean, out=out, dtype=np.float64, order="F")
    if not np.isfinite(centred).all():
        raise ValueError(
            f"{name}: {argument}: found values that leave the range of float64 when they are centred, wanted smaller "
            f"ones or fit_intercept=False"
        )
    return centred, mean


def _means(values: np.ndarray) -> np.ndarray:
    return np.where((values == values[0]).all(axis=0), values[0], values.mean(axis=0, dtype=np.float64))


# What is done with blocks of dask arrays.


def _centred_targets(y: np.ndarray, name: str) -> np.ndarray:
    if not np.isfinite(y).all():
        raise ValueError(f"{name}: y: found NaN or infinity, wanted finite numbers")
    return _centred(name, y, "y")[0]


def _products(codes, vector: np.ndarray) -> np.ndarray:
    return codes @ vector


def _dense(codes) -> np.ndarray:
    return codes.toarray()


def _split(codes, split_sign: bool, sparse_output: bool, dtype) -> Any:
    codes = codes.astype(dtype, copy=False)
    if split_sign:
        codes = scipy.sparse.hstack([codes.maximum(0), (-codes).maximum(0)], format="csr")
    return codes if sparse_output else codes.toarray()


class BatchSparseCoder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    r"""Sparse codes of samples in a fixed dictionary, each solved to a certified gap.

    The code z of a sample x, a row of X in `transform`, minimises

    .. math:: \frac{1}{2} \|x - D' z\|^2 + \alpha \|z\|_1,   D = dictionary, \alpha = transform_alpha

    as `sklearn.decomposition.SparseCoder` does with ``transform_algorithm="lasso_lars"`` or ``"lasso_cd"``: there
    ``transform_alpha`` is divided by n_features and given to `LassoLars` or `Lasso`, whose objective has the factor
    1 / (2 n_features); multiplied by n_features that is the objective above. It is `shrinkwarp.lasso`'s with
    ``D = dictionary.T`` and ``lam = transform_alpha``. Atoms need not have the norm 1.

    Parameters
    ----------
    dictionary : array-like of shape (n_components, n_features)
        Atoms, a row each.
    transform_alpha : float, default=None
        Weight of the l1 norm, >= 0; None is 1, as in `SparseCoder`.
    split_sign : bool, default=False
        Codes have twice the columns: what is positive, then what is negative with its sign changed.
    positive_code : bool, default=False
        Codes are to be >= 0.
    tol : float, default=1e-6
        A code is done when its gap is at most ``tol * ||x||^2``: ``gap = 2 * tol`` of `shrinkwarp.lasso`. At least
        1e-14. `SparseCoder` has 1e-8 and no parameter for it.
    transform_max_iter : int, default=100000
        Iterations for each sample, counted as `shrinkwarp.lasso` counts them.
    sparse_output : bool, default=False
        `transform` returns a SciPy CSR matrix.
    solver, device, threads
        As in `shrinkwarp.lasso`.

    Attributes
    ----------
    n_components_ : int
        Number of atoms.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Notes
    -----
    Nothing is learned. `fit` checks its argument and prepares the dictionary for the transforms that follow; without it
    each `transform` prepares the dictionary for itself. A ``dictionary`` whose entries are changed after `fit` needs
    another `fit`; one that is replaced, by `set_params` say, does not.

    Examples
    --------
    >>> import numpy as np
    >>> from shrinkwarp.sklearn import BatchSparseCoder
    >>> BatchSparseCoder(np.eye(3), transform_alpha=0.5).transform([[2.0, -1.0, 0.25]])
    array([[ 1.5, -0.5,  0. ]])
    """

    _required_parameters = ["dictionary"]  # for scikit-learn before 1.6

    def __init__(
        self,
        dictionary,
        *,
        transform_alpha=None,
        split_sign=False,
        positive_code=False,
        tol=1e-6,
        transform_max_iter=100_000,
        sparse_output=False,
        solver="auto",
        device="auto",
        threads=None,
    ):
        self.dictionary = dictionary
        self.transform_alpha = transform_alpha
        self.split_sign = split_sign
        self.positive_code = positive_code
        self.tol = tol
        self.transform_max_iter = transform_max_iter
        self.sparse_output = sparse_output
        self.solver = solver
        self.device = device
        self.threads = threads

    def fit(self, X, y=None) -> "BatchSparseCoder":
        """Check samples and prepare the dictionary.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples, which are only looked at; of a dask array only the shape is, and workers prepare the dictionary.
        y : Ignored

        Returns
        -------
        self : BatchSparseCoder
        """
        self._options()
        if is_dask(X):
            self._check_blocks(X)
            self.n_features_in_, self.n_components_ = X.shape[1], self._dictionary().shape[0]
            return self
        _refuse_non_numbers(self, "X", X)
        with _naming(self, "X"):
            X = _validate_data(self, X, dtype=_FLOATS)
        prepared = self._prepare()
        self._check_features(X, prepared)
        self.n_components_ = prepared.shape[1]
        # Kept with what it was made of, so that set_params is noticed.
        self._prepared = (self.dictionary, self.device, self.threads, prepared)
        return self

    def transform(self, X):
        """Codes of samples.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples. The codes of float32 are rounded to float32, others are float64.

        Returns
        -------
        codes : ndarray or CSR matrix of shape (n_samples, n_components), or 2 n_components with ``split_sign``
            Of a dask array a dask array, in the same blocks of rows, which nothing computes here.
        """
        split_sign, sparse_output = _flag(self, "split_sign"), _flag(self, "sparse_output")
        if is_dask(X):
            from . import dask as blocks

            codes = self._solve_blocks(X).codes
            dtype = np.float32 if X.dtype == np.float32 else np.float64
            columns = codes.shape[1] * (2 if split_sign else 1)
            return blocks.map_sparse(_split, codes, columns, sparse_output, dtype, split_sign, sparse_output, dtype)
        X = self._samples(X)
        return _split(self._solve(X).codes, split_sign, sparse_output, X.dtype)

    def encode(self, X) -> LassoResult:
        """Codes of samples with all that is known of them: gaps, objectives, iterations.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        result : shrinkwarp.LassoResult, or shrinkwarp.dask.LazyResult of a dask array
            Its ``codes`` are float64 CSR of shape (n_samples, n_components), ``split_sign`` or not.
        """
        if is_dask(X):
            return self._solve_blocks(X)
        return self._solve(self._samples(X))

    def inverse_transform(self, X) -> np.ndarray:
        """Samples that codes stand for: the codes times the dictionary.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_components), or 2 n_components with ``split_sign``
            Codes as of `transform`.

        Returns
        -------
        samples : ndarray of shape (n_samples, n_features)
        """
        split_sign = _flag(self, "split_sign")
        with _naming(self, "X"):
            codes = check_array(X, accept_sparse="csr", dtype=_FLOATS)
        dictionary = self._dictionary()
        wanted = dictionary.shape[0] * (2 if split_sign else 1)
        if codes.shape[1] != wanted:
            raise ValueError(f"{type(self).__name__}: X: found {codes.shape[1]} columns, wanted {wanted}")
        if split_sign:
            codes = codes[:, : dictionary.shape[0]] - codes[:, dictionary.shape[0] :]
        return codes @ dictionary

    def _options(self) -> dict:
        """Keywords for a solve."""
        return dict(
            lam=1.0 if self.transform_alpha is None else _number(self, "transform_alpha", 0),
            gap=2 * _number(self, "tol", _SMALLEST_TOL),
            nonnegative=_flag(self, "positive_code"),
            max_iterations=_count(self, "transform_max_iter"),
            solver=self.solver,
        )

    def _dictionary(self) -> np.ndarray:
        _refuse_non_numbers(self, "dictionary", self.dictionary)
        with _naming(self, "dictionary"):
            return check_array(self.dictionary, dtype=_FLOATS)

    def _prepare(self) -> Dictionary:
        missed = "`encode` says which, and a larger transform_max_iter may help"
        with _in_range(self, "dictionary"):
            return _prepared(self, self._dictionary().T, missed)

    def _samples(self, X) -> np.ndarray:
        _refuse_non_numbers(self, "X", X)
        with _naming(self, "X"):
            return _validate_data(self, X, dtype=_FLOATS, reset=False)

    def _check_blocks(self, X) -> np.ndarray:
        """The atoms as rows, which a dask array of samples goes with."""
        dictionary = self._dictionary()
        if X.ndim != 2 or X.shape[1] != dictionary.shape[1]:
            raise ValueError(
                f"{type(self).__name__}: X: found shape {X.shape}, wanted (n_samples, {dictionary.shape[1]}), as many "
                f"features as the dictionary has"
            )
        return dictionary

    def _solve_blocks(self, X):
        from . import dask as blocks

        dictionary = self._check_blocks(X)
        return blocks._lasso(type(self).__name__, dictionary.T, X, self.device, None, self.threads, **self._options())

    def _check_features(self, X: np.ndarray, prepared: Dictionary) -> None:
        if X.shape[1] != prepared.shape[0]:
            raise ValueError(
                f"{type(self).__name__}: X: found {X.shape[1]} features, wanted {prepared.shape[0]}, as many as the "
                f"dictionary has"
            )

    def _solve(self, X: np.ndarray) -> LassoResult:
        options = self._options()
        dictionary, device, threads, prepared = getattr(self, "_prepared", (None,) * 4)
        if dictionary is not self.dictionary or device is not self.device or threads is not self.threads:
            prepared = self._prepare()
        self._check_features(X, prepared)
        with _in_range(self, "dictionary and X"):
            return prepared._solve(type(self).__name__, X, **options)

    @property
    def _n_features_out(self) -> int:
        return self._dictionary().shape[0] * (2 if _flag(self, "split_sign") else 1)

    def __getstate__(self) -> dict:
        state = dict(super().__getstate__())
        state.pop("_prepared", None)  # made again by fit, or for each transform
        return state

    def _more_tags(self) -> dict:  # for scikit-learn before 1.6
        return {"requires_fit": False, "preserves_dtype": [np.float64, np.float32]}

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
