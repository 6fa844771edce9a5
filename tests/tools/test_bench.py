"""`shrinkwarp bench`."""

import json
import subprocess
import sys

import numpy as np
import pytest

from program import (DONE, EPS, FAILED, PATH, ROOT, USAGE, Codes, certificate, energy, lambda_max, one_line, rounding, run, save,
                     start)

sys.path.insert(0, str(ROOT / "tools" / "bench"))
import torch_peer


@pytest.fixture
def files(folder):
    random = np.random.default_rng(0)
    return save(folder, random.standard_normal((8, 20)), random.standard_normal((7, 8)))


def test_json(folder, files):
    done = run("bench", "fista", *files, "--problems", 50, "--threads", "1,2", "--json", status=DONE)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == 2
    for said in lines:
        assert said["schema"] == "shrinkwarp-bench-1"
        assert all(phase["seconds"] >= 0 and phase["calls"] > 0 for phase in said["phases"])
    assert sorted(path.name for path in folder.iterdir()) == ["D.npy", "X.npy"]


def test_table(files):
    done = run("bench", "fista", *files, "--problems", 50, "--threads", 1, status=DONE)
    assert "dictionary 8 x 20, 50 problems" in done.stdout and "whole solve" in done.stdout


def test_phantom_is_the_default(folder):
    done = run("bench", "fista", "--problems", 2, "--gap", 0.1, "--threads", 1, status=DONE, cwd=folder)
    assert "dictionary 306 x 6138, 2 problems" in done.stdout
    assert list(folder.iterdir()) == []


def test_latency(folder):
    random = np.random.default_rng(0)
    D, X = random.standard_normal((8, 20)), random.standard_normal((7, 8))
    lam = 0.4 * lambda_max(D, X)
    np.save(folder / "L.npy", lam)
    files = save(folder, D, X)
    options = ["bench", "latency", *files, "--gap", 1e-8, "--json"]
    said = json.loads(run(*options, "--lambda-file", folder / "L.npy", "--output", folder / "Z.npz", status=DONE).stdout)
    assert said["benchmark"] == "latency" and said["calls"] == len(said["seconds"]) == 7 and said["unconverged"] == 0
    assert 0 < min(said["seconds"]) <= said["median_seconds"] == sorted(said["seconds"])[3]
    assert said["p99_seconds"] == max(said["seconds"])
    codes = Codes(folder / "Z.npz")
    assert np.array_equal(codes.lam, lam)
    objective, gap = certificate(D, X, codes.Z, lam)
    assert (np.abs(codes.objective - objective) <= rounding(D, X)).all()
    assert (gap <= 1e-8 * energy(X) + rounding(D, X)).all()
    said = json.loads(run(*options, "--calls", 3, "--lambda-fraction", 0.4, status=DONE).stdout)
    assert said["calls"] == 3
    done = run("bench", "latency", *files, "--calls", 2, status=DONE)
    assert "dictionary 8 x 20" in done.stdout and "2 calls for one problem each" in done.stdout
    files = ["--lambda-file", folder / "L.npy", "--output", folder / "B.npz"]
    said = json.loads(run(*options, *files, "--block", 3, status=DONE).stdout)
    assert said["block"] == 3 and said["calls"] == len(said["seconds"]) == 2 and said["unconverged"] == 0
    blocks = Codes(folder / "B.npz")
    assert np.array_equal(blocks.lam, lam[:6])
    objective, gap = certificate(D, X[:6], blocks.Z, lam[:6])
    assert (np.abs(blocks.objective - objective) <= rounding(D, X[:6])).all()
    assert (gap <= 1e-8 * energy(X[:6]) + rounding(D, X[:6])).all()


def test_counter_of_a_process_alone():
    """By mpirun: tests/mpi."""
    said = json.loads(run("bench", "counter", "--seconds", 0.01, "--json", status=DONE).stdout)
    assert said["benchmark"] == "counter" and said["ranks"] == said["callers"] == 1 and said["mpi"] == ""
    assert said["seconds"][0] >= 0.01 and said["calls"][0] > 0
    assert said["calls_per_second"] == pytest.approx(said["calls"][0] / said["seconds"][0])
    assert "found 2, wanted at most 1" in one_line(run("bench", "counter", "--callers", 2, status=USAGE))


