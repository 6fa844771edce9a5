"""tools/experiments with --quick: what they measure, and that it holds together."""

import json
import sys

import numpy as np
import pytest

from program import EPS, PATH, ROOT, certificate, coordinate_descent, energy, run as program

sys.path.insert(0, str(ROOT / "tools/experiments"))
import common  # noqa: E402
import comparison  # noqa: E402
import continuous_limit  # noqa: E402
import digits  # noqa: E402
import inverse  # noqa: E402
import iterations  # noqa: E402
import last_layers  # noqa: E402
import learned_steps  # noqa: E402
import meg  # noqa: E402
import memory  # noqa: E402
import mlp  # noqa: E402
import momentum_lista  # noqa: E402
import rings  # noqa: E402
import scaling  # noqa: E402
import scaling_model  # noqa: E402
import scaling_parts  # noqa: E402
import unseen  # noqa: E402


def run(folder, module, capsys):
    """The JSON of an experiment's quick run, whose picture and conclusion are looked at here."""
    name = module.__name__
    common.run(name, module.__doc__, getattr(module, name),
               ["--output", str(folder / "out"), "--program", str(PATH), "--threads", "1", "--quick"])
    picture = (folder / "out" / f"{name}.png").read_bytes()
    assert picture.startswith(b"\x89PNG") and len(picture) > 5000
    line = json.loads((folder / "out" / f"{name}.json").read_text(encoding="utf-8"))
    assert line["schema"] == common.SCHEMA and line["experiment"] == name and line["quick"]
    assert line["processor_seconds"] > 0 and line["cpu"] and line["commit"]
    assert capsys.readouterr().out == line["conclusion"] + "\n"
    return line


# What they share


@pytest.fixture(scope="module")
def problems():
    random = np.random.default_rng(0)
    D = common.gaussian_dictionary(random, 6, 12)
    X = common.with_lambda_max_one(D, random.standard_normal((20, 6)))
    lam = np.full(len(X), 0.3)
    return D, X, lam, np.array([coordinate_descent(D, x, 0.3) for x in X])


@pytest.mark.parametrize("method", [common.ista, common.fista, common.oracle_ista])
def test_iterations_come_to_the_solution(problems, method):
    D, X, lam, solution = problems
    optimum, _ = certificate(D, X, solution, lam)
    for _, Z in zip(range(3000), method(D, X, lam)):
        pass
    found = common.objective(D, X, Z, lam)
    assert (np.abs(found - optimum) <= 100 * EPS * energy(X)).all()


@pytest.mark.parametrize("method", [common.ista, common.oracle_ista])
def test_ista_descends(problems, method):
    D, X, lam, _ = problems
    values = [common.objective(D, X, Z, lam) for _, Z in zip(range(50), method(D, X, lam))]
    assert (np.diff(values, axis=0) <= 10 * EPS * energy(X)).all()


def test_gap_agrees_with_other_code(problems):
    D, X, lam, solution = problems
    Z = solution + 0.01
    _, gap = certificate(D, X, Z, lam)
    assert (np.abs(common.relative_gap(D, X, Z, lam) * energy(X) - gap) <= 100 * EPS * energy(X)).all()
    assert (common.relative_gap(D, X, 0 * Z, lam) <= 1).all()


def test_steps_of_supports():
    """Orthogonal atoms have ||D_S|| = 1, equal ones ||D_S||^2 = |S|."""
    steps = common.SupportSteps(np.hstack([np.eye(3), np.eye(3)]))
    supports = np.array([[1, 1, 0, 0, 0, 0], [1, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0]])
    assert np.abs(steps.of_rows(supports) - [1, 0.5, 0.5]).max() <= 10 * EPS


def test_a_network_is_read(folder):
    header = json.dumps({"__metadata__": {"format": "x"}, "b": {"dtype": "F64", "shape": [2], "data_offsets": [4, 20]},
                         "a": {"dtype": "F32", "shape": [1, 1], "data_offsets": [0, 4]}}).encode()
    data = len(header).to_bytes(8, "little") + header + np.float32(1.5).tobytes() + np.array([2.0, 3.0]).tobytes()
    (folder / "n.safetensors").write_bytes(data)
    tensors = common.read_network(folder / "n.safetensors")
    assert tensors["a"].tolist() == [[1.5]] and tensors["b"].tolist() == [2, 3]


