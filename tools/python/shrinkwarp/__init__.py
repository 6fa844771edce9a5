"""Very many Lasso problems with one dictionary, each solution with a certificate.

Every row x of X is coded by z = argmin 1/2 ||x - D z||^2 + lam ||z||_1; a code comes with a duality gap, computed in
float64, that bounds how far its objective is from the optimum. Imported by name: `shrinkwarp.networks` and
`shrinkwarp.momentum`; where what they need is installed, `shrinkwarp.dask`, `shrinkwarp.mne`, `shrinkwarp.sklearn` and
`shrinkwarp.torch`.
"""

from importlib import metadata as _metadata

from ._core import cuda_device_count, cuda_unavailable_reason
from ._lasso import Dictionary, Interrupted, LassoResult, lasso, lasso_path, minimum_norm

try:
    __version__ = _metadata.version("shrinkwarp")
except _metadata.PackageNotFoundError:  # imported from a build folder
    __version__ = "0+unknown"

__all__ = [
    "Dictionary",
    "Interrupted",
    "LassoResult",
    "cuda_device_count",
    "cuda_unavailable_reason",
    "lasso",
    "lasso_path",
    "minimum_norm",
]
