"""Runs the program, reads what it wrote and recomputes what it claims. Float64 NumPy, no shortcuts."""

import os
import re
import struct
import subprocess
from pathlib import Path

import numpy as np
import scipy.sparse

ROOT = Path(__file__).resolve().parents[2]
PATH = Path(os.environ.get("SHRINKWARP") or ROOT / "build" / "cpu-release" / "bin" / "shrinkwarp").resolve()

DONE, FAILED, USAGE, UNCONVERGED = 0, 1, 2, 3
EPS = np.finfo(np.float64).eps


def run(*arguments, status=None, timeout=120, program=(PATH,), **options):
    """One run of the program. `status`: the exit status that it must end with; `program`: what it is started by."""
    done = subprocess.run(
        [*map(str, program), *map(str, arguments)],
        stdout=options.pop("stdout", subprocess.PIPE),
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=timeout,
        **options,
    )
    if status is not None:
        assert done.returncode == status, f"status {done.returncode}, wanted {status}\n{done.stdout}{done.stderr}"
    return done


_started = []


def start(*arguments, **options):
    """Starts the program and goes on beside it; the end of the test kills it if nothing did before (conftest.py)."""
    process = subprocess.Popen([str(PATH), *map(str, arguments)], **options)
    _started.append(process)
    return process


def kill_started():
    while _started:
        process = _started.pop()
        process.kill()
        process.wait()


class Codes:
    """A result file: scipy's CSR matrix Z (N, m) and an array (N,) a key beside it (lambda is `lam`)."""

    def __init__(self, path):
        self.path = Path(path)
        with np.load(path) as arrays:
            self.arrays = {name: arrays[name] for name in arrays.files}
        self.Z = scipy.sparse.load_npz(path)
        self.lam = self.arrays["lambda"]
        self.objective = self.arrays["objective"]
        self.dual_gap = self.arrays["dual_gap"]
        self.iterations = self.arrays["iterations"]
        self.converged = self.arrays["converged"]

    def row(self, i):
        """All that the file says about problem i, as bytes."""
        begin, end = self.Z.indptr[i], self.Z.indptr[i + 1]
        parts = [
            self.Z.indices[begin:end],
            self.Z.data[begin:end],
            self.lam[i],
            self.objective[i],
            self.dual_gap[i],
            self.iterations[i],
            self.converged[i],
        ]
        return b"|".join(np.asarray(part).tobytes() for part in parts)


def held(journal):
    """The problems in a journal that nothing has damaged, in the order of their records."""
    content = journal.read_bytes() if journal.exists() else b""
    problems = []
    at = 16  # behind the magic
    while len(content) >= at + 16:
        size = int.from_bytes(content[at : at + 8], "little")
        record = content[at + 16 : at + 16 + size]
        if size == 0 or len(record) < size:
            break  # torn
        if at > 16:  # the first is the header
            entry = 8
            for _ in range(int.from_bytes(record[:8], "little")):
                index, nonzeros = struct.unpack_from("<q40xi", record, entry)
                problems.append(index)
                entry += 56 + 12 * nonzeros
            assert entry == size
        at += 16 + size
    return problems


def save(folder, D, X):
    np.save(folder / "D.npy", D)
    np.save(folder / "X.npy", X)
    return ["--dictionary", folder / "D.npy", "--observations", folder / "X.npy"]


def solve(folder, D, X, *options, status=DONE, output="Z.npz", **running):
    """Saves D and X, solves, reads the result. `--quiet` is given so that a failure shows what matters."""
    files = save(folder, D, X)
    done = run("solve", *files, "--output", folder / output, "--quiet", *options, status=status, **running)
    assert done.stdout == ""
    return Codes(folder / output)


def put_off(folder, codes):
    """The result file with codes that are a little off, and what it claims of them as it was."""
    arrays = dict(codes.arrays)
    arrays["data"] = arrays["data"] * 1.02
    np.savez(folder / "Z.npz", **arrays)
    return Codes(folder / "Z.npz")


def certificate(D, X, Z, lam):
    """Objective and duality gap of each row of Z, in float64: docs/math.md."""
    D = np.asarray(D, np.float64)
    X = np.asarray(X, np.float64)
    Z = Z.toarray() if scipy.sparse.issparse(Z) else np.asarray(Z)
    R = X - Z @ D.T
    objective = energy(R) + lam * np.abs(Z).sum(1)
    theta = dual_scale(X, R, R @ D, lam)[:, None] * R
    return objective, objective - (energy(X) - energy(X - theta))


def dual_scale(X, R, correlation, lam):
    """The best s for which s r is dual feasible."""
    with np.errstate(divide="ignore", invalid="ignore"):
        best = np.where(energy(R) > 0, np.einsum("ij,ij->i", X, R) / (2 * energy(R)), 0)
        largest = np.abs(correlation).max(1)
        bound = np.where(largest > 0, lam / largest, np.inf)
    return np.clip(best, -bound, bound)