def test_options_are_checked(folder, capsys):
    with pytest.raises(SystemExit, match="2"):
        common.run("x", "", lambda experiment: None, ["--output", str(folder), "--program", str(folder / "none")])
    assert "found no program" in capsys.readouterr().err


# The experiments


def test_comparison(folder, capsys, monkeypatch):
    monkeypatch.setattr(common, "DATA", "")
    line = run(folder, comparison, capsys)
    assert "Digits are left out" in line["conclusion"]
    assert [case["lambda_fraction"] for case in line["cases"]] == list(comparison.FRACTIONS)
    for case in line["cases"]:
        at = {method: dict(map(tuple, points)) for method, points in case["excess"].items()}
        assert set(at) == {"step", "alista", "coupled", "lista", "ISTA", "FISTA", "oracle ISTA"}
        for values in at.values():
            assert all(value > 0 for value in values.values())
        for depth in at["step"]:
            # Trained networks of this size are better than ISTA on what they have not seen, by more than a tenth.
            assert at["step"][depth] < 0.9 * at["ISTA"][depth]
            assert at["oracle ISTA"][depth] <= at["ISTA"][depth] * (1 + 1e-4)  # of five digits
        assert at["ISTA"][3] < at["ISTA"][1]


def test_last_layers(folder, capsys):
    line = run(folder, last_layers, capsys)
    coupled, lista = line["cases"]
    assert list(coupled["distances"]) == ["W"] and list(lista["distances"]) == ["W1", "W2"]
    assert len(coupled["distances"]["W"]) == coupled["layers"] == len(coupled["steps_times_lipschitz"])
    for case in line["cases"]:
        assert 0 < case["excess"] < case["ista"]
        for name, values in case["distances"].items():
            assert min(values) > 0
            ends = last_layers.ENDS
            assert case["fall"][name] == pytest.approx(np.mean(values[:ends]) / np.mean(values[-ends:]), rel=1e-3)


def test_distance_from_ista():
    """Layers that are ISTA of other steps have the distance 0, and those steps come out."""
    D = common.gaussian_dictionary(np.random.default_rng(0), 4, 6)
    theta = np.array([0.2, 0.3])
    coupled = {"W": theta[:, None, None] * D, "thresholds": theta[:, None] * np.ones(6)}
    distances, steps = last_layers.from_ista("coupled", coupled, D)
    assert max(distances["W"]) <= 10 * EPS and np.abs(steps - theta).max() <= 10 * EPS
    free = {"W1": np.eye(6) - theta[:, None, None] * (D.T @ D), "W2": theta[:, None, None] * D.T}
    distances, steps = last_layers.from_ista("lista", free, D)
    assert max(distances["W1"] + distances["W2"]) <= 50 * EPS and np.abs(steps - theta[1:]).max() <= 10 * EPS


def test_learned_steps(folder, capsys):
    line = run(folder, learned_steps, capsys)
    assert len(line["cases"]) == 4
    for case in line["cases"]:
        assert case["excess"] < case["ista"]
        assert all(step > 0 for step in case["steps"])
        for quantiles in case["quantiles"]:
            assert quantiles == sorted(quantiles) and quantiles[0] >= case["inverse_lipschitz"] * (1 - 1e-4)
        assert all(0 <= share <= 1 for share in case["share_of_samples_over"])


def test_iterations(folder, capsys):
    line = run(folder, iterations, capsys)
    for case in line["cases"]:
        for counts in (case["median"], case["worst"]):
            for values in counts.values():
                assert values == sorted(values)
    for name, first in line["cases"][0]["median"].items():
        assert first[-1] < line["cases"][-1]["median"][name][-1] <= line["cases"][-1]["most"]


def test_unseen(folder, capsys):
    line = run(folder, unseen, capsys)
    assert [case["network"] for case in line["cases"]] == list(unseen.NETWORKS)
    for case in line["cases"]:
        seen, *others = case["conditions"]
        assert max(other["excess"]["mean"] for other in others) > 100 * max(seen["excess"]["mean"], 1e-12)
        for condition in case["conditions"]:
            assert condition["gaps_under_excess"] == 0
            assert condition["mended"] == condition["problems"] and condition["mended_worst_gap"] <= unseen.GAP
            # Five digits in the file; the program's gap has 48 eps more for its rounding.
            assert condition["gap"]["mean"] == pytest.approx(condition["mean_gap_of"]["network"], rel=1e-4, abs=50 * EPS)


