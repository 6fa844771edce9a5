"""Arrays of a CUDA library that is not there, on a device that is not there either.

The package shrinkwarp_on_simt is the module over the host executor (tests/support/simt), whose device memory is memory
of the host. `Device` has that device's memory and streams, `CudaArray` is to the module what an array of CuPy's or
PyTorch's on CUDA is: a shape, `__dlpack_device__` and `__dlpack__`, with real capsules of real DLPack tensors.
"""

import contextlib
import ctypes
import enum
import weakref
from ctypes import (POINTER, Structure, c_int, c_int32, c_int64, c_size_t, c_uint8, c_uint16, c_uint32, c_uint64,
                    c_void_p)

import numpy as np


class DeviceType(enum.IntEnum):
    CPU = 1
    CUDA = 2
    CUDA_HOST = 3
    CUDA_MANAGED = 13


LEGACY_STREAM, NO_ORDER = 1, -1  # what DLPack's `stream` says beside a handle


class Device:
    """The executor's CUDA device, as another library of the process has it."""

    def __init__(self, core):
        library = ctypes.PyDLL(core.__file__)  # which keeps the interpreter's lock
        for name, result, arguments in (
            ("allocate", c_void_p, [c_size_t]),
            ("free", c_int, [c_void_p]),
            ("copy", c_int, [c_void_p, c_void_p, c_size_t, c_void_p]),
            ("used", c_size_t, []),
            ("make_stream", c_void_p, []),
            ("destroy_stream", c_int, [c_void_p]),
            ("wait", c_int, [c_void_p]),
            ("order", c_int, [c_void_p, c_void_p]),
            ("set", None, [c_int, c_size_t]),
            ("capsule", ctypes.py_object, [c_void_p, c_int]),
        ):
            function = getattr(library, f"others_{name}")
            function.restype, function.argtypes = result, arguments
            setattr(self, f"_{name}", function)

    def allocate(self, bytes):
        address = self._allocate(bytes)
        assert address
        return address

    def free(self, address):
        assert self._free(address) == 0

    def copy(self, target, source, bytes, stream=None):
        assert self._copy(target, source, bytes, stream) == 0

    def wait(self, stream):
        assert self._wait(stream) == 0

    def make_stream(self):
        return self._make_stream()

    def destroy_stream(self, stream):
        assert self._destroy_stream(stream) == 0

    def is_ordered(self, first, second):
        """Has the stream `second` wait for `first`; False where one of them is no stream."""
        return self._order(first, second) == 0

    def capsule(self, managed, versioned):
        """Of a DLPack tensor by its address; gives it back where nobody takes it."""
        return self._capsule(managed, versioned)

    @property
    def used(self):
        """Bytes that are in use, of anybody."""
        return self._used()

    @contextlib.contextmanager
    def settings(self, late=False, memory=0):
        """Until its end: whether what is queued runs as late as waits allow, and how many bytes the device has."""
        self._set(late, memory)
        try:
            yield
        finally:
            self._set(False, 0)


# ---- DLPack's structures, as the specification fixes them ------------------------------------------------------------


class Tensor(Structure):
    _fields_ = [("data", c_void_p), ("device_type", c_int32), ("device_id", c_int32), ("ndim", c_int32),
                ("code", c_uint8), ("bits", c_uint8), ("lanes", c_uint16), ("shape", POINTER(c_int64)),
                ("strides", POINTER(c_int64)), ("byte_offset", c_uint64)]


Deleter = ctypes.CFUNCTYPE(None, c_void_p)


class Managed(Structure):
    _fields_ = [("tensor", Tensor), ("manager", c_void_p), ("deleter", Deleter)]


class ManagedVersioned(Structure):
    _fields_ = [("major", c_uint32), ("minor", c_uint32), ("manager", c_void_p), ("deleter", Deleter),
                ("flags", c_uint64), ("tensor", Tensor)]


_READ_ONLY = 1
_GAP = 64  # bytes before an array, so that its address has two parts, as that of a slice
_CODES = {"i": 0, "u": 1, "f": 2, "c": 5, "b": 6}

_lent = {}  # what a tensor that is lent needs, by its address


@Deleter
def _give_back(address):
    *_, loan = _lent.pop(address)
    loan.returned += 1
    loan.then()


