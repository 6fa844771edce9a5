"""NumPy arrays go to the plugin of exchange.cpp and come back, by way of DLPack and without a copy."""

import ctypes
import gc
import sys
import weakref

import numpy as np

plugin = ctypes.CDLL(sys.argv[1])
plugin.exchange_error.restype = ctypes.c_char_p
plugin.exchange_solve.restype = ctypes.c_void_p
plugin.exchange_solve.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_double]

api = ctypes.pythonapi
api.PyCapsule_GetPointer.restype = ctypes.c_void_p
api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
api.PyCapsule_SetName.argtypes = [ctypes.py_object, ctypes.c_char_p]
api.PyCapsule_New.restype = ctypes.py_object
api.PyCapsule_New.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
FRESH, USED = b"dltensor", b"used_dltensor"  # a capsule keeps the pointer to its name


def lend(array):
    """The array's DLManagedTensor, which the receiver gives back."""
    capsule = array.__dlpack__()
    pointer = api.PyCapsule_GetPointer(capsule, FRESH)
    api.PyCapsule_SetName(capsule, USED)
    return pointer


class Result:
    """A DLManagedTensor as from_dlpack wants it."""

    def __init__(self, pointer):
        self.pointer = pointer

    def __dlpack__(self, stream=None):
        return api.PyCapsule_New(self.pointer, FRESH, None)

    def __dlpack_device__(self):
        return (1, 0)


def solve(D, X, lam):
    pointer = plugin.exchange_solve(lend(D), lend(X), lam)
    if pointer is None:
        raise ValueError(plugin.exchange_error().decode())
    return np.from_dlpack(Result(pointer))


class Tracked(np.ndarray):
    """An array that weak references can follow."""


# With D the identity the solution is the soft-threshold; 1/2 ||z - z*||^2 <= gap <= 1e-6 * 1/2 ||x||^2.
rng = np.random.default_rng(3)
padded = rng.normal(size=(40, 9)).view(Tracked)
X = padded[:, :7]  # rows with gaps
D = np.asfortranarray(np.eye(7))
Z = solve(D, X, 0.5)
assert Z.shape == (40, 7) and Z.dtype == np.float64
wanted = np.sign(X) * np.maximum(np.abs(X) - 0.5, 0)
error = np.linalg.norm(Z - wanted, axis=1)
assert np.all(error <= 1e-3 * np.linalg.norm(X, axis=1)), error.max()

# What was borrowed has been given back: nothing but `padded` and `X` holds the memory.
alive = weakref.ref(padded)
del padded, X
gc.collect()
assert alive() is None

for bad, words in [
    (np.zeros((4, 7), np.float32), ["X: ", "float32", "float64"]),
    (np.zeros((4, 3, 7)), ["X: ", "3 dimensions", "wanted 2"]),
    (np.zeros((7, 4)).T, ["X: ", "(1, 4)", "C order"]),
]:
    try:
        solve(D, bad, 0.5)
    except ValueError as refused:
        assert all(word in str(refused) for word in words), refused
    else:
        raise AssertionError(f"{words} was not refused")
