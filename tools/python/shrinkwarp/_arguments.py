"""Arguments as the library takes them, or an error that names the argument, what was found and what was wanted."""

from __future__ import annotations

import math
import numbers
import operator
import os
import sys

import numpy as np
import scipy.sparse

from . import _core

_DLPACK_CPU = 1
_DLPACK_CUDA = (2, 13)  # device memory and managed memory


def refuse(error, call, name, found, wanted):
    """The exception of a bad argument."""
    return error(f"{call}: {name}: found {found}, wanted {wanted}")


def shown(value):
    """A value in a message: short, whatever it is."""
    if isinstance(value, np.ndarray) and value.ndim > 0:
        return f"an array of shape {value.shape} of {value.dtype}"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def of_type(value):
    if isinstance(value, np.ndarray) and value.ndim > 0:
        return shown(value)
    return f"{type(value).__name__} {shown(value)}"


def is_on_cuda(array):
    """Whether an array of any library lies on a CUDA device."""
    if isinstance(array, np.ndarray) or not hasattr(array, "__dlpack_device__"):
        return False
    try:
        kind, index = array.__dlpack_device__()
        return operator.index(kind) in _DLPACK_CUDA and operator.index(index) >= 0
    except (BufferError, RuntimeError, TypeError, ValueError):  # a device that DLPack does not know
        return False


def as_it_is(array):
    """What DLPack lends of a tensor of PyTorch: without its gradient, and with the signs that PyTorch keeps aside."""
    for name in ("detach", "resolve_conj", "resolve_neg"):
        array = getattr(array, name)() if hasattr(array, name) else array
    return array


def is_dask(array):
    """Whether it is an array of Dask's, which is not imported for the question."""
    module = sys.modules.get("dask.array")
    return module is not None and isinstance(array, module.Array)


def on_host(call, name, value, wanted):
    """A value as a NumPy array of float32 or float64 in native order: the same memory where it has that type.

    Else it is converted. A copy too where elements do not lie at multiples of their size, as fields of packed records do,
    and of an array on CUDA.
    """
    if scipy.sparse.issparse(value):
        raise refuse(TypeError, call, name, f"a sparse matrix of shape {value.shape}", wanted)
    if value is None or isinstance(value, (str, bytes, dict, set)):
        raise refuse(TypeError, call, name, of_type(value), wanted)
    if is_on_cuda(value):
        value = _from_cuda(call, name, value, wanted)
    if not isinstance(value, np.ndarray) and hasattr(value, "__dlpack__"):
        try:
            value = np.from_dlpack(as_it_is(value))
            if value.__dlpack_device__()[0] != _DLPACK_CPU:  # page-locked, which NumPy's array goes on saying
                value = np.asarray(memoryview(value))
        except (BufferError, RuntimeError, TypeError, ValueError) as error:
            raise refuse(TypeError, call, name, f"{type(value).__name__} ({error})", wanted) from error
    try:
        array = np.asarray(value)
    except (TypeError, ValueError) as error:
        raise refuse(ValueError, call, name, f"{type(value).__name__} that makes no array ({error})", wanted) from error
    if array.dtype.kind == "O":
        try:
            array = array.astype(np.float64)
        except OverflowError as error:
            raise refuse(ValueError, call, name, f"a number beyond float64 ({error})", wanted) from error
        except (TypeError, ValueError) as error:
            raise refuse(TypeError, call, name, f"elements of type object ({error})", wanted) from error
    if array.dtype.kind not in "fiub":
        raise refuse(TypeError, call, name, f"elements of type {array.dtype}", wanted)
    is_short = array.dtype.kind == "f" and array.dtype.itemsize <= 4
    array = np.asarray(array, dtype=np.float32 if is_short else np.float64)
    if not array.flags.aligned or any(stride % array.itemsize for stride in array.strides):
        array = array.copy()
    return array


def _from_cuda(call, name, value, wanted):
    """The copy of an array on CUDA."""
    try:
        return _core.on_host(as_it_is(value), f"{call}: {name}")
    except RuntimeError as error:  # no such device, or none at all
        found = f"{type(value).__name__} on a CUDA device ({error})"
        raise refuse(TypeError, call, name, found, wanted + " on the CPU") from error


def on_place(call, name, value, wanted, contexts, dtype):
    """A value where a network of `contexts` takes it: as on_host(), or an array on its CUDA device as it lies there.

    Returns
    -------
    _core.CudaArray
        Of an array on that device in C order whose elements are of `dtype`.
    ndarray
        Of `dtype`, in C order; of any other.
    """
    if is_on_cuda(value) and cuda_device(value) == contexts.device:
        if not isinstance(value, _core.CudaArray):
            value, = contexts.taken([as_it_is(value)], f"{call}: {name}")
        if isinstance(value, _core.CudaArray):
            if value.dtype == dtype:
                return value
            value = value.numpy()
    return np.ascontiguousarray(on_host(call, name, value, wanted), dtype=dtype)


def cuda_device(array):
    """The name of the device of an array for which is_on_cuda() holds."""
    return f"cuda:{int(array.__dlpack_device__()[1])}"


def matrix(call, name, value, wanted, rows=False):
    """A 2-D array on the host; with `rows` a 1-D one counts as one row."""
    array = on_host(call, name, value, wanted)
    if rows and array.ndim == 1:
        array = array[np.newaxis, :]
    if array.ndim != 2:
        raise refuse(ValueError, call, name, f"shape {array.shape}", wanted)
    return array