def test_solve(folder):
    random = np.random.default_rng(0)
    D, X = random.standard_normal((20, 90)), random.standard_normal((7, 20))
    files = save(folder, D, X)
    options = ["bench", "solve", *files, "--problems", 10, "--gap", 1e-8]
    done = run(*options, "--json", "--lambda-fractions", "0.5,0.2", "--calls", 2, status=DONE)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["lambda_fraction"] for line in lines] == [0.5, 0.2]
    for said in lines:
        assert said["schema"] == "shrinkwarp-bench-1" and said["benchmark"] == "solve" and len(said["seconds"]) == 2
        assert said["unconverged"] == 0 and said["worst_gap"] <= 1e-8 and said["nonzeros"] > 0
        assert all(phase["seconds"] >= 0 and phase["calls"] > 0 for phase in said["phases"])

    X10 = np.concatenate([X, X[:3]])  # rows are repeated
    lam = 0.3 * lambda_max(D, X10)
    np.save(folder / "L.npy", lam)
    written = ["--calls", 0, "--lambda-file", folder / "L.npy", "--output", folder / "Z.npz"]
    said = json.loads(run(*options, "--json", *written, status=DONE).stdout)
    assert said["seconds"] == [] and said["phases"] == [] and said["first_seconds"] > 0
    codes = Codes(folder / "Z.npz")
    assert np.array_equal(codes.lam, lam)
    objective, gap = certificate(D, X10, codes.Z, lam)
    assert (np.abs(codes.objective - objective) <= rounding(D, X10)).all()
    assert (gap <= 1e-8 * energy(X10) + rounding(D, X10)).all()
    assert "10 problems a call" in run(*options, status=DONE).stdout

    grouped = json.loads(run(*options, "--json", "--lambda-fractions", 0.3, "--group-size", 3, status=DONE).stdout)
    assert grouped["group_size"] == 3 and grouped["nonzeros"] % 3 == 0 and grouped["worst_gap"] <= 1e-8
    one_line(run(*options, "--group-size", 7, status=FAILED))  # 90 atoms


def test_kernels():
    options = ["bench", "kernels", "--runs", 1, "--threads", 1, "--rows", 20, "--atoms", 50, "--problems", 70]
    lines = [json.loads(line) for line in run(*options, "--iterations", 3, "--json", status=DONE).stdout.splitlines()]
    assert [line["kernel"] for line in lines] == ["extrapolated_residual", "gradient_step", "proximal_iterations",
                                                  "code_residual", "correlation_max", "bounded_correlation", "gemm"]
    for said in lines:
        assert said["schema"] == "shrinkwarp-bench-1" and said["benchmark"] == "kernels" and said["shape"] == "custom"
        assert said["rows"] == 20 and said["atoms"] == 50 and said["problems"] == 70 and said["calls"] >= 1
        assert 0 < said["fastest_seconds"] <= said["median_seconds"]
        assert said["percent_of_gemm"] == pytest.approx(
            100 * said["flops"] / said["median_seconds"] / said["gemm_flops_per_second"])
        assert said["percent_of_copy"] == pytest.approx(
            100 * said["bytes"] / said["median_seconds"] / said["copy_bytes_per_second"])
        product = 2 * 20 * 50 * 70
        times = {"proximal_iterations": 2 * 3, "bounded_correlation": 128 / 70}  # 3 iterations; places in 64s
        assert said["flops"] == pytest.approx(times.get(said["kernel"], 1) * product)
        assert said["iterations"] == (3 if said["kernel"] == "proximal_iterations" else 1)


NETS = ["bench", "nets", "--threads", 1, "--rows", 8, "--atoms", 20, "--layers", 3, "--batch", 70]


def nets_flops(network, which):
    """2 for each multiplication of the formulas in kernels/lista_network and step_network, those with z_0 = 0 left out."""
    n, m, N, T = 8, 20, 70, 3
    if network == "lista":
        forward = n * m + (T - 1) * m * (m + n)
        back = 2 * n * m + n * m + (T - 1) * (m * (m + n) + m * m)
    else:
        forward = (2 * T - 1) * n * m
        back = 2 * n * m + (T - 1) * 2 * n * m + (T * n * m if network == "coupled" else 0)
    return 2 * N * (forward + (back if which == "training" else 0))


