"""Lasso problems on the machines that Dask works with: arrays in blocks of rows in, codes in blocks out, lazily.

`lasso` is `shrinkwarp.lasso` for a dask array. Dask does what has to do with processes and machines: who solves which
block, what is sent where, what is repeated after a worker has died. A block is a task without a state of its own, whose
result has the bits that its rows have in a call of `shrinkwarp.lasso` on the whole array, by the same device and
instruction set.
"""

from __future__ import annotations

import atexit
import collections
import dataclasses
import hashlib
import operator
import os
import threading
import uuid

import dask
import dask.array as da
import numpy as np
import scipy.sparse
from dask.base import tokenize
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph

from . import LassoResult, __version__, _arguments as arguments, _core
from ._arguments import refuse
from ._lasso import Dictionary, checked_options, lam_rule, naming, warn_of_missed

__all__ = ["LazyResult", "from_zarr", "lasso"]

_ARRAYS = ("dual_gap", "objective", "iterations", "converged", "lam")  # of a LassoResult, one value a problem each
_TYPES = {"iterations": np.int64, "converged": np.bool_}  # of those that are not float64
_FORMAT = "shrinkwarp codes 1"  # of `LazyResult.to_zarr`
_CHUNK = 2**22  # elements of a chunk of Zarr's: codecs take no more than 2^31 bytes
_NO_CODES = scipy.sparse.csr_matrix((0, 0), dtype=np.float64)


class _Atoms:
    """D (n, m) on its way to the workers, and a digest of it."""

    def __init__(self, D):
        self.array = np.asfortranarray(D, dtype=np.float64)
        digest = hashlib.blake2b(repr(self.array.shape).encode(), digest_size=16)
        digest.update(self.array.T)  # contiguous
        self.digest = digest.hexdigest()

    def __dask_tokenize__(self):
        return self.digest

    def __sizeof__(self):
        return object.__sizeof__(self) + self.array.nbytes


@dataclasses.dataclass(frozen=True)
class _Call:
    """What all blocks have in common beside D."""

    call: str
    device: str
    threads: int
    checked: dict
    N: int


class _Slot:
    def __init__(self):
        self.lock = threading.Lock()
        self.dictionary = None


class _Prepared:
    """The prepared dictionaries of this process: each is made once, by the first of its threads that asks."""

    KEPT = 8  # those used last

    def __init__(self):
        self.made = 0  # how many were prepared, for tests
        self._lock = threading.Lock()
        self._slots = collections.OrderedDict()

    def forget(self):
        with self._lock:
            self._slots.clear()

    def get(self, call, atoms, device, threads):
        key = (atoms.digest, device, threads)
        with self._lock:
            slot = self._slots.setdefault(key, _Slot())
            self._slots.move_to_end(key)
            while len(self._slots) > self.KEPT:
                self._slots.popitem(last=False)
        with slot.lock:
            if slot.dictionary is None:
                dictionary = Dictionary._of(call, atoms.array, device, threads)
                slot.dictionary = dictionary
                with self._lock:
                    self.made += 1
            return slot.dictionary


_prepared = _Prepared()
atexit.register(_prepared.forget)  # before the extension goes


