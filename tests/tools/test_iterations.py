"""Iterations that ISTA and FISTA need are the literature's.

n = 100, m = 200, unit Gaussian atoms, x made by a Gaussian code and scaled so that lambda_max = 1, step 1/||D||_2^2, no
restart, until F(z_k) <= F* + 1e-8: medians over ten problems are about 611 / 245 for ISTA / FISTA at lambda 0.1, 112 /
72 at 0.4 and 39 / 32 at 0.8 (Ablin, Moreau, Massias, Gramfort 2019, with the authors' code).
"""
import numpy as np
import pytest

from program import Codes, DONE, UNCONVERGED, run, save

SEEDS = range(10)
LAMBDAS = (0.1, 0.4, 0.8)
MEDIANS = {"ista": (611, 112, 39), "fista": (245, 72, 32)}
TARGET = 1e-8
STEP = {"ista": 64, "fista": 4}  # ISTA descends, so bisection follows; FISTA's ripples are longer than this


def problem(seed, n=100, m=200):
    random = np.random.RandomState(seed)
    rows = random.randn(m, n)
    rows /= np.sqrt((rows**2).sum(1, keepdims=True))
    x = random.randn(1, m) @ rows
    x /= np.abs(x @ rows.T).max()
    return rows.T, np.repeat(x, len(LAMBDAS), axis=0)


class Trajectory:
    """F(z_k) of the program for each lambda, a run a k."""

    def __init__(self, folder, D, X, solver):
        np.save(folder / "L.npy", np.array(LAMBDAS))
        self.files = save(folder, D, X) + ["--lambda-file", folder / "L.npy", "--output", folder / "Z.npz", "--quiet",
                                           "--threads", 1]
        self.output = folder / "Z.npz"
        self.solver = solver
        self.known = {}
        run("solve", *self.files, "--gap", 1e-13, status=DONE)
        self.best = Codes(self.output).objective

    def there(self, k, which):
        if k not in self.known:
            done = run("solve", *self.files, "--solver", self.solver, "--no-restart", "--gap", 1e-300, "--max-iterations", k)
            assert done.returncode in (DONE, UNCONVERGED), done.stderr
            codes = Codes(self.output)
            assert (codes.iterations <= k).all()
            self.known[k] = codes.objective - self.best
        return self.known[k][which] <= TARGET

    def first(self, which):
        """The first k with F(z_k) <= F* + TARGET."""
        step = STEP[self.solver]
        high = step
        while not self.there(high, which):
            high += step
            assert high < 5000
        low = high - step
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.there(middle, which) else (middle, high)
        return high


def oracle(D, X, solver):
    """The same in float64 NumPy: the first k, for each lambda."""
    lam = np.array(LAMBDAS)[:, None]
    step = 1 / np.linalg.norm(D, 2)**2

    def value(z):
        return ((X - z @ D.T)**2).sum(1) / 2 + lam[:, 0] * np.abs(z).sum(1)

    def shrink(u):
        return np.sign(u) * np.maximum(np.abs(u) - lam * step, 0)

    z = y = np.zeros((len(lam), D.shape[1]))
    t, values = 1.0, []
    for _ in range(6000):
        new = shrink(y - step * (y @ D.T - X) @ D)
        t_new = (1 + np.sqrt(1 + 4 * t * t)) / 2
        y = new + ((t - 1) / t_new if solver == "fista" else 0) * (new - z)
        z, t = new, t_new
        values.append(value(z))
    values = np.array(values)
    return [int(np.argmax(values[:, i] <= values[:, i].min() + TARGET)) + 1 for i in range(len(lam))]


@pytest.mark.parametrize("solver", ["ista", "fista"])
def test_iteration_counts(folder, solver):
    found, wanted = [], []
    for seed in SEEDS:
        D, X = problem(seed)
        trajectory = Trajectory(folder, D, X, solver)
        found.append([trajectory.first(i) for i in range(len(LAMBDAS))])
        wanted.append(oracle(D, X, solver))
    found, wanted = np.array(found), np.array(wanted)
    print(solver, "medians", np.median(found, axis=0), "float64", np.median(wanted, axis=0))
    assert (np.abs(found - wanted) <= np.maximum(1, 0.02 * wanted)).all(), f"{solver}:\n{found}\nin float64:\n{wanted}"
    assert np.allclose(np.median(found, axis=0), MEDIANS[solver], rtol=0.02, atol=1)