def energy(X):
    X = np.asarray(X, np.float64)
    return np.einsum("ij,ij->i", X, X) / 2


def lambda_max(D, X):
    return np.abs(np.asarray(X, np.float64) @ np.asarray(D, np.float64)).max(1)


def rounding(D, X):
    """What float64 may do to an objective or a gap of each row: some eps a term, of 1/2 ||x||^2, and the allowance of
    16 eps (F(z) + |s <x, r>|) <= 48 eps 1/2 ||x||^2 that the program adds to its gaps."""
    return (8 * sum(np.shape(D)) + 48) * EPS * energy(X)


def check(codes, D, X, gap=1e-6, all_converged=True):
    """Everything that a result file promises."""
    n, m = D.shape
    N = len(X)
    arrays = codes.arrays
    assert set(arrays) == {
        "data",
        "indices",
        "indptr",
        "shape",
        "format",
        "lambda",
        "objective",
        "dual_gap",
        "iterations",
        "converged",
        "fingerprint",
    }
    types = {
        "data": "<f8",
        "indices": "<i4",
        "indptr": "<i4",
        "shape": "<i8",
        "lambda": "<f8",
        "objective": "<f8",
        "dual_gap": "<f8",
        "iterations": "<i8",
        "converged": "|b1",
    }
    for name, dtype in types.items():
        assert arrays[name].dtype == np.dtype(dtype), name
        assert arrays[name].ndim == 1, name
    assert arrays["format"].item() == b"csr"
    assert re.search(rb"^--gap: .*^values of --observations: [0-9a-f]{16}\n\Z", arrays["fingerprint"].item(), re.M | re.S)
    for name in ("lambda", "objective", "dual_gap", "iterations", "converged"):
        assert len(arrays[name]) == N, name

    Z = codes.Z
    assert isinstance(Z, scipy.sparse.csr_matrix) and Z.shape == (N, m)
    Z.check_format(full_check=True)
    assert len(arrays["indptr"]) == N + 1
    for i in range(N):
        assert (np.diff(Z.indices[Z.indptr[i] : Z.indptr[i + 1]]) > 0).all(), "indices ascend, each once"
    assert (Z.data != 0).all() and np.isfinite(Z.data).all()

    objective, dual_gap = certificate(D, X, Z, codes.lam)
    slack = rounding(D, X)
    assert (np.abs(codes.objective - objective) <= slack).all()
    assert (np.abs(codes.dual_gap - dual_gap) <= slack).all()
    assert (codes.dual_gap >= 0).all()
    unsure = np.abs(dual_gap - gap * energy(X)) <= slack
    assert (unsure | (codes.converged == (dual_gap <= gap * energy(X)))).all()
    if all_converged:
        assert codes.converged.all()
        assert (dual_gap <= gap * energy(X) + slack).all()
        check_optimality(codes, D, X, dual_gap + slack)


def check_optimality(codes, D, X, gap):
    """What a gap says about KKT: r* of a solution has 1/2 ||r - r*||^2 <= gap and ||D'r*||_inf <= lambda."""
    D = np.asarray(D, np.float64)
    R = np.asarray(X, np.float64) - codes.Z @ D.T
    norms = np.sqrt((D * D).sum(0))
    correlation = R @ D
    assert (np.abs(correlation) <= codes.lam[:, None] + norms * np.sqrt(2 * gap)[:, None]).all()
    # An atom in use has correlation sign(z) lambda, but for what the gap leaves: |z_j| (lambda - s sign(z_j) d_j'r) <=
    # gap with the dual scale s of the certificate, which is 1 but for the same.
    Z = codes.Z.toarray()
    s = dual_scale(X, R, correlation, codes.lam)[:, None]
    missing = np.abs(Z) * codes.lam[:, None] - s * Z * correlation
    assert (missing <= gap[:, None] + 1e-13 * np.abs(Z) * codes.lam[:, None]).all()


def coordinate_descent(D, x, lam, sweeps=20000, tolerance=1e-15):
    """The Lasso by another road, to float64's end. For small problems."""
    D = np.asarray(D, np.float64)
    z = np.zeros(D.shape[1])
    r = np.array(x, np.float64)
    norms = (D * D).sum(0)
    for _ in range(sweeps):
        largest = 0.0
        for j in np.flatnonzero(norms):
            u = z[j] + D[:, j] @ r / norms[j]
            new = np.sign(u) * max(abs(u) - lam / norms[j], 0)
            if new != z[j]:
                r -= D[:, j] * (new - z[j])
                largest = max(largest, abs(new - z[j]))
                z[j] = new
        if largest <= tolerance * np.abs(z).max(initial=0):
            break
    return z


def one_line(done):
    """The one line that an error leaves on standard error."""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, f"{len(lines)} lines on standard error:\n{done.stderr}"
    assert done.stderr.endswith("\n")
    assert re.fullmatch(r"[ -~]+", lines[0]), f"not printable: {lines[0]!r}"
    assert len(lines[0]) < 400
    return lines[0]