@dataclasses.dataclass(frozen=True)
class LazyResult:
    """What `shrinkwarp.LassoResult` has, in dask arrays of the same blocks of rows, solved when it is asked for.

    Whatever is computed in one call of `dask.compute` shares one solve; two calls solve twice, unless the result was
    persisted.

    Attributes
    ----------
    codes : dask array of shape (N, m), float64
        Its blocks are `scipy.sparse.csr_matrix`, and so is what `compute()` of it gives.
    dual_gap, objective, iterations, converged, lam : dask arrays of shape (N,)
    debiased : dask array as `codes`, or None
    """

    codes: da.Array
    dual_gap: da.Array
    objective: da.Array
    iterations: da.Array
    converged: da.Array
    lam: da.Array
    debiased: da.Array | None = None
    gap: float = 1e-6

    def _fields(self):
        names = ["codes", *_ARRAYS] + (["debiased"] if self.debiased is not None else [])
        return {name: getattr(self, name) for name in names}

    def compute(self, **options) -> LassoResult:
        """All of it here, as a call of `shrinkwarp.lasso` gives it; warns of missed gaps as that does.

        Parameters
        ----------
        **options
            Of `dask.compute`.
        """
        fields = self._fields()
        found = dict(zip(fields, dask.compute(*fields.values(), **options)))
        for name in ("codes", "debiased"):
            if name in found:
                found[name].has_canonical_format = True
        warn_of_missed("shrinkwarp.dask", found["converged"], self.gap, "`converged` says which", stacklevel=3)
        return LassoResult(**found)

    def persist(self, **options) -> LazyResult:
        """The same with its blocks solved, or being solved, and kept where the scheduler keeps them."""
        fields = self._fields()
        return dataclasses.replace(self, **dict(zip(fields, dask.persist(*fields.values(), **options))))

    def to_zarr(self, store, *, resume=False, overwrite=False, compute=True) -> Delayed | None:
        """Writes each block as soon as it is solved; no process ever holds more than the blocks that it works on.

        Parameters
        ----------
        store : str, path or store of Zarr's
            A group of its own, which every worker reaches under this name. docs/python.md describes what is in it.
        resume : bool
            Goes on with a group that an earlier call for the same result left unfinished, and solves only blocks that
            are not there. The same are results whose arrays have the same names (`codes.name`), which Dask derives from
            all that they are computed from; ``da.from_zarr`` of some versions makes a new name in every process, and
            wants one by its argument ``name``.
        overwrite : bool
            Whatever is there is removed first.
        compute : bool
            False gives what writes when it is computed.
        """
        call = "LazyResult.to_zarr"
        for name, value in (("resume", resume), ("overwrite", overwrite), ("compute", compute)):
            arguments.flag(call, name, value)
        if resume and overwrite:
            raise refuse(ValueError, call, "resume and overwrite", "both", "one of them")
        store = _shared(store)
        rows = self.codes.chunks[0]
        wanted = {"format": _FORMAT, "name": self.codes.name, "atoms": self.codes.shape[1],
                  "rows": [int(count) for count in rows], "gap": self.gap, "debiased": self.debiased is not None}
        group = _zarr().open_group(store, mode="w" if overwrite else "a")
        there = dict(group.attrs)
        done = set()
        if there and not resume:
            raise refuse(ValueError, call, "store", f"{arguments.shown(store)}, which has something in it",
                         "a new one, or resume=True or overwrite=True")
        if there:
            differing = [name for name, value in wanted.items() if there.get(name) != value]
            if differing:
                name = differing[0]
                raise refuse(ValueError, call, "store", f"{name} {arguments.shown(there.get(name))} in it",
                             f"{arguments.shown(wanted[name])}, for resume=True goes on with the same result")
            done = {i for i in range(len(rows)) if _is_written(group, i)}
        else:
            group.require_group("blocks")
            group.attrs.update(wanted)
        fields = self._fields()
        name = f"shrinkwarp-to-zarr-{uuid.uuid4().hex}"  # writing is no pure function
        layer = {(name, i): (_write_block, store, i, list(fields), [_key(array, i) for array in fields.values()])
                 for i in range(len(rows)) if i not in done}
        last = f"shrinkwarp-finish-{name[-32:]}"
        graph = HighLevelGraph.from_collections(name, layer, dependencies=list(fields.values()))
        graph = HighLevelGraph({**graph.layers, last: {last: (_finish, store, list(layer))}},
                               {**graph.dependencies, last: {name}})
        delayed = Delayed(last, graph)
        if not compute:
            return delayed
        delayed.compute()
        return None


