"""Lasso estimates of the sources of MEG and EEG recordings: MNE-Python in, MNE-Python out.

`apply_lasso` takes what `mne.inverse_sparse.mixed_norm` takes, Raw and Epochs too, and solves every time sample on its
own. The program `shrinkwarp-meg` does the same from files. MNE-Python is imported when it is first needed.
"""

from ._apply import apply_lasso
from ._estimate import LassoEstimate

__all__ = ["LassoEstimate", "apply_lasso"]