def test_nets(folder):
    done = run(*NETS, "--runs", 2, "--lambda-fraction", 0.3, "--save", folder / "N.safetensors", "--json", status=DONE)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(line["network"], line["type"], line["pass"]) for line in lines] == [
        (network, kind, which) for network, kind in (("lista", "float32"), ("coupled", "float32"), ("step", "float32"),
                                                     ("step", "float64")) for which in ("forward", "training")]
    for said in lines:
        assert said["schema"] == "shrinkwarp-bench-1" and said["benchmark"] == "nets" and said["blas"]
        assert said["rows"] == 8 and said["atoms"] == 20 and said["layers"] == 3 and said["batch"] == 70
        assert all(len(said[name]) == 2 for name in ("seconds", "cpu_seconds", "gemm_seconds", "gemm_cpu_seconds"))
        assert 0 < said["fastest_seconds"] == min(said["seconds"]) <= said["median_seconds"]
        assert said["flops"] == nets_flops(said["network"], said["pass"])
        assert said["flops_per_second"] == pytest.approx(said["flops"] / said["median_seconds"])
        ratios = [a / b for a, b in zip(said["gemm_seconds"], said["seconds"])]
        assert said["fraction_of_gemm"] == pytest.approx(np.median(ratios))

    # All of them are ISTA, whose steps are those of step-LISTA.
    saved = torch_peer.read_safetensors(folder / "N.safetensors")
    D, X, lam = saved["D"].T, saved["X"], saved["lambda"][:, None]
    assert np.abs(lam - 0.3 * np.abs(X @ D).max(1)[:, None]).max() <= 100 * EPS * lam.max()
    Z = np.zeros((70, 20))
    for step in saved["step.float64.parameters"]:
        U = Z + step * (X - Z @ D.T) @ D
        Z = np.sign(U) * np.maximum(np.abs(U) - step * lam, 0)
    for network in ("lista.float32", "coupled.float32", "step.float32", "step.float64"):
        eps = np.finfo(saved[network + ".codes"].dtype).eps
        # Each layer adds the rounding of sums of n + m terms to what those before it left.
        assert np.abs(saved[network + ".codes"] - Z).max() <= 3 * 28 * eps * np.abs(Z).max()
    share = np.count_nonzero(saved["step.float64.codes"]) / Z.size
    assert lines[-1]["density"] == pytest.approx(share) and 0 < share < 1
    cost = np.mean(((X - Z @ D.T) ** 2).sum(1) / 2 + (lam * np.abs(Z)).sum(1))
    assert saved["step.float64.loss"][0] == pytest.approx(cost, rel=1e-12)