def lasso(D, X, lam=None, lam_fraction=None, gap=1e-6, solver="auto", weights=None, nonnegative=False, group_size=None,
          device=None, warm_start=None, threads=None, *, lam_scope="sample", l1_radius=None, residual_norm=None,
          max_nonzeros=None, elastic_net=0.0, debias=False, max_iterations=100_000, memory_limit=None) -> LazyResult:
    """`shrinkwarp.lasso` for a dask array, whose keywords it has but for `progress`; a task for each block of rows.

    Parameters
    ----------
    D : array or dask array of shape (n, m), or Dictionary
        Sent to each worker once, and prepared there once, by the first task.
    X : dask array of shape (N, n)
        The observations, in blocks of rows; blocks of columns are merged.
    lam : float, or array or dask array of shape (N,), optional
    device : {"auto", "cpu", "cuda", "cuda:NUMBER"}, optional
        On the worker; by default that of a `Dictionary`, else "auto". With dask-cuda a worker sees its device first.
    warm_start : sparse matrix, array or dask array of shape (N, m), optional
        Codes to start from. A dask array with sparse blocks has to have X's blocks of rows, as the `codes` of a solve
        of X have.
    threads : int, optional
        Of the CPU, for a task. By default 1 (or that of a `Dictionary`): a worker runs as many tasks at once as it has
        threads, which by Dask's custom is its share of the cores.
    lam_scope : {"sample", "recording"}
        With "recording" all of X is read once more, for the largest lambda_max, before the first block is solved.
    memory_limit : int, optional
        Bytes that the solver may hold beside the result, in each task.

    Returns
    -------
    LazyResult

    Raises
    ------
    ValueError, TypeError
        A bad argument, by name, at once; what only the values of dask arrays show, in the worker.
    """
    return _lasso("shrinkwarp.dask.lasso", D, X, device, warm_start, threads, lam=lam, lam_fraction=lam_fraction,
                  gap=gap, solver=solver, weights=weights, nonnegative=nonnegative, group_size=group_size,
                  lam_scope=lam_scope, l1_radius=l1_radius, residual_norm=residual_norm, max_nonzeros=max_nonzeros,
                  elastic_net=elastic_net, debias=debias, max_iterations=max_iterations, memory_limit=memory_limit)


def from_zarr(store) -> LazyResult:
    """What `LazyResult.to_zarr` wrote, read block by block when it is asked for.

    Parameters
    ----------
    store : str, path or store of Zarr's
    """
    call = "shrinkwarp.dask.from_zarr"
    store = _shared(store)
    try:
        attributes = dict(_zarr().open_group(store, mode="r").attrs)
    except (FileNotFoundError, KeyError, ValueError) as error:  # by version
        raise refuse(FileNotFoundError, call, "store", f"no group in {arguments.shown(store)} ({error})",
                     "a group of Zarr's") from error
    if attributes.get("format") != _FORMAT:
        raise refuse(ValueError, call, "store", f"format {attributes.get('format')!r} in {arguments.shown(store)}",
                     f"{_FORMAT!r}, written by to_zarr")
    if not attributes.get("complete"):
        raise refuse(ValueError, call, "store", f"{arguments.shown(store)}, which is not complete",
                     "a finished one: to_zarr(..., resume=True) goes on with it")
    rows, debias = tuple(attributes["rows"]), attributes["debiased"]
    names = ["codes", *_ARRAYS] + (["debiased"] if debias else [])
    name = f"shrinkwarp-from-zarr-{tokenize(str(store), attributes)}"
    layer = {(name, i): (_read_block, store, i, names, attributes["atoms"]) for i in range(len(rows))}
    return _lazy_result(HighLevelGraph.from_collections(name, layer), name, rows, attributes["atoms"], debias,
                        attributes["gap"])