@pytest.mark.data
def test_meg(folder, capsys):
    line = run(folder, meg, capsys)
    medium, small = line["cases"]
    assert set(medium["points"]) == {"FISTA", "working-set", "step"}
    assert set(small["points"]) == {"FISTA", "working-set", "step", "momentum-lista"}
    for case in line["cases"]:
        for points in case["points"].values():
            assert all(0 <= point["median_gap"] <= point["worst_gap"] for point in points)
        assert case["points"]["working-set"][-1]["worst_gap"] <= 1e-6
        first, last = case["points"]["FISTA"]
        assert last["median_gap"] < first["median_gap"] and last["seconds_a_problem"] > first["seconds_a_problem"]


def test_meg_without_data(folder, monkeypatch):
    monkeypatch.setattr(common, "DATA", "")
    with pytest.raises(SystemExit, match="SHRINKWARP_DATA is not set"):
        common.run("meg", "", meg.meg, ["--output", str(folder), "--program", str(PATH)])


# Of momentum networks


@pytest.mark.slow
def test_memory(folder, capsys):
    line = run(folder, memory, capsys)
    cases = {case["network"]: case for case in line["cases"]}
    assert list(cases) == list(memory.KINDS)
    for kind, case in cases.items():
        first, last = case["points"]
        grows = case["bytes_an_element_and_layer"]
        elements = case["width"] * case["batch"] * (last["layers"] - first["layers"])
        assert grows["activation_bytes"] == pytest.approx((last["activation_bytes"] - first["activation_bytes"]) / elements, rel=1e-3)
        # A process's memory comes in pages, and in one more or less of the allocator's blocks: a MiB.
        assert abs(last["measured_bytes"] - last["activation_bytes"]) <= 0.2 * last["activation_bytes"] + 2**20, kind
    # Stored: x, hidden features and values of a residual layer in float32 at least; exact: a bit where gamma is a half, with its
    # words whole, and what a layer's gamma takes is of no element: 100 bytes at most.
    assert cases["residual, stored"]["bytes_an_element_and_layer"]["activation_bytes"] >= 8
    table = 100 / (16 * 512)
    assert 1 / 8 <= cases["momentum 0.5, exact"]["bytes_an_element_and_layer"]["activation_bytes"] <= 1.1 / 8 + 4 / 90 + table
    assert cases["momentum 0.9, approximate"]["bytes_an_element_and_layer"]["activation_bytes"] <= table


@pytest.mark.slow
def test_inverse(folder, capsys):
    line = run(folder, inverse, capsys)
    assert [case["gamma"] for case in line["cases"]] == list(inverse.GAMMAS)
    assert ("momentumnet is left out" in line["conclusion"]) == (inverse.MomentumNet is None)
    errors = []
    for case in line["cases"]:
        for point in case["points"]["exact"]:
            assert point["inverse"] == point["gradient"] == 0
            assert point["elements_that_differ"] == point["gradient_elements_that_differ"] == 0
        assert case["two_processes"]["differ"] == 0 < case["two_processes"]["elements"]
        errors.append([(point["inverse"], point["gradient"]) for point in case["points"]["approximate"]])
    errors = np.array(errors)  # of gammas, depths, and both kinds
    assert (errors[0, 1] > 100 * errors[0, 0]).all()
    assert (errors[0, 1] > 100 * errors[1, 1]).all()
    assert (errors > 0).all() and (errors[2] < 1e-3).all()


def test_error_of_what_is_no_number():
    assert inverse.relative(np.array([3.0, 4.0]), np.array([3.0, 0.0])) == pytest.approx(4 / 3)
    assert inverse.relative(np.array([np.nan, 0.0]), np.ones(2)) == np.inf
    assert inverse.finite({"a": [1.0, np.inf], "b": 2}) == {"a": [1.0, None], "b": 2}