def cuda_matrix(call, name, value, wanted):
    """A 2-D array on CUDA, as the extension takes it."""
    shape = getattr(value, "shape", None)
    if shape is None:
        raise refuse(TypeError, call, name, f"{type(value).__name__} without a shape", wanted)
    if len(shape) != 2:
        raise refuse(ValueError, call, name, f"shape {tuple(shape)} on a CUDA device", wanted)
    return as_it_is(value)


def observations(call, value, n, wanted_rows="an array (N, n)"):
    """X as the library reads it: on the host as a NumPy array, on CUDA as it is.

    Nothing of float32 or float64 is copied, whatever its strides.
    """
    wanted = f"{wanted_rows} of numbers, n = {n}"
    array = cuda_matrix(call, "X", value, wanted) if is_on_cuda(value) else matrix(call, "X", value, wanted, rows=True)
    if array.shape[1] != n:
        raise refuse(ValueError, call, "X", f"shape {tuple(array.shape)}", f"{wanted}, the rows of D (n, m)")
    return array


def number(call, name, value, least=-math.inf, above=-math.inf):
    """A finite real number >= least and > above."""
    wanted = "a finite number"
    if above > -math.inf:
        wanted += f" > {above:g}"
    elif least > -math.inf:
        wanted += f" >= {least:g}"
    if isinstance(value, (bool, np.bool_)):
        raise refuse(TypeError, call, name, of_type(value), wanted)
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if not isinstance(value, numbers.Real):
        raise refuse(TypeError, call, name, of_type(value), wanted)
    try:
        found = float(value)
    except OverflowError:  # of a whole number or a fraction
        found = math.inf
    if not math.isfinite(found) or found < least or found <= above:
        raise refuse(ValueError, call, name, shown(value), wanted)
    return found


def integer(call, name, value, least, most=2**62):
    """A whole number from least to most."""
    wanted = f"a whole number from {least} to {'2^62' if most == 2**62 else most}"
    if isinstance(value, (bool, np.bool_)):
        raise refuse(TypeError, call, name, of_type(value), wanted)
    try:
        whole = operator.index(value)
    except TypeError as error:
        raise refuse(TypeError, call, name, of_type(value), wanted) from error
    if not least <= whole <= most:
        raise refuse(ValueError, call, name, str(whole), wanted)
    return whole


def one_of(call, name, value, names):
    """One of some names."""
    if not isinstance(value, str) or value not in names:
        raise refuse(ValueError if isinstance(value, str) else TypeError, call, name, shown(value),
                     f"one of {', '.join(names)}")


def is_one(value):
    """Whether a value is meant as one number, not as several."""
    if not hasattr(value, "ndim") and hasattr(value, "__dlpack__"):
        return len(getattr(value, "shape", ())) == 0
    return not isinstance(value, (list, tuple)) and np.ndim(value) == 0


def place(call, device, threads):
    """A device's name and a number of threads, as the library takes them."""
    if not isinstance(device, str) or not _core.is_device_name(device):
        raise refuse(ValueError if isinstance(device, str) else TypeError, call, "device", shown(device),
                     "'auto', 'cpu', 'cuda' or 'cuda:NUMBER'")
    return device, 0 if threads is None else integer(call, "threads", threads, 1, 4096)


def path(call, value):
    """A path as text."""
    try:
        text = os.fsdecode(value)
    except TypeError as error:
        raise refuse(TypeError, call, "path", of_type(value), "a path") from error
    try:
        whole = "\0" not in text and bool(text.encode())
    except UnicodeEncodeError:
        whole = False
    if not whole:
        raise refuse(ValueError, call, "path", shown(value), "a path in UTF-8, not empty")
    return text


def flag(call, name, value):
    if not isinstance(value, (bool, np.bool_)):
        raise refuse(TypeError, call, name, of_type(value), "True or False")
    return bool(value)


def vector(call, name, value, size, wanted):
    """(size,) of float64, without NaN."""
    array = np.ascontiguousarray(on_host(call, name, value, wanted), dtype=np.float64)
    if array.shape != (size,):
        raise refuse(ValueError, call, name, f"shape {array.shape}", wanted)
    if np.isnan(array).any():
        raise refuse(ValueError, call, name, f"NaN at {int(np.flatnonzero(np.isnan(array))[0])}", wanted)
    return array


def codes(call, name, value, shape):
    """CSR arrays of codes of a given shape: any sparse matrix of SciPy's, or a dense array."""
    wanted = f"a sparse matrix or an array of shape {shape}"
    if not scipy.sparse.issparse(value):
        value = matrix(call, name, value, wanted, rows=True)
    elif value.dtype.kind not in "fiub":
        raise refuse(TypeError, call, name, f"elements of type {value.dtype}", wanted)
    if value.shape != shape:
        raise refuse(ValueError, call, name, f"shape {value.shape}", wanted)
    if hasattr(value, "check_format"):
        try:
            value.check_format(full_check=True)
        except ValueError as error:
            raise refuse(ValueError, call, name, f"a broken sparse matrix ({error})", wanted) from error
    csr = scipy.sparse.csr_matrix(value)
    if not csr.has_canonical_format:
        csr = csr.copy()
        csr.sum_duplicates()
    if not np.isfinite(csr.data).all():
        raise refuse(ValueError, call, name, "NaN or infinity", wanted + " of finite numbers")
    return (
        np.ascontiguousarray(csr.indptr, dtype=np.int64),
        np.ascontiguousarray(csr.indices, dtype=np.int32),
        np.ascontiguousarray(csr.data, dtype=np.float64),
    )
