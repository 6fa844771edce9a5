"""`lasso`, `lasso_path`, `Dictionary`: the solver for arrays."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Union

import numpy as np
import scipy.sparse

from . import _arguments as arguments
from . import _core
from ._arguments import refuse
from ._progress import reporter

Array = Any  # NumPy's, of a library that speaks DLPack, or what NumPy makes an array of
Progress = Union[bool, Callable[[int, int], Any], None]

_logger = logging.getLogger("shrinkwarp")

_SMALLEST_GAP = 2e-14  # that float64 can certify: kSmallestGap of models/lasso/lasso.hpp
_SOLVERS = ("auto", "working-set", "plain-working-set", "fista", "ista")


@dataclasses.dataclass(frozen=True)
class LassoResult:
    """Codes of N observations, and what is known of each.

    Attributes
    ----------
    codes : scipy.sparse.csr_matrix of shape (N, m), float64
        A row a code.
    dual_gap : ndarray of shape (N,)
        Absolute duality gap: at least objective - minimum, computed in float64 from the code that is here.
    objective : ndarray of shape (N,)
        ``1/2 ||x - D z||^2`` + the penalty; with `l1_radius` without it.
    iterations : ndarray of shape (N,), int64
    converged : ndarray of shape (N,), bool
        ``dual_gap <= gap * 1/2 ||x||^2``.
    lam : ndarray of shape (N,)
        The penalty's factor of each problem.
    debiased : scipy.sparse.csr_matrix of shape (N, m), or None
        Amplitudes that fit best on the atoms of each code, where `debias` asked for them.
    """

    codes: scipy.sparse.csr_matrix
    dual_gap: np.ndarray
    objective: np.ndarray
    iterations: np.ndarray
    converged: np.ndarray
    lam: np.ndarray
    debiased: scipy.sparse.csr_matrix | None = None

    def __repr__(self):
        N, m = self.codes.shape
        return (f"LassoResult(problems={N}, atoms={m}, nonzeros={self.codes.nnz}, "
                f"converged={int(self.converged.sum())})")


class Interrupted(KeyboardInterrupt):
    """Ctrl-C ended a solve or a training; what had finished is here.

    Attributes
    ----------
    result : LassoResult, list of it for a path, or Network for a training
        Rows that were not reached have `dual_gap` NaN, `converged` False and no nonzeros.
    """

    def __init__(self, message: str, result: Any):
        super().__init__(message)
        self.result = result

    def __reduce__(self):  # or a process of a pool could not send it
        return type(self), (*self.args, self.result)


class Dictionary:
    """A dictionary, prepared once for any number of solves; several threads may solve with it at once.

    Parameters
    ----------
    D : array of shape (n, m)
        A column an atom. NumPy's, or of any library that speaks DLPack.
    device : {"auto", "cpu", "cuda", "cuda:NUMBER"}
        Where solves run; "auto" is the device of a D on CUDA, else the first CUDA device where there is one.
    threads : int, optional
        Of the CPU; all processors by default. Results have the same bits for any number.
    """

    _missed = "`converged` says which"  # ends the warning of missed gaps

    def __init__(self, D: Array, device: str = "auto", threads: int | None = None):
        self._prepare("Dictionary", D, device, threads)

    @classmethod
    def _of(cls, call, D, device, threads):
        """A dictionary of D, which may be one; errors begin with the name of the call."""
        if isinstance(D, cls):
            return D
        dictionary = cls.__new__(cls)
        dictionary._prepare(call, D, device, threads)
        return dictionary

    def _prepare(self, call, D, device, threads):
        array = arguments.matrix(call, "D", D, "an array (n, m) of numbers")
        if 0 in array.shape:
            raise refuse(ValueError, call, "D", f"shape {array.shape}", "at least one row and one atom")
        if isinstance(device, str) and device == "auto" and arguments.is_on_cuda(D):
            device = arguments.cuda_device(D)
        device, threads = arguments.place(call, device, threads)
        self._asked = (device, threads or None)
        self._core = _core.PreparedDictionary(np.asfortranarray(array, dtype=np.float64), device, threads)

    @property
    def shape(self) -> tuple[int, int]:
        """(n, m)."""
        return self._core.rows, self._core.atoms

    @property
    def device(self) -> str:
        """Where it lies: "cpu" or "cuda:NUMBER"."""
        return self._core.device

    def __repr__(self):
        return f"Dictionary(n={self.shape[0]}, m={self.shape[1]}, device='{self.device}')"

    def __reduce__(self):
        # What is prepared stays behind: a copy or an unpickled dictionary prepares D again, on the device asked for.
        return Dictionary, (self._core.values(), *self._asked)

    def solve(self, X: Array, lam: float | Array | None = None, lam_fraction: float | None = None,
              **options: Any) -> LassoResult:
        """Codes of the rows of X: as `lasso`, which says what its keywords are."""
        return self._solve("Dictionary.solve", X, lam=lam, lam_fraction=lam_fraction, **options)

    def lam_max(self, X: Array, *, weights: Array | None = None, group_size: int | None = None,
                nonnegative: bool = False) -> np.ndarray:
        """The smallest `lam` of each row for which its code is 0, (N,); of atoms that are penalised."""
        call = "Dictionary.lam_max"
        X = arguments.observations(call, X, self.shape[0])
        checked = checked_options(call, X.shape[0], self.shape[1], lam_fraction=1, weights=weights,
                                  group_size=group_size, nonnegative=nonnegative)
        with naming(call):
            return self._core.lambda_max(X, checked["weights"], checked["group_size"], checked["nonnegative"])

    def _solve(self, call, X, lam=None, lam_fraction=None, gap=1e-6, solver="auto", weights=None, nonnegative=False,
               group_size=None, warm_start=None, *, lam_scope="sample", l1_radius=None, residual_norm=None,
               max_nonzeros=None, elastic_net=0.0, debias=False, max_iterations=100_000, memory_limit=None,
               progress=False):
        X = arguments.observations(call, X, self.shape[0])
        N = X.shape[0]
        checked = checked_options(
            call, N, self.shape[1], lam, lam_fraction, gap, solver, weights, nonnegative, group_size,
            lam_scope=lam_scope, l1_radius=l1_radius, residual_norm=residual_norm, max_nonzeros=max_nonzeros,
            elastic_net=elastic_net, debias=debias, max_iterations=max_iterations, memory_limit=memory_limit)
        result = self._solve_checked(call, X, checked, warm_start, progress)
        warn_of_missed(call, result.converged, gap, self._missed, stacklevel=4)
        return result

    def _solve_checked(self, call, X, checked, warm_start=None, progress=False, problems_in_all=0, lambda_max=None):
        """A solve with what `arguments.observations` and `checked_options` made; misses of the gap raise no warning.

        Of a block of observations, `problems_in_all` and `lambda_max` (of lam_scope="recording") are those of the
        whole: the block's result then has the bits that it has in a solve of the whole.
        """
        N, m = X.shape[0], self.shape[1]
        if warm_start is not None:
            warm_start = arguments.codes(call, "warm_start", warm_start, (N, m))
        with reporter(call, progress) as report:
            with naming(call):
                found = self._core.solve(X, **checked, initial=warm_start, progress=report,
                                         log=_log if _logger.isEnabledFor(logging.INFO) else None,
                                         problems_in_all=problems_in_all, lambda_max=lambda_max)
        result = _result(found, N, m)
        raised = found["raised"]
        if isinstance(raised, KeyboardInterrupt):
            raise Interrupted(f"{found['finished']} of {N} problems are done; the exception's `result` has them",
                              result) from raised
        if raised is not None:
            raise raised
        return result


@contextlib.contextmanager
def naming(call):
    """Errors that only the library sees, a row with NaN for one, begin with the name of the call."""
    try:
        yield
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{call}: {str(error).removeprefix('lasso: ')}") from error


def checked_options(call, N, m, lam=None, lam_fraction=None, gap=1e-6, solver="auto", weights=None, nonnegative=False,
                    group_size=None, *, lam_scope="sample", l1_radius=None, residual_norm=None, max_nonzeros=None,
                    elastic_net=0.0, debias=False, max_iterations=100_000, memory_limit=None):
    """The keywords of `lasso` for N observations and m atoms as the extension takes them; refuses bad ones."""
    rule, number, values = _rule(call, N, lam, lam_fraction, lam_scope, l1_radius, residual_norm, max_nonzeros)
    arguments.one_of(call, "solver", solver, _SOLVERS)
    group_size = 1 if group_size is None else arguments.integer(call, "group_size", group_size, 1)
    if m % group_size != 0:
        raise refuse(ValueError, call, "group_size", group_size, f"a divisor of {m}, the atoms of D")
    if weights is not None:
        whose = "atom" if group_size == 1 else "group"
        wanted = f"({m // group_size},) of numbers >= 0 or inf, one for each {whose}"
        weights = arguments.vector(call, "weights", weights, m // group_size, wanted)
        if (weights < 0).any():
            raise refuse(ValueError, call, "weights", f"{weights.min():g}", wanted)
    return {
        "kind": rule,
        "number": number,
        "values": values,
        "solver": solver,
        "gap": arguments.number(call, "gap", gap, least=_SMALLEST_GAP),
        "max_iterations": arguments.integer(call, "max_iterations", max_iterations, 1),
        "weights": weights,
        "group_size": group_size,
        "nonnegative": arguments.flag(call, "nonnegative", nonnegative),
        "ridge": arguments.number(call, "elastic_net", elastic_net, least=0),
        "memory_limit": None if memory_limit is None else arguments.integer(call, "memory_limit", memory_limit, 1),
        "debias": arguments.flag(call, "debias", debias),
    }


def warn_of_missed(call, converged, gap, missed, stacklevel):
    """The warning of problems that missed their gap, where there are any; `missed` ends it."""
    count = converged.size - int(converged.sum())
    if count:
        warnings.warn(f"{call}: {count} of {converged.size} problems missed the gap of {gap:g}; {missed}",
                      _convergence_warning(), stacklevel=stacklevel)


def lasso(
    D: Array,
    X: Array,
    lam: float | Array | None = None,
    lam_fraction: float | None = None,
    gap: float = 1e-6,
    solver: str = "auto",
    weights: Array | None = None,
    nonnegative: bool = False,
    group_size: int | None = None,
    device: str = "auto",
    warm_start: Array | None = None,
    threads: int | None = None,
    *,
    lam_scope: str = "sample",
    l1_radius: float | None = None,
    residual_norm: float | None = None,
    max_nonzeros: int | None = None,
    elastic_net: float = 0.0,
    debias: bool = False,
    max_iterations: int = 100_000,
    memory_limit: int | None = None,
    progress: Progress = False,
) -> LassoResult:
    """Codes every row x of X by ``z = argmin 1/2 ||x - D z||^2 + lam ||z||_1``, each with a certificate.

    Exactly one of `lam`, `lam_fraction`, `l1_radius`, `residual_norm` and `max_nonzeros` says lambda. To solve with one
    dictionary again and again, make a `Dictionary`.

    Parameters
    ----------
    D : array of shape (n, m), or Dictionary
        The dictionary, a column an atom; a `Dictionary` has its own device and threads.
    X : array of shape (N, n) or (n,)
        The observations, a row each. float32 and float64 are read where they lie, whatever their strides; other numbers
        are converted. Arrays of any library that speaks DLPack; on CUDA (N, n) in rows of adjacent elements, with a
        dictionary on the same device.
    lam : float or array of shape (N,), optional
        Lambda, in the units of the objective. 0 takes the least-squares code of least norm. scikit-learn's alpha is
        lam / n.
    lam_fraction : float, optional
        Lambda as a fraction of each row's own lambda_max, or of the largest of all with ``lam_scope="recording"``.
    gap : float
        Relative: a problem is done when its duality gap is at most ``gap * 1/2 ||x||^2``.
    solver : {"auto", "working-set", "plain-working-set", "fista", "ista"}
        "auto" takes working sets on the CPU, FISTA for elastic nets and on CUDA.
    weights : array of shape (m,), or (m / group_size,) with groups, optional
        ``lam * sum_j w_j |z_j|``: 0 leaves an atom unpenalised, inf leaves it out.
    nonnegative : bool
        Codes >= 0.
    group_size : int, optional
        Groups of so many consecutive columns, in use together or not at all: ``lam * sum_g w_g ||z_g||``.
    device : {"auto", "cpu", "cuda", "cuda:NUMBER"}
    warm_start : sparse matrix or array of shape (N, m), optional
        Codes to start from.
    threads : int, optional
        Of the CPU; all processors by default.
    lam_scope : {"sample", "recording"}
        What `lam_fraction` is a fraction of.
    l1_radius : float, optional
        Lambda where ``||z||_1`` comes to this radius: the constrained form, with its own objective and gap.
    residual_norm : float, optional
        The largest lambda with ``||x - D z||`` at most this.
    max_nonzeros : int, optional
        Lambda where one nonzero more would come into use.
    elastic_net : float
        mu of an added ``mu/2 ||z||^2``.
    debias : bool
        Also refit the amplitudes by least squares on the atoms of each code.
    max_iterations : int
        For each problem.
    memory_limit : int, optional
        Bytes that the solver may hold beside the results; 4 GiB by default.
    progress : bool or function of (done, total)
        True shows a bar of tqdm's, where that is installed. A function's exception ends the solve and comes through.

    Returns
    -------
    LassoResult

    Raises
    ------
    ValueError, TypeError
        A bad argument, by name; a row with NaN or infinity, by number.
    Interrupted
        Ctrl-C; what was done is its `result`.

    Warns
    -----
    ConvergenceWarning
        scikit-learn's where that is installed, else RuntimeWarning: some problems missed the gap.
    """
    return Dictionary._of("lasso", D, device, threads)._solve(
        "lasso", X, lam, lam_fraction, gap, solver, weights, nonnegative, group_size, warm_start, lam_scope=lam_scope,
        l1_radius=l1_radius, residual_norm=residual_norm, max_nonzeros=max_nonzeros, elastic_net=elastic_net,
        debias=debias, max_iterations=max_iterations, memory_limit=memory_limit, progress=progress)


def lasso_path(
    D: Array | Dictionary,
    X: Array,
    lams: Sequence[float] | Array | None = None,
    lam_fractions: Sequence[float] | Array | None = None,
    *,
    device: str = "auto",
    threads: int | None = None,
    warm_start: Array | None = None,
    **options: Any,
) -> list[LassoResult]:
    """Codes along a path of lambdas, each solve starting from the codes of the one before.

    Parameters
    ----------
    D, X, device, threads, warm_start
        As for `lasso`; D may be a `Dictionary`, which has its own device and threads.
    lams, lam_fractions : sequence of float
        One of them; in the order in which they are solved. From large to small is quickest.
    **options
        Of `lasso`, but for those that say lambda.

    Returns
    -------
    list of LassoResult
        One for each lambda.
    """
    call = "lasso_path"
    if (lams is None) == (lam_fractions is None):
        found = "neither" if lams is None else "both"
        raise refuse(ValueError, call, "lams and lam_fractions", found, "one of them")
    name, given = ("lams", lams) if lams is not None else ("lam_fractions", lam_fractions)
    numbers = arguments.on_host(call, name, given, "a sequence of numbers")
    if numbers.ndim != 1:
        raise refuse(ValueError, call, name, f"shape {numbers.shape}", "a sequence of numbers")
    for name_of_another in ("lam", "lam_fraction", "l1_radius", "residual_norm", "max_nonzeros"):
        if options.get(name_of_another) is not None:
            raise refuse(TypeError, call, name_of_another, arguments.shown(options[name_of_another]),
                         "lams or lam_fractions alone")
    dictionary = Dictionary._of(call, D, device, threads)
    bound = {"least": 0} if name == "lams" else {"above": 0}
    numbers = [arguments.number(call, name, value, **bound) for value in numbers]
    results = []
    for value in numbers:
        chosen = {"lam": value} if name == "lams" else {"lam_fraction": value}
        try:
            results.append(dictionary._solve(call, X, warm_start=warm_start, **chosen, **options))
        except Interrupted as interrupt:
            raise Interrupted(str(interrupt), [*results, interrupt.result]) from interrupt
        warm_start = results[-1].codes
    return results


def minimum_norm(D: Array, X: Array, threads: int | None = None) -> np.ndarray:
    """The least-squares code of least norm of every row, ``D^+ x``: the baseline that sparse codes are compared with.

    Parameters
    ----------
    D : array of shape (n, m)
    X : array of shape (N, n) or (n,)
    threads : int, optional

    Returns
    -------
    ndarray of shape (N, m), float64
    """
    call = "minimum_norm"
    D = np.asfortranarray(arguments.matrix(call, "D", D, "an array (n, m) of numbers"), dtype=np.float64)
    if 0 in D.shape:
        raise refuse(ValueError, call, "D", f"shape {D.shape}", "at least one row and one atom")
    wanted = f"an array (N, n) of numbers, n = {D.shape[0]}"
    X = np.ascontiguousarray(arguments.matrix(call, "X", X, wanted, rows=True), dtype=np.float64)
    if X.shape[1] != D.shape[0]:
        raise refuse(ValueError, call, "X", f"shape {X.shape}", wanted)
    for name, array in (("D", D), ("X", X)):
        if not np.isfinite(array).all():
            raise refuse(ValueError, call, name, "NaN or infinity", "finite numbers")
    return _core.minimum_norm(D, X, arguments.place(call, "cpu", threads)[1])


def lam_rule(call, N, lam):
    """The rule of a given lambda, its number, and a value for each of N rows or None."""
    if arguments.is_one(lam):
        return "value", arguments.number(call, "lam", lam, least=0), None
    wanted = f"a number, or ({N},) of finite numbers >= 0, one for each row of X"
    lams = arguments.vector(call, "lam", lam, N, wanted)
    if N and not (lams.min() >= 0 and lams.max() < np.inf):
        raise refuse(ValueError, call, "lam", f"{lams.min() if lams.min() < 0 else np.inf:g}", wanted)
    return "per_problem", 0.0, lams


def _rule(call, N, lam, lam_fraction, lam_scope, l1_radius, residual_norm, max_nonzeros):
    """How lambda is found: the rule, its number, and a value for each row or None."""
    rules = {"lam": lam, "lam_fraction": lam_fraction, "l1_radius": l1_radius, "residual_norm": residual_norm,
             "max_nonzeros": max_nonzeros}
    given = [name for name, value in rules.items() if value is not None]
    if len(given) != 1:
        raise refuse(ValueError, call, "lam", " and ".join(given) or "nothing that says lambda",
                     f"exactly one of {', '.join(rules)}")
    arguments.one_of(call, "lam_scope", lam_scope, ("sample", "recording"))
    if lam_scope == "recording" and lam_fraction is None:
        raise refuse(ValueError, call, "lam_scope", "'recording'", "lam_fraction with it")
    if lam is not None:
        return lam_rule(call, N, lam)
    if lam_fraction is not None:
        return f"{lam_scope}_fraction", arguments.number(call, "lam_fraction", lam_fraction, above=0), None
    if max_nonzeros is not None:
        return "max_nonzeros", float(arguments.integer(call, "max_nonzeros", max_nonzeros, 1)), None
    name = given[0]
    return name, arguments.number(call, name, rules[name], above=0), None


def csr(found, shape):
    """Codes as SciPy's matrix, of the arrays that the library gave."""
    # SciPy wants one type for both.
    kind = np.int32 if found["indptr"][-1] < 2**31 else np.int64
    indices, indptr = found["indices"].astype(kind, copy=False), found["indptr"].astype(kind, copy=False)
    matrix = scipy.sparse.csr_matrix((found["values"], indices, indptr), shape=shape, copy=False)
    matrix.has_canonical_format = True
    return matrix


def _result(found, N, m):
    codes = csr(found, (N, m))
    debiased = None
    if "debiased" in found:
        debiased = codes.copy()  # with a pattern of its own: either may be changed
        debiased.data = found["debiased"]
    return LassoResult(
        codes=codes,
        dual_gap=found["dual_gap"],
        objective=found["objective"],
        iterations=found["iterations"],
        converged=found["converged"].astype(bool),
        lam=found["lam"],
        debiased=debiased,
    )


def _log(is_warning, line):
    _logger.log(logging.WARNING if is_warning else logging.INFO, line)


def _convergence_warning():
    try:
        from sklearn.exceptions import ConvergenceWarning
    except ImportError:
        return RuntimeWarning
    return ConvergenceWarning