def test_a_network_in_numpy_is_the_programs(folder):
    """Files that are written, and what they give: each form of momentum and none."""
    random = np.random.default_rng(3)
    layers = mlp.random_branches(random, 5, 4, 3)
    X = random.standard_normal((9, 5)).astype(np.float32).astype(np.float64)
    np.save(folder / "X.npy", X)
    tensors = {**mlp.named(layers), "head.weight": np.eye(5), "head.bias": np.zeros(5)}
    for options in ({}, {"gamma": 0.75}, {"gamma": 0.75, "plain": True, "mode": "approximate"}):
        path = mlp.write(folder / "net.safetensors", tensors, mlp.describe(5, 4, 3, 5, **options))
        program("net", "evaluate", path, "--samples", folder / "X.npy", "--logits", folder / "L.npy", status=0)
        options.pop("mode", None)
        wanted = mlp.states(layers, X, **options)
        assert len(wanted) == 4 and (wanted[0] == X).all()
        # float32 in three layers of sums of five terms.
        assert np.abs(np.load(folder / "L.npy") - wanted[-1]).max() <= 50 * 2**-24 * np.abs(wanted).max()
    back = common.read_network(path)
    assert all(np.array_equal(a, b.astype(np.float32)) for one, other in zip(mlp.branches(back), layers) for a, b in zip(one, other))


@pytest.mark.slow
def test_rings(folder, capsys):
    line = run(folder, rings, capsys)
    assert [(case["setting"], case["network"]) for case in line["cases"]] == [
        (setting, kind) for setting in rings.SETTINGS for kind in rings.KINDS]
    for case in line["cases"]:
        assert (case["margin"] > 0) == (case["accuracy"] == 1)
        assert case["numpy_differs"] < 1e-4
        if case["network"] == "residual":
            # |J_f| is at most the product of the norms, which bounds the determinant of I + J_f in the plane.
            reach = case["largest_lipschitz"]
            assert case["smallest_determinant"] >= ((1 - reach) ** 2 if reach < 1 else 1 - 2 * reach - reach**2) - 1e-3


def test_a_layer_that_folds_has_a_determinant_under_0():
    """f = -2 x within the disc, nearly: x + f turns both axes, -3 x1 alone mirrors the plane."""
    W1, zeros = 1e-4 * np.eye(2), np.zeros(2)
    turns = (W1, zeros, -2e4 * np.eye(2), zeros)
    mirrors = (W1, zeros, np.diag([-3e4, 0]), zeros)
    assert rings.smallest_determinant([turns]) == pytest.approx(1, rel=1e-5)
    assert rings.smallest_determinant([mirrors]) == pytest.approx(-2, rel=1e-5)


def test_continuous_limit(folder, capsys):
    line = run(folder, continuous_limit, capsys)
    cases = {case["case"]: case for case in line["cases"]}
    assert list(cases) == list(continuous_limit.CASES)
    for case in cases.values():
        assert all(point["numpy_differs"] < 1e-4 for point in case["errors"])
    *_, damped, plain = cases.values()
    assert 0.8 < damped["order"] < 1.2 and 0.8 < plain["order"] < 1.2
    wrong = cases["plain, gamma .8; x' = F"]["errors"]
    assert min(point["error"] for point in wrong) > 0.5


def test_solution_of_a_linear_equation():
    """x' = -x, and x'' + x' = 1 from rest, whose solution is x + t - 1 + exp(-t)."""
    X = np.array([[1.0, -2.0]])
    found = continuous_limit.solution(lambda s, x: -x, X, 0, 1)
    assert np.abs(found[-1] - X * np.exp(-1)).max() < 1e-8
    found = continuous_limit.solution(lambda s, x: np.full_like(x, 0.5), X, 1, 2)
    assert np.abs(found[-1] - X - np.exp(-1)).max() < 1e-8


@pytest.mark.slow
def test_momentum_lista(folder, capsys):
    line = run(folder, momentum_lista, capsys)
    assert [case["lambda_fraction"] for case in line["cases"]] == list(momentum_lista.FRACTIONS)
    for case in line["cases"]:
        at = {name: dict(map(tuple, points)) for name, points in case["excess"].items()}
        assert set(at) == {*momentum_lista.NETWORKS, "step", "ISTA", "FISTA"}
        for name in ("lista", "momentum-lista", "step"):
            assert all(0 < value < 0.9 * at["ISTA"][depth] for depth, value in at[name].items())
        for its in case["learned_gammas"].values():
            assert all(len(gammas) == depth for depth, gammas in its)