def _lasso(call, D, X, device, warm_start, threads, *, lam=None, **options) -> LazyResult:
    """`lasso`, whose messages begin with `call`."""
    if not isinstance(X, da.Array):
        raise refuse(TypeError, call, "X", arguments.of_type(X), "a dask array (N, n) of numbers: da.from_array(X)")
    X = _in_row_blocks(call, "X", X, "a dask array (N, n) of numbers")
    atoms, shape, device, threads = _atoms(call, D, device, threads)
    N, m = X.shape[0], shape[1]
    if X.shape[1] != shape[0]:
        raise refuse(ValueError, call, "X", f"shape {X.shape}", f"(N, {shape[0]}), the rows of D (n, m)")
    rows = X.chunks[0]
    ends = np.cumsum(rows)
    slices = [slice(int(end) - count, int(end)) for count, end in zip(rows, ends)]

    sources, lams = [], None  # dask collections beside X; a value or a key of the graph for each block
    if isinstance(lam, da.Array):
        wanted = f"a number, or ({N},) of finite numbers >= 0, one for each row of X"
        if lam.shape != (N,) or lam.dtype.kind not in "fiub":
            raise refuse(ValueError, call, "lam", f"a dask array of shape {lam.shape} of {lam.dtype}", wanted)
        lam = lam.rechunk((rows,))
        sources.append(lam)
        lams = [(lam.name, i) for i in range(len(rows))]
        checked = checked_options(call, N, m, lam=0.0, **options)
        checked["kind"] = "per_problem"
    else:
        checked = checked_options(call, N, m, lam=lam, **options)
        if checked["values"] is not None:
            lams = [checked["values"][part] for part in slices]
    _refuse_what_the_library_refuses(call, m, checked, warm_start is not None)
    lam_token, checked["values"] = getattr(lam, "name", checked["values"]), None

    starts = None
    if isinstance(warm_start, da.Array):
        if warm_start.shape != (N, m):
            raise refuse(ValueError, call, "warm_start", f"a dask array of shape {warm_start.shape}", f"({N}, {m})")
        if warm_start.chunks != (rows, (m,)):
            if scipy.sparse.issparse(warm_start._meta):
                raise refuse(ValueError, call, "warm_start", f"sparse blocks of {warm_start.chunks[0]} rows",
                             f"those of X, {arguments.shown(rows)}")
            warm_start = warm_start.rechunk((rows, (m,)))
        sources.append(warm_start)
        starts = [(warm_start.name, i, 0) for i in range(len(rows))]
    elif warm_start is not None:
        indptr, indices, values = arguments.codes(call, "warm_start", warm_start, (N, m))
        warm_start = scipy.sparse.csr_matrix((values, indices, indptr), shape=(N, m))
        starts = [warm_start[part] for part in slices]

    token = tokenize(__version__, atoms.key, X.name, rows, sorted(checked.items()), lam_token,
                     getattr(warm_start, "name", warm_start), device, threads)
    how = f"shrinkwarp-call-{token}"  # a node of the graph, which goes to each worker once, with weights for all atoms
    call_graph = HighLevelGraph({how: {how: _Call(call, device, threads, checked, N)}}, {how: set()})
    x_keys = [(X.name, i, 0) for i in range(len(rows))]
    graphs, largest = [X, atoms, Delayed(how, call_graph), *sources], None
    if checked["kind"] == "recording_fraction":
        largest = f"shrinkwarp-lambda-max-{token}"
        parts = f"shrinkwarp-block-lambda-max-{token}"
        layer = {(parts, i): (_block_lambda_max, how, atoms.key, key, part.start)
                 for i, (key, part) in enumerate(zip(x_keys, slices))}
        graph = HighLevelGraph.from_collections(parts, layer, dependencies=list(graphs))
        graph = HighLevelGraph({**graph.layers, largest: {largest: (max, list(layer))}},
                               {**graph.dependencies, largest: {parts}})
        graphs.append(Delayed(largest, graph))
    name = f"shrinkwarp-lasso-{token}"
    layer = {
        (name, i): (_solve_block, how, atoms.key, x_keys[i], part.start, None if lams is None else lams[i],
                    None if starts is None else starts[i], largest)
        for i, part in enumerate(slices)
    }
    graph = HighLevelGraph.from_collections(name, layer, dependencies=graphs)
    return _lazy_result(graph, name, rows, m, checked["debias"], checked["gap"])


def _in_row_blocks(call, name, X, wanted):
    """A dask array of numbers with two dimensions of known size, whose blocks are whole rows."""
    if X.ndim != 2 or X.dtype.kind not in "fiub":
        raise refuse(ValueError if X.ndim != 2 else TypeError, call, name,
                     f"a dask array of shape {X.shape} of {X.dtype}", wanted)
    if any(np.isnan(size) for size in X.shape):
        raise refuse(ValueError, call, name, f"shape {X.shape}",
                     f"{wanted}, of known sizes: {name}.compute_chunk_sizes()")
    return X.rechunk({1: -1})


