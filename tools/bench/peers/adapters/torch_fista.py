"""FISTA with adaptive restart in PyTorch, as one would write it: plain operations on a batch of problems.

All problems of a batch go on until the worst of them has the gap; those that had it before gain nothing. Arrays come and go by
DLPack, which a PyTorch that was made for another NumPy has too.
"""

import time

import numpy as np

from .base import InProcess, import_or_missing

CHECK_EVERY = 20  # iterations between two looks at the gap, which cost a product with D' and one with D


class TorchFista(InProcess):
    variants = ("float32", "float64")
    stops = "the batch with its worst"
    own_threads = True
    packages = ("torch",)

    def __init__(self, job):
        super().__init__(job)
        self.torch = import_or_missing("torch")
        self.torch.set_num_threads(self.threads)
        self.chunk = 256
        if self.device == "cuda":
            if not self.torch.cuda.is_available():
                self.device = "cpu"
            else:
                self.chunk = 4096
                self.torch.backends.cuda.matmul.allow_tf32 = False
        self.dtype = np.dtype(self.variant).type

    def versions(self):
        name = self.torch.cuda.get_device_name() if self.device == "cuda" else "cpu"
        return {**super().versions(), "torch device": name}

    def make_settings(self, gap):
        return [(f"gap {gap * factor:.2g}", gap * factor) for factor in (1, 0.9, 0.5)]

    def warm_up(self):
        random = np.random.default_rng(0)
        self.prepare(random.standard_normal((8, 12)).astype(self.dtype))
        self.solve(random.standard_normal((2, 8)).astype(self.dtype), 1e-3, np.inf)

    def prepare(self, D):
        torch = self.torch
        self.D = torch.from_dlpack(np.ascontiguousarray(D)).to(self.device)  # (n, m)
        self.Dt = self.D.T.contiguous()
        largest = torch.linalg.eigvalsh((self.D @ self.Dt).double())[-1]
        self.step = 1 / (float(largest) * (1 + 1e-6))

    def solve(self, X, gap, deadline):
        torch, shrink = self.torch, self.torch.nn.functional.softshrink
        with torch.no_grad():
            X = torch.from_dlpack(X).to(self.device)  # (k, n)
            z = torch.zeros(len(X), self.D.shape[1], dtype=X.dtype, device=self.device)
            y, t = z, torch.ones(len(X), 1, dtype=X.dtype, device=self.device)
            iterations = 0
            while True:
                if iterations % CHECK_EVERY == 0 and (self.done(X, z, gap) or time.monotonic() > deadline):
                    return np.from_dlpack(z.cpu())
                following = shrink(torch.addmm(y, X - y @ self.Dt, self.D, alpha=self.step), self.step)
                moved = following - z
                restart = ((y - following) * moved).sum(1, keepdim=True) > 0
                t_following = torch.where(restart, torch.ones_like(t), (1 + torch.sqrt(1 + 4 * t * t)) / 2)
                momentum = torch.where(restart, torch.zeros_like(t), (t - 1) / t_following)
                y, z, t = torch.addcmul(following, momentum, moved), following, t_following
                iterations += 1

    def done(self, X, z, gap):
        """Whether all problems have it, lambda being 1."""
        R = X - z @ self.Dt
        along, twice_energy = (X * R).sum(1), (R * R).sum(1)
        bound = 1 / (R @ self.D).abs().amax(1)
        scale = (along / twice_energy).minimum(bound).maximum(-bound)
        gaps = twice_energy / 2 + z.abs().sum(1) - scale * along + scale * scale * twice_energy / 2
        return bool((gaps <= gap * (X * X).sum(1) / 2).all())