def test_nets_on_request(folder):
    process = start(*NETS, "--on-request", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    out, err = process.communicate("coupled float32 training\nstep float64 forward\nstep float64 backward\n", timeout=120)
    identity, *times = [json.loads(line) for line in out.splitlines()]
    assert identity["benchmark"] == "nets" and len(times) == 2 and all(found["seconds"] > 0 for found in times)
    assert process.returncode == USAGE and "'step float64 backward'" in err
    assert "coupled  float32  training" in run(*NETS, "--networks", "coupled", "--runs", 1, status=DONE).stdout
    for options in (["--networks", "resnet"], ["--layers", 0], ["--on-request", "--json"]):
        one_line(run("bench", "nets", *options, status=USAGE))


def test_nets_beside_torch(folder):
    pytest.importorskip("torch")
    command = [sys.executable, ROOT / "tools/bench/torch_nets.py", "--program", PATH, "--rows", 8, "--atoms", 20, "--layers", 3,
               "--batch", 70, "--runs", 1, "--lambda-fraction", 0.3, "--networks", "coupled,step", "--output", folder / "nets.jsonl"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr  # it has compared codes and gradients
    lines = [json.loads(line) for line in (folder / "nets.jsonl").read_text().splitlines()]
    assert len(lines) == 6 and done.stdout.startswith("torch / ours")
    for said in lines:
        plain = said["torch"]["plain"]
        assert plain["over_ours"] == pytest.approx(plain["seconds"][0] / said["seconds"][0])


MOMENTUM = ["bench", "momentum", "--threads", 1, "--width", 24, "--hidden", 40, "--layers", 5, "--batch", 70]
WAYS = ["exact-recomputed", "approximate-recomputed", "approximate-stored", "residual-stored"]


def test_momentum(folder):
    done = run(*MOMENTUM, "--runs", 3, "--save", folder / "M.safetensors", "--json", status=DONE)
    lines = {}
    for said in map(json.loads, done.stdout.splitlines()):
        lines[said["way"], said["pass"]] = said
    assert list(lines) == [(way, which) for way in WAYS for which in ("forward", "training")]
    product = 2 * 24 * 40 * 70 * 5
    for (way, which), said in lines.items():
        assert said["schema"] == "shrinkwarp-bench-1" and said["benchmark"] == "momentum" and said["blas"]
        assert said["gamma"] == 9 / 10 and said["form"] == "damped"  # the fraction of exact arithmetic
        products = 2 if which == "forward" else 8 if way.endswith("recomputed") else 6
        assert said["flops"] == products * product
        assert all(len(said[name]) == 3 for name in ("seconds", "cpu_seconds", "gemm_seconds", "gemm_cpu_seconds"))
        assert said["median_seconds"] == np.median(said["seconds"])
        assert said["peak_activation_bytes"] >= said["kept_bytes"] > 0
        assert ("over_stored" in said) == (which == "training")
    steps = {way: lines[way, "training"] for way in WAYS}
    quickest = min(WAYS[2:], key=lambda way: np.median(steps[way]["cpu_seconds"]))
    ratios = np.divide(steps[WAYS[0]]["seconds"], steps[quickest]["seconds"])
    assert steps[WAYS[0]]["over_stored"] == pytest.approx(np.median(ratios))
    assert steps[WAYS[0]]["inverse_error"] == 0 < steps[WAYS[1]]["inverse_error"]

    # A network of its own, the gradients by differences.
    saved = torch_peer.read_safetensors(folder / "M.safetensors")
    X, dY = saved["X"].astype(float), saved["dY"].astype(float)
    weights = [[saved[f"layers.{t}.{layer}.{what}"].astype(float) for layer in (0, 1) for what in ("weight", "bias")]
               for t in range(5)]

    def output(x, momentum):
        gamma, v = 9 / 10, 0
        for W1, b1, W2, b2 in weights:
            f = np.tanh(x @ W1.T + b1) @ W2.T + b2
            v = gamma * v + (1 - gamma) * f if momentum else f
            x = x + v
        return x

    random, h = np.random.default_rng(1), 1e-6
    for way in WAYS:
        momentum = way != "residual-stored"
        eps = 5 * 64 * np.finfo(np.float32).eps  # each layer rounds sums of up to 64 terms
        wanted = output(X, momentum)
        assert np.abs(saved[way + ".Y"] - wanted).max() <= eps * np.abs(wanted).max()
        towards = random.standard_normal(X.shape)
        slope = (dY * (output(X + h * towards, momentum) - output(X - h * towards, momentum))).sum() / (2 * h)
        size = np.linalg.norm(saved[way + ".dX"].astype(float)) * np.linalg.norm(towards)
        assert abs((saved[way + ".dX"] * towards).sum() - slope) <= (eps + 1e-8) * size
        W1 = weights[2][0]
        towards, old = random.standard_normal(W1.shape), W1.copy()
        W1[:] = old + h * towards
        slope = (dY * output(X, momentum)).sum()
        W1[:] = old - h * towards
        slope = (slope - (dY * output(X, momentum)).sum()) / (2 * h)
        W1[:] = old
        gradient = saved[way + ".gradient.layers.2.0.weight"]
        size = np.linalg.norm(gradient.astype(float)) * np.linalg.norm(towards)
        assert abs((gradient * towards).sum() - slope) <= (eps + 1e-8) * size


def test_momentum_on_request(folder):
    process = start(*MOMENTUM, "--on-request", "--plain", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                    text=True)
    out, err = process.communicate("exact-recomputed training\nresidual-stored forward\nexact-stored forward\n", timeout=120)
    identity, *times = [json.loads(line) for line in out.splitlines()]
    assert identity["benchmark"] == "momentum" and identity["form"] == "plain"
    assert len(times) == 2 and all(found["seconds"] > 0 and found["gemm_cpu_seconds"] >= 0 for found in times)
    assert process.returncode == USAGE and "'exact-stored forward'" in err
    done = run(*MOMENTUM, "--ways", "exact-recomputed,residual-stored", "--gamma", 1, "--runs", 1, status=DONE)
    assert [line.split()[:2] for line in done.stdout.splitlines()[3:]] == [
        [way, which] for way in ("exact-recomputed", "residual-stored") for which in ("forward", "training")]
    for options in (["--ways", "exact-stored"], ["--layers", 0], ["--gamma", 0], ["--on-request", "--json"]):
        one_line(run("bench", "momentum", *options, status=USAGE))
    # Without the name of the class that says so.
    assert one_line(run(*MOMENTUM, "--gamma", 1.5, status=FAILED)).startswith("shrinkwarp: gamma is 1.5, wanted within")


def test_momentum_beside_torch(folder):
    pytest.importorskip("torch")
    command = [sys.executable, ROOT / "tools/bench/torch_momentum.py", "--program", PATH, "--width", 24, "--hidden", 40,
               "--layers", 5, "--batch", 70, "--runs", 1, "--output", folder / "momentum.jsonl"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr  # it has compared outputs and gradients
    lines = [json.loads(line) for line in (folder / "momentum.jsonl").read_text().splitlines()]
    assert [line["way"] for line in lines] == WAYS and done.stdout.startswith("a step of training, torch / ours")
    found = lines[2]["torch"]["written"]
    assert found["over_ours"] == pytest.approx(found["seconds"][0] / lines[2]["seconds"][0])


def test_kernels_that_are_named():
    done = run("bench", "kernels", "--runs", 1, "--shapes", "small", "--problems", 64, "--kernels",
               "gemm,correlation_max", status=DONE)
    rows = [line.split()[0] for line in done.stdout.splitlines()[2:]]
    assert rows == ["correlation_max", "gemm"]
    for options in (["--shapes", "tiny"], ["--kernels", "sgemm"], ["--rows", 5], ["--atoms", 5], ["--runs", 0],
                    ["--rows", 5, "--atoms", 5, "--shapes", "small"]):
        one_line(run("bench", "kernels", *options, status=USAGE))


def test_solve_refuses(folder, files):
    np.save(folder / "L.npy", np.ones(6))
    options = ["bench", "solve", *files, "--problems", 7]
    assert "found 6 lambdas" in one_line(run(*options, "--lambda-file", folder / "L.npy", status=FAILED))
    one_line(run("bench", "solve", *files[:2], status=USAGE))
    one_line(run(*options, "--calls", -1, status=USAGE))
    np.save(folder / "X.npy", np.ones((5, 9)))
    assert "length 9, wanted 8" in one_line(run(*options, status=FAILED))


def test_latency_refuses(folder, files):
    np.save(folder / "L.npy", np.ones(6))
    assert "found 6 values" in one_line(run("bench", "latency", *files, "--lambda-file", folder / "L.npy", status=FAILED))
    np.save(folder / "X.npy", np.ones((5, 9)))
    assert "length 9, wanted 8" in one_line(run("bench", "latency", *files, status=FAILED))
    np.save(folder / "X.npy", np.ones((0, 8)))
    assert "found 0 rows, wanted at least 1" in one_line(run("bench", "latency", *files, status=FAILED))
    np.save(folder / "X.npy", np.ones((5, 8)))
    assert "found 5 rows, wanted at least 6" in one_line(run("bench", "latency", *files, "--block", 6, status=FAILED))
    one_line(run("bench", "latency", *files, "--solver", "lars", status=USAGE))


@pytest.mark.parametrize(
    "options",
    [
        ["--problems", 0],
        ["--problems", -1],
        ["--lambda-fraction", 0],
        ["--gap", 0],
        ["--threads", -1],
        ["--threads", "two"],
    ],
    ids=lambda options: " ".join(map(str, options)),
)
def test_options_refused(files, options):
    line = one_line(run("bench", "fista", *files, *options, status=USAGE))
    assert options[0] in line and str(options[1]) in line


def test_files_refused(folder, files):
    np.save(folder / "X.npy", np.ones((5, 9)))
    one_line(run("bench", "fista", *files, status=FAILED))
    one_line(run("bench", "fista", *files[:3], folder / "none.npy", status=FAILED))
