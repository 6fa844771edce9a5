"""Samples of Raw, Epochs and Evoked, in chunks and whitened, so that a long recording is never in memory as a whole."""

from __future__ import annotations

from typing import Any, Iterator

import numpy as np

from ._arguments import refuse, require_mne
from ._problem import WhitenedProblem


class Recording:
    """The samples of an instance of MNE-Python, epoch after epoch, as rows of observations.

    Parameters
    ----------
    inst : Raw | Epochs | Evoked
        What is not preloaded is read as it is needed, and stays unloaded.
    problem : WhitenedProblem
        Its channels are picked, its whitener is applied.
    """

    def __init__(self, inst: Any, problem: WhitenedProblem):
        mne = require_mne()
        if isinstance(inst, mne.BaseEpochs) and not inst.preload:
            inst = inst.copy()
            inst.drop_bad()  # returns None in MNE-Python 1.3 where nothing is left to drop
        self.inst = inst
        kinds = {"raw": mne.io.BaseRaw, "epochs": mne.BaseEpochs, "evoked": mne.Evoked}
        self.kind = next(kind for kind, of_mne in kinds.items() if isinstance(inst, of_mne))
        names = list(inst.info["ch_names"])
        self.picks = [names.index(name) for name in problem.info["ch_names"]]
        self.parts = len(inst) if self.kind == "epochs" else 1
        self.samples_per_part = len(inst.times)
        self.samples = self.parts * self.samples_per_part
        # Averages have less noise than what the covariance was estimated from.
        self.nave = inst.nave if self.kind == "evoked" else 1
        self._problem = problem
        if not self.nave > 0:
            raise refuse(ValueError, "inst", f"an Evoked of nave {self.nave}", "one of nave > 0")
        if self.samples == 0:
            raise refuse(ValueError, "inst", "no samples", "at least one")

    def chunks(self, size: int) -> Iterator[tuple[int, np.ndarray]]:
        """First sample and observations (up to `size`, n) of one chunk after the other."""
        first = 0
        for data in self._pieces(size):
            for start in range(0, data.shape[1], size):
                part = data[:, start:start + size]
                finite = np.all(np.isfinite(part), axis=0)
                if not np.all(finite):
                    bad = first + int(np.argmin(finite))
                    raise refuse(ValueError, "inst", f"NaN or infinity at sample {bad}", "finite numbers")
                yield first, np.ascontiguousarray((self._problem.whitener @ part).T)
                first += part.shape[1]

    def _pieces(self, size: int) -> Iterator[np.ndarray]:
        if self.kind == "raw":
            for start in range(0, self.samples, size):
                yield self.inst.get_data(picks=self.picks, start=start, stop=min(start + size, self.samples))
        elif self.kind == "evoked":
            yield self.inst.data[self.picks]
        else:
            # Epochs are short: as many as fit are solved together.
            held: list[np.ndarray] = []
            for epoch in self.inst:
                held.append(epoch[self.picks])
                if (len(held) + 1) * self.samples_per_part > size:
                    yield np.concatenate(held, axis=1)
                    held = []
            if held:
                yield np.concatenate(held, axis=1)
