"""What is made of a network's codes: numbers by `shrinkwarp evaluate` that must not look better than they are, and starts of
`shrinkwarp solve --solver learned`, which never make a result worse."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse

import networks
from program import DONE, UNCONVERGED, certificate, energy, lambda_max, run
from test_bad_input import refused

n, m, FRACTION = 16, 32, 0.3


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """A step network and a coupled one, and observations."""
    folder = tmp_path_factory.mktemp("learned")
    random = np.random.default_rng(5)
    D = random.standard_normal((n, m))
    D /= np.linalg.norm(D, axis=0)
    X = random.standard_normal((12000, n))
    np.save(folder / "D.npy", D)
    np.save(folder / "X.npy", X)
    np.save(folder / "train.npy", X[:200])
    made = SimpleNamespace(folder=folder, D=D, X=X, on=["--dictionary", folder / "D.npy", "--observations", folder / "X.npy"])
    for kind in ("step", "coupled"):
        path = folder / f"{kind}.safetensors"
        run("train", kind, "--dictionary", folder / "D.npy", "--observations", folder / "train.npy", "--layers", 4,
            "--lambda-fraction", FRACTION, "--epochs", 2, "--output", path, "--quiet", status=DONE)
        setattr(made, kind, path)
    return made


def wild(case, folder, factor):
    """The step network with steps that are longer by the factor."""
    tensors, metadata = networks.read(case.step)
    path = folder / "wild.safetensors"
    networks.write(path, {"steps": tensors["steps"] * factor}, metadata)
    return path


# ---------------------------------------------------------------------------------------------------------- evaluate


def evaluate(*arguments, status=DONE):
    done = run("evaluate", *arguments, status=status)
    return json.loads(done.stdout), done.stderr


def test_codes_that_are_not_finite(case, folder):
    np.save(folder / "Y.npy", case.X[:50])
    said, warned = evaluate("--network", wild(case, folder, 1e90), "--dictionary", case.folder / "D.npy", "--observations",
                            folder / "Y.npy", "--json")
    assert said["not_finite"] == 50 and "the network's codes of 50 of 50 observations are not finite" in warned
    assert said["network"] is None and said["relative_gaps"]["network"] == {"mean": None, "worst": None}
    assert 0 < said["relative_gaps"]["fista"]["worst"] < 1, "the others are as they were"
    table = run("evaluate", "--network", folder / "wild.safetensors", "--dictionary", case.folder / "D.npy", "--observations",
                folder / "Y.npy", status=DONE).stdout
    assert table.splitlines()[3].split() == ["network", "inf", "inf", "inf"]


def test_optimum_that_is_not_known(folder, tmp_path_factory):
    """Singular values over nine orders of magnitude and next to no lambda: no solver here comes to 1e-12."""
    random = np.random.default_rng(0)
    U, _ = np.linalg.qr(random.standard_normal((30, 30)))
    V, _ = np.linalg.qr(random.standard_normal((120, 30)))
    np.save(folder / "D.npy", (U * np.logspace(0, -9, 30)) @ V.T)
    np.save(folder / "X.npy", random.standard_normal((20, 30)))
    on = ["--dictionary", folder / "D.npy", "--observations", folder / "X.npy"]
    run("train", "step", *on, "--layers", 1, "--lambda-fraction", 0.5, "--epochs", 1, "--output", folder / "net", "--quiet",
        status=DONE)
    said, warned = evaluate("--network", folder / "net", *on, "--lambda-fraction", 1e-11, "--json", status=UNCONVERGED)
    assert 0 < said["optimum_missed"] <= 20 and said["optimum_gap"] > 1e-11
    assert f"F* of {said['optimum_missed']} of 20 observations" in warned


def test_codes_beyond_the_networks_type(case, folder):
    """Codes of float32 networks are judged and written in the user's units, which float32 may not have."""
    np.save(folder / "Y.npy", case.X[:20] * 1e40)
    on = ["--network", case.coupled, "--dictionary", case.folder / "D.npy", "--observations", folder / "Y.npy"]
    said, _ = evaluate(*on, "--json")
    assert said["not_finite"] == 0 and 0 < said["relative_gaps"]["network"]["worst"] < 1
    refused(folder, ["evaluate", *on, "--codes", folder / "Z.npy"], "Z.npy", "e+", "observation 0", "float32")


# ------------------------------------------------------------------------------------------------------------- solve


def solve(case, folder, *options, status=DONE):
    done = run("solve", *case.on, "--lambda-fraction", FRACTION, "--output", folder / "Z.npz", "--quiet", *options,
               status=status)
    Z = scipy.sparse.load_npz(folder / "Z.npz").toarray()
    lam = FRACTION * lambda_max(case.D, case.X)
    objective, gap = certificate(case.D, case.X, Z, lam)
    assert (gap <= 1e-6 * energy(case.X) * (1 + 1e-9)).all()
    return objective, done


@pytest.mark.parametrize("options", [[], ["--memory-limit", "1MiB"]], ids=["plain", "memory"])
def test_learned_starts_reach_the_gap(case, folder, options):
    """With little memory the starts of the last observations find no room, and those begin at 0."""
    objective, _ = solve(case, folder, "--solver", "learned", "--network", case.step, *options)
    plain, _ = solve(case, folder, *options)
    assert (np.abs(objective - plain) <= 1e-6 * energy(case.X)).all()
    solve(case, folder, "--solver", "learned", "--network", case.coupled, *options)


@pytest.mark.parametrize("factor", [1e3, 1e90])
def test_starts_that_are_worse_than_none_harm_nothing(case, folder, factor):
    objective, _ = solve(case, folder, "--solver", "learned", "--network", wild(case, folder, factor))
    plain, _ = solve(case, folder)
    assert (np.abs(objective - plain) <= 1e-6 * energy(case.X)).all()