def _atoms(call, D, device, threads):
    """A Delayed of `_Atoms`, the shape of D, the device and the threads."""
    if isinstance(D, Dictionary):
        device = D._asked[0] if device is None else device
        threads = D._asked[1] if threads is None else threads
    device = "auto" if device is None else device
    if not isinstance(device, str) or not _core.is_device_name(device):
        raise refuse(ValueError if isinstance(device, str) else TypeError, call, "device", arguments.shown(device),
                     "'auto', 'cpu', 'cuda' or 'cuda:NUMBER'")
    threads = 1 if threads is None else arguments.integer(call, "threads", threads, 1, 4096)
    wanted = "an array (n, m) of numbers"
    if isinstance(D, da.Array):
        D = _in_row_blocks(call, "D", D, wanted).rechunk(-1)
        shape, name = D.shape, f"shrinkwarp-dictionary-{D.name}"
        graph = HighLevelGraph.from_collections(name, {name: (_Atoms, (D.name, 0, 0))}, dependencies=[D])
    else:
        array = D._core.values() if isinstance(D, Dictionary) else arguments.matrix(call, "D", D, wanted)
        if not np.isfinite(array).all():
            row, column = np.argwhere(~np.isfinite(array))[0]
            raise refuse(ValueError, call, "D", f"{array[row, column]} at ({row}, {column})", "finite numbers")
        atoms = _Atoms(array)
        shape, name = array.shape, f"shrinkwarp-dictionary-{atoms.digest}"
        graph = HighLevelGraph({name: {name: atoms}}, {name: set()})
    if 0 in shape:
        raise refuse(ValueError, call, "D", f"shape {shape}", "at least one row and one atom")
    return Delayed(name, graph), shape, device, threads


def _refuse_what_the_library_refuses(call, m, checked, warm):
    """Keywords that do not go together, now and not in a worker: a solve of no observations, with other atoms."""
    probe = Dictionary(np.ones((1, m)), device="cpu", threads=1)
    values = None if checked["kind"] != "per_problem" else np.empty(0)
    probe._solve_checked(call, np.empty((0, 1)), {**checked, "values": values, "memory_limit": None},
                         scipy.sparse.csr_matrix((0, m)) if warm else None)


def _solve_block(how, atoms, X, first, lams, start, largest):
    """The fields of a block's result, in their order."""
    call, checked = how.call, how.checked
    dictionary = _prepared.get(call, atoms, how.device, how.threads)
    with _RowsFrom(first):
        X = arguments.observations(call, X, dictionary.shape[0])
        if lams is not None:
            _, _, lams = lam_rule(call, X.shape[0], lams)
        result = dictionary._solve_checked(call, X, {**checked, "values": lams}, start, problems_in_all=how.N,
                                           lambda_max=largest)
    found = [result.codes, *(getattr(result, name) for name in _ARRAYS)]
    return found + [result.debiased] if checked["debias"] else found


def _block_lambda_max(how, atoms, X, first):
    call, checked = how.call, how.checked
    dictionary = _prepared.get(call, atoms, how.device, how.threads)
    with _RowsFrom(first), naming(call):
        X = arguments.observations(call, X, dictionary.shape[0])
        return dictionary._core.recording_lambda_max(
            X, checked["weights"], checked["group_size"], checked["nonnegative"], checked["memory_limit"])


class _RowsFrom:
    """Says of errors inside, which number rows of their block, where the block begins."""

    def __init__(self, first):
        self.first = first

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        if kind in (ValueError, TypeError) and self.first > 0:
            raise kind(f"{error} (in a block whose row 0 is row {self.first} of X)") from error


def _lazy_result(graph, name, rows, m, debias, gap) -> LazyResult:
    """The arrays of what the tasks (name, i) give."""
    fields = {}
    for k, field in enumerate(["codes", *_ARRAYS] + (["debiased"] if debias else [])):
        matrix = field in ("codes", "debiased")
        of_field = name.replace("shrinkwarp-", f"shrinkwarp-{field.replace('_', '-')}-", 1)
        layer = {(of_field, i, 0) if matrix else (of_field, i): (operator.getitem, (name, i), k)
                 for i in range(len(rows))}
        layers = HighLevelGraph({**graph.layers, of_field: layer}, {**graph.dependencies, of_field: {name}})
        if matrix:
            fields[field] = da.Array(layers, of_field, chunks=(rows, (m,)), meta=_NO_CODES, dtype=np.float64)
        else:
            fields[field] = da.Array(layers, of_field, chunks=(rows,), dtype=_TYPES.get(field, np.float64))
    return LazyResult(**fields, gap=gap)


def _key(array, i):
    """The key of a field's block i."""
    return (array.name, i, 0) if array.ndim == 2 else (array.name, i)


def _zarr():
    import zarr

    return zarr


def _shared(store):
    """A store as every worker finds it, whatever its folder is."""
    if isinstance(store, (str, os.PathLike)):
        path = os.fspath(store)
        return path if "://" in path else os.path.abspath(path)
    return store