class Loan:
    """A tensor that was lent: how it was asked for, how often it came back, and what is done then."""

    def __init__(self, stream):
        self.stream, self.returned, self.then = stream, 0, lambda: None


class _Memory:
    """Device memory, freed with the last who holds it."""

    def __init__(self, device, bytes):
        self.address = device.allocate(bytes)
        weakref.finalize(self, device.free, self.address)


class CudaArray:
    """A copy of a NumPy array, in the layout that it has, in the device's memory.

    Parameters
    ----------
    device : Device
    values : ndarray
        Strides are kept, those under 0 too.
    kind : DeviceType
        What `__dlpack_device__` says.
    index : int
        Of the device, as it says.
    stream : int, optional
        A stream of this array's library. The values are then no copy that is there, but come on that stream, queued no
        sooner than the array is lent, as by a kernel that writes them.

    Attributes
    ----------
    loans : list of Loan
        A call of `__dlpack__` each.
    address : int
        Of the first element.
    """

    def __init__(self, device, values, kind=DeviceType.CUDA, index=0, stream=None):
        self._device, self._place, self._stream = device, (kind, index), stream
        self.shape, self.ndim, self.dtype = values.shape, values.ndim, values.dtype
        low = values.ctypes.data + sum(min(0, (n - 1) * s) for n, s in zip(values.shape, values.strides) if n)
        high = low + values.itemsize + sum(abs((n - 1) * s) for n, s in zip(values.shape, values.strides) if n)
        self._layout = values.shape, [stride // values.itemsize for stride in values.strides]
        self._offset = _GAP + values.ctypes.data - low
        self._memory = _Memory(device, _GAP + high - low)
        self.address = self._memory.address + self._offset
        self._copy = (self._memory.address + _GAP, low, high - low if values.size else 0, stream)
        self._values = values  # where the copy is from
        if stream is None:
            device.copy(*self._copy)
        self.loans = []

    def __dlpack_device__(self):
        return self._place

    def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None):
        return self._lend(stream, max_version is not None and max_version[0] >= 1)

    def _lend(self, stream, versioned=False, flags=0):
        loan = Loan(stream)
        self.loans.append(loan)
        if self._stream is not None:
            self._device.copy(*self._copy)
        if stream == 0:
            raise ValueError("stream: found 0, wanted a stream as DLPack has it")
        if stream != NO_ORDER:
            handle = None if stream is None or stream == LEGACY_STREAM else stream
            if not self._device.is_ordered(self._stream, handle):
                raise ValueError(f"stream: found {stream}, wanted a stream of the device")
        managed = ManagedVersioned() if versioned else Managed()
        if versioned:
            managed.major, managed.minor, managed.flags = 1, 0, flags
        tensor = managed.tensor
        shape, strides = ((c_int64 * len(sizes))(*sizes) for sizes in self._layout)
        tensor.data, tensor.byte_offset = self._memory.address, self._offset
        tensor.device_type, tensor.device_id = self._place
        tensor.code, tensor.bits, tensor.lanes = _CODES[self.dtype.kind], 8 * self.dtype.itemsize, 1
        tensor.ndim, tensor.shape, tensor.strides = len(shape), shape, strides
        address = ctypes.addressof(managed)
        _lent[address] = (managed, shape, strides, self._memory, loan)
        managed.deleter = _give_back
        return self._device.capsule(address, versioned)


class OldCudaArray(CudaArray):
    """As libraries before DLPack 1 are: PyTorch 1.13, CuPy 12."""

    def __dlpack__(self, stream=None):
        return self._lend(stream)


class ReadOnlyCudaArray(CudaArray):
    """Read-only, which only tensors of DLPack 1 can say."""

    def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None):
        if max_version is None or max_version[0] < 1:
            raise BufferError("a read-only array, which only DLPack 1 can lend")
        return self._lend(stream, True, _READ_ONLY)


class TensorWithGradient(CudaArray):
    """A tensor of PyTorch's that requires its gradient: lends only what `detach` gives."""

    def __dlpack__(self, stream=None):
        raise RuntimeError("Can't export tensors that require gradient, use tensor.detach()")

    def detach(self):
        other = OldCudaArray.__new__(OldCudaArray)
        other.__dict__.update(self.__dict__)
        return other