@pytest.mark.slow
def test_digits(folder, capsys):
    pytest.importorskip("sklearn", reason="scikit-learn, whose digits these are, is not importable: it is optional")
    line = run(folder, digits, capsys)
    cases = {(case["network"], case["layers"]): case for case in line["cases"]}
    assert len(cases) == len(line["cases"]) == 2 * len(digits.KINDS)
    for (kind, layers), case in cases.items():
        assert all(0.5 < accuracy <= 1 for accuracy in case["accuracies"])
        assert [len(gammas) for gammas in case["gammas"]] == ([layers] if kind == "momentum, learned" else [])
    # Two layers more: what they store is two float32 of each of 64 features of 64 samples at least, and under a word of 32 bits.
    grows = {kind: cases[kind, 4]["activation_bytes"] - cases[kind, 2]["activation_bytes"] for kind in digits.KINDS}
    assert grows["residual"] >= 2 * 2 * 64 * 64 * 4 and grows["momentum .9"] <= 4 * 64 * 64 + 1024


# Of many devices: tests of the model by itself are in test_scaling_model.py


def look_at_scaling(folder, line, with_ranks):
    measured, predicted = line["measured"], line["predicted"]
    case, = measured["cases"]
    assert ("ranks" in case["runs"]) == with_ranks and (measured["counter"] is not None) == with_ranks
    assert case["runs"]["one"]["solve_seconds"]["least"] > 0
    rows = case["rows"]
    for entry in case["bytes_a_problem"]:
        # float32; an entry of the journal has 56 bytes and 12 for each nonzero, and so have 12 in the output.
        assert entry["in"] == pytest.approx(4 * rows, rel=0.01)
        assert 56 + 12 * entry["nonzeros"] <= entry["journal"] * 1.0001 and 12 * entry["nonzeros"] < entry["out"]
    nonzeros = [entry["nonzeros"] for entry in case["bytes_a_problem"]]
    assert nonzeros == sorted(nonzeros, reverse=True) and nonzeros[-1] > 0
    assert [chunk["problems"] for chunk in case["spread"]["chunks"]] == [8, 32]
    assert case["spread"]["most"] > 1 and all(chunk["seconds"] > 0 for chunk in case["spread"]["chunks"])
    assert measured["overhead"]["output_seconds_a_problem"]["least"] > 0
    assert measured["disk"]["append_bytes_per_second"] > 0
    assert [step["network"] for step in measured["steps"]] == ["LISTA", "momentum network"]
    # Whatever is predicted, half of the time is lost at the point that is named, and before it is not.
    assert len(predicted["solves"]) == len(scaling.SAMPLES) * len(scaling.RATES) * len(scaling.CLUSTERS)
    for entry in predicted["solves"]:
        for devices, seconds, efficient in entry["points"]:
            assert efficient == pytest.approx(entry["samples"] / (entry["rate"] * devices * seconds), rel=1e-3)
        under = [devices for devices, _, efficient in entry["points"] if efficient < 0.5]
        assert entry["stops"]["all"] == (under[0] if under else None)
        alone = {part: entry["stops"][part] for part in scaling_model.PARTS if entry["stops"][part]}
        assert entry["first"] == (min(alone, key=alone.get) if alone else None)
    table = (folder / "out" / "scaling.md").read_text(encoding="utf-8").splitlines()
    assert table[0].startswith("| samples |") and f"| {predicted['solves'][0]['samples']:,} |" in table[2]
    assert len(table) == 2 + len(predicted["solves"]) + 1 + 2 + len(predicted["training"])
    # More samples take no fewer devices to stop.
    by_size = {}
    for entry in predicted["solves"]:
        by_size.setdefault((entry["rate"], entry["cluster"]), []).append(entry["stops"]["all"] or 10**6)
    assert all(stops == sorted(stops) for stops in by_size.values())


def test_scaling(folder, capsys):
    reason = scaling_parts.no_ranks(str(PATH))
    line = run(folder, scaling, capsys)
    look_at_scaling(folder, line, with_ranks=not reason)
    if not reason:
        counter = line["measured"]["counter"]
        assert counter["one"]["calls_per_second"] > 0 and counter["both"]["seconds_a_call"] > 0
        assert line["measured"]["cases"][0]["predicted_seconds"]["at the rate of one process"] > 0


def test_scaling_without_ranks(folder, capsys, monkeypatch):
    monkeypatch.setattr(scaling_parts.shutil, "which", lambda name: None)
    monkeypatch.setattr(scaling_parts, "dask", None)
    line = run(folder, scaling, capsys)
    look_at_scaling(folder, line, with_ranks=False)
    assert "Ranks are left out: there is no mpirun." in line["conclusion"]
    assert "Workers of dask are left out" in line["conclusion"]