def _put(group, name, values):
    """An array of a group, in chunks that codecs can take."""
    # Of C's two types of 64 bits Zarr 3 knows one.
    values = np.ascontiguousarray(values, dtype=np.dtype(values.dtype.str))
    chunks = (min(max(values.size, 1), _CHUNK),)
    if hasattr(group, "create_array"):  # from Zarr 3 on
        array = group.create_array(name, shape=values.shape, dtype=values.dtype, chunks=chunks, overwrite=True)
    else:
        array = group.create_dataset(name, shape=values.shape, dtype=values.dtype, chunks=chunks, overwrite=True)
    if values.size:
        array[:] = values


def _is_written(group, i):
    return f"blocks/{i}" in group and bool(group[f"blocks/{i}"].attrs.get("complete", False))


def _write_block(store, i, names, values):
    block = _zarr().open_group(store, mode="r+").require_group(f"blocks/{i}")
    found = dict(zip(names, values))
    codes = found.pop("codes")
    for name in ("indptr", "indices", "data"):
        _put(block, name, getattr(codes, name))
    if "debiased" in found:
        found["debiased"] = found["debiased"].data  # in the pattern of the codes
    for name, array in found.items():
        _put(block, name, array)
    block.attrs["complete"] = True  # last: a block that a dying worker began is written anew
    return i


def _finish(store, _):
    _zarr().open_group(store, mode="r+").attrs["complete"] = True


def _read_block(store, i, names, m):
    block = _zarr().open_group(store, mode="r")[f"blocks/{i}"]
    indptr, indices = block["indptr"][:], block["indices"][:]

    def matrix(name):
        csr = scipy.sparse.csr_matrix((block[name][:], indices, indptr), shape=(indptr.size - 1, m))
        csr.has_canonical_format = True
        return csr

    return [matrix({"codes": "data"}.get(name, name)) if name in ("codes", "debiased") else block[name][:]
            for name in names]


# For the estimators of `shrinkwarp.sklearn`.


def map_sparse(function, codes: da.Array, columns: int, sparse: bool, dtype, *others) -> da.Array:
    """A function of each block of sparse codes, which gives blocks of the same rows and so many columns."""
    meta = scipy.sparse.csr_matrix((0, 0), dtype=dtype) if sparse else np.empty((0, 0), dtype)
    return codes.map_blocks(function, *others, chunks=(codes.chunks[0], (columns,)), dtype=dtype, meta=meta)


def persisted(arrays: dict) -> dict:
    return dict(zip(arrays, dask.persist(*arrays.values())))


def products(name: str, X, codes, intercept) -> da.Array:
    """``X @ codes.T + intercept`` by blocks of X's rows and of the codes'; one that is no dask array is one block.

    `name` begins the message of an X that is not finite.
    """
    token = tokenize(name, X, codes, intercept)
    layers, dependencies = {}, []

    def keys_of(value, kind, count):
        """A key for each block; the rows of the blocks."""
        if isinstance(value, da.Array):
            dependencies.append(value)
            return [_key(value, i) for i in range(len(value.chunks[0]))], value.chunks[0]
        key = f"shrinkwarp-{kind}-{token}"
        layers[key] = {key: value}
        return [key] * count, (value.shape[0],) if np.ndim(value) or scipy.sparse.issparse(value) else None

    x_keys, rows = keys_of(X, "samples", 1)
    code_keys, columns = keys_of(codes, "codes", 1)
    intercepts, _ = keys_of(intercept, "intercept", len(code_keys))
    dependencies += [Delayed(key, HighLevelGraph({key: layer}, {key: set()})) for key, layer in layers.items()]
    out = f"shrinkwarp-predict-{token}"
    layer = {(out, i, j): (_product_block, name, x, z, b)
             for i, x in enumerate(x_keys) for j, (z, b) in enumerate(zip(code_keys, intercepts))}
    graph = HighLevelGraph.from_collections(out, layer, dependencies=dependencies)
    return da.Array(graph, out, chunks=(rows, columns), dtype=np.float64)


def _product_block(name, X, codes, intercept):
    if not np.isfinite(X).all():
        raise ValueError(f"{name}: X: found NaN or infinity, wanted finite numbers")
    return (codes @ X.T).T + intercept
