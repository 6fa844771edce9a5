"""Learned networks that stand in for iterations of a solver: training, files, codes.

A network of T layers is T iterations of ISTA whose numbers are learned on observations like those to come, by the
Lasso's objective itself. Its files are those of the program's ``shrinkwarp train`` and ``evaluate``.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse

from . import _arguments as arguments
from . import _core
from ._arguments import refuse
from ._lasso import Array, Dictionary, Interrupted, csr, lam_rule

KINDS = ("step", "alista", "coupled", "lista", "momentum-lista")
_SCALAR = ("step", "alista")  # all that their layers learn is a step and a threshold
_OPTIMIZERS = ("auto", "adam", "sgd", "linesearch", "lbfgs")


class Network:
    """A learned network for one dictionary: of `train`, `load` or `from_tensors`. Threads may share it.

    Attributes
    ----------
    dictionary : Dictionary
    history : list of dict
        A look at the validation each: "depth" (layers in training), "pass", "cost", "validation" (NaN while fewer
        layers than the network's are in training), "best_validation", "rate". Empty where it was not trained here.
    validation, ista_validation : float or None
        Mean Lasso cost on the validation observations, of the network and of ISTA of as many layers.
    fell_back : bool or None
        Nothing that was learned was better than ISTA, which this network then is.
    """

    def __init__(self, dictionary: Dictionary, core: _core.LearnedNetwork, outcome: dict[str, Any] | None = None):
        self.dictionary = dictionary
        self._core = core
        self.history = [] if outcome is None else outcome["history"]
        self.validation = None if outcome is None else outcome["validation"]
        self.ista_validation = None if outcome is None else outcome["ista_validation"]
        self.fell_back = None if outcome is None else outcome["fell_back"]

    @property
    def kind(self) -> str:
        """One of `KINDS`."""
        return self._core.kind

    @property
    def layers(self) -> int:
        return self._core.layers

    @property
    def shape(self) -> tuple[int, int]:
        """(n, m) of its dictionary."""
        return self._core.rows, self._core.atoms

    @property
    def lam_range(self) -> tuple[float, float]:
        """The fractions of lambda_max, from and to, that it was trained for."""
        return self._core.lambda_range

    @property
    def tensors(self) -> dict[str, np.ndarray]:
        """Copies of its parameters, in the user's units, by their names in files.

        Of "steps", "thresholds", "W", "W1", "W2" and "gamma" those that its kind has.
        """
        return self._core.tensors()

    def __reduce__(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "network.safetensors")
            self.save(path)
            with open(path, "rb") as file:
                content = file.read()
        known = {name: getattr(self, name) for name in ("history", "validation", "ista_validation", "fell_back")}
        return _restored, (self.dictionary, content, known)

    def __repr__(self):
        n, m = self.shape
        return f"Network('{self.kind}', layers={self.layers}, n={n}, m={m})"

    @classmethod
    def load(cls, path: str | bytes | os.PathLike, D: Array | Dictionary, device: str = "auto",
             threads: int | None = None) -> Network:
        """The network of a file, as `save` or ``shrinkwarp train`` has written it.

        Parameters
        ----------
        path : str or path
        D : array of shape (n, m), or Dictionary
            The dictionary that it was trained for; any other is refused.
        device, threads
            As for `Dictionary`, where D is none.
        """
        call = "Network.load"
        dictionary = Dictionary._of(call, D, device, threads)
        return cls(dictionary, _core.LearnedNetwork.load(dictionary._core, arguments.path(call, path)))

    def save(self, path: str | bytes | os.PathLike) -> None:
        """Writes a file that `load` and the program read; it appears under its name when it is complete."""
        self._core.save(arguments.path("Network.save", path))

    @classmethod
    def from_tensors(cls, kind: str, D: Array | Dictionary, tensors: dict[str, Array],
                     lam_fraction: float | tuple[float, float], *, ridge: float = 0.0, device: str = "auto",
                     threads: int | None = None) -> Network:
        """A network of given parameters, trained elsewhere.

        Parameters
        ----------
        kind : str
        D : array of shape (n, m), or Dictionary
        tensors : dict of str to array
            As `tensors` gives them, a layer along the first axis each.
        lam_fraction : float or (float, float)
            The fractions of lambda_max that it is for.
        ridge : float
            Of alista's matrix.
        """
        call = "Network.from_tensors"
        arguments.one_of(call, "kind", kind, KINDS)
        if not isinstance(tensors, dict) or not tensors:
            raise refuse(TypeError, call, "tensors", arguments.of_type(tensors), "a dict of names and arrays")
        arrays = {}
        for name, value in tensors.items():
            if not isinstance(name, str):
                raise refuse(TypeError, call, "tensors", arguments.of_type(name), "names as keys")
            array = arguments.on_host(call, f"tensors['{name}']", value, "an array of numbers")
            arrays[name] = np.ascontiguousarray(array)
        first = next(iter(arrays.values()))
        if first.ndim == 0 or first.shape[0] == 0:
            raise refuse(ValueError, call, "tensors", f"shape {first.shape}", "a layer along the first axis each")
        low, high = _fractions(call, "lam_fraction", lam_fraction)
        dictionary = Dictionary._of(call, D, device, threads)
        ridge = _nonnegative(call, "ridge", ridge)
        core = _core.LearnedNetwork(dictionary._core, kind, first.shape[0], ridge, 0.0, 0.0, 0.2)
        wanted = core.tensors()
        for name, array in wanted.items():
            found = arrays.get(name)
            if found is None or found.shape != array.shape:
                its = "none" if found is None else f"shape {found.shape}"
                raise refuse(ValueError, call, f"tensors['{name}']", its, f"shape {array.shape}")
            if not np.isfinite(found).all():
                raise refuse(ValueError, call, f"tensors['{name}']", "NaN or infinity", "finite numbers")
        if "steps" in wanted and not (arrays["steps"] > 0).all():
            raise refuse(ValueError, call, "tensors['steps']", f"{arrays['steps'].min():g}", "steps > 0")
        core.set_tensors({name: arrays[name] for name in wanted}, low, high)
        return cls(dictionary, core)

    def apply(self, X: Array, lam: float | Array | None = None,
              lam_fraction: float | None = None) -> scipy.sparse.csr_matrix:
        """The network's codes of the rows of X.

        They carry no certificate. For codes that do, take them as a start:
        ``network.dictionary.solve(X, lam, warm_start=network.apply(X, lam))``.

        Parameters
        ----------
        X : array of shape (N, n) or (n,)
        lam : float or array of shape (N,), optional
        lam_fraction : float, optional
            A fraction of each row's own lambda_max. Without both what the network was trained for, where that is one
            fraction.

        Returns
        -------
        scipy.sparse.csr_matrix of shape (N, m), float64
        """
        call = "Network.apply"
        n, m = self.shape
        X = arguments.observations(call, X, n)
        if lam is not None and lam_fraction is not None:
            raise refuse(ValueError, call, "lam", "lam and lam_fraction", "one of them")
        values = None
        if lam is None:
            low, high = self.lam_range
            if lam_fraction is None and low != high:
                raise refuse(ValueError, call, "lam_fraction", "nothing that says lambda",
                             f"lam or lam_fraction, for the network is for all of {low:g} to {high:g}")
            rule = "sample_fraction"
            number = low if lam_fraction is None else arguments.number(call, "lam_fraction", lam_fraction, above=0)
        else:
            rule, number, values = lam_rule(call, X.shape[0], lam)
        found = self._core.codes(X, rule, number, values)
        if found["raised"] is not None:
            raise found["raised"]
        return csr(found, (X.shape[0], m))

    def evaluate(self, X: Array, lam_fraction: float | None = None, oracle: bool = False) -> dict[str, Any]:
        """How good the network's codes are beside the optimum, and beside ISTA and FISTA of as many iterations.

        Parameters
        ----------
        X : array of shape (N, n)
        lam_fraction : float, optional
            Of each row's lambda_max; what the network was trained for by default, where that is one fraction.
        oracle : bool
            Whether oracle ISTA is judged too.

        Returns
        -------
        dict
            "mean_optimum" (mean of the least objective), "optimum_gap" (its worst relative gap), and for "network",
            "ista", "fista" and "oracle_ista" a dict of "mean_excess" (mean of objective - optimum),
            "mean_relative_gap", "worst_relative_gap" and "not_finite".
        """
        call = "Network.evaluate"
        X = arguments.observations(call, X, self.shape[0])
        if X.shape[0] == 0:
            raise refuse(ValueError, call, "X", f"shape {tuple(X.shape)}", "at least one observation")
        low, high = self.lam_range
        if lam_fraction is None and low != high:
            raise refuse(ValueError, call, "lam_fraction", "None", f"a fraction of {low:g} to {high:g}")
        number = low if lam_fraction is None else arguments.number(call, "lam_fraction", lam_fraction, above=0)
        found = self._core.evaluate(X, number, arguments.flag(call, "oracle", oracle))
        raised = found.pop("raised")
        if raised is not None:
            raise raised
        return found


def train(
    kind: str,
    D: Array | Dictionary,
    X: Array,
    layers: int,
    lam_fraction: float | tuple[float, float],
    *,
    validation: Array | None = None,
    start: str | Network | None = None,
    optimizer: str = "auto",
    layerwise: bool | None = None,
    epochs: int | None = None,
    batch: int | None = None,
    rate: float | None = None,
    schedule: str | None = None,
    momentum: float | None = None,
    weight_decay: float | None = None,
    clip: float | None = None,
    patience: int | None = None,
    seed: int = 0,
    ridge: float = 0.0,
    support_selection: tuple[float, float] | None = None,
    gamma: float | None = None,
    device: str = "auto",
    threads: int | None = None,
    memory_limit: int = 4 << 30,
    progress: bool | Callable[[dict[str, Any]], Any] | None = False,
) -> Network:
    """Trains a network on observations alone: the loss is the mean Lasso objective of its codes.

    Parameters
    ----------
    kind : {"step", "alista", "coupled", "lista", "momentum-lista"}
        What a layer learns: a step; a step and a threshold; a matrix and thresholds; two; these and a momentum.
    D : array of shape (n, m), or Dictionary
    X : array of shape (N, n)
        Observations like those to come.
    layers : int
        T, the iterations that the network stands in for.
    lam_fraction : float or (float, float)
        lambda as a fraction of each observation's lambda_max, or fractions from and to, drawn for each. Thresholds are
        multiplied by lambda, so that a network serves any other as well.
    validation : array of shape (N', n), optional
        What the parameters are chosen by; every tenth row of X without it, and of fewer than 20 rows all that is
        trained on.
    start : {"step", "ista"} or Network, optional
        What networks with matrices begin as: step-LISTA, which is trained first; ISTA; a step network of as many
        layers. Or a network of the same kind and size, of any kind: training goes on from its parameters.
    optimizer : {"auto", "adam", "sgd", "linesearch", "lbfgs"}
        "auto" is "lbfgs" for step and alista, else "adam".
    layerwise : bool, optional
        Train 1, 2, ... layers one after the other; the default for step and alista.
    epochs : int, optional
        Passes over the observations, and iterations of "linesearch" and "lbfgs"; 100 and 300.
    batch, rate, schedule, weight_decay, clip : optional
        Of "adam" and "sgd": 256; 1e-3 (less for more than 5 layers) and 1e-2; "cosine", "constant" or "steps"; 0; no
        clipping.
    momentum : float, optional
        Of "sgd", 0.9.
    patience : int, optional
        Looks at the validation without progress after which training ends; none without it.
    seed : int
        Of the order of observations and of drawn fractions.
    ridge, support_selection : float, (float, float)
        Of alista: of its matrix, a share of ||D||_2^2; P, MAX: in layer t the largest min(P t, MAX) percent are not
        shrunk.
    gamma : float, optional
        Of momentum-lista before training, with ``start="ista"``; 0.2.
    device, threads
        As for `Dictionary`, where D is none.
    memory_limit : int
        Bytes of observations that are held; others are read each time.
    progress : bool or function of dict
        True writes a line for each look at the validation on standard error; a function gets what `history` will hold,
        and "start", whether it is the step-LISTA that a network begins as.

    Returns
    -------
    Network
        The parameters that were best on the validation observations, never worse there than ISTA.

    Raises
    ------
    ValueError, TypeError
        A bad argument, by name.
    RuntimeError
        A loss that diverges: a smaller `rate` or a `clip` may help.
    Interrupted
        Ctrl-C; its `result` is the Network with the best parameters so far.
    """
    call = "train"
    arguments.one_of(call, "kind", kind, KINDS)
    arguments.one_of(call, "optimizer", optimizer, _OPTIMIZERS)
    scalar = kind in _SCALAR
    resolved = optimizer if optimizer != "auto" else "lbfgs" if scalar else "adam"
    if resolved in ("lbfgs", "linesearch"):
        for name, value in (("batch", batch), ("rate", rate), ("schedule", schedule), ("weight_decay", weight_decay),
                            ("clip", clip)):
            if value is not None:
                raise refuse(ValueError, call, name, f"it with the optimizer '{resolved}'",
                             "it with 'adam' or 'sgd' alone")
    if momentum is not None and resolved != "sgd":
        raise refuse(ValueError, call, "momentum", f"it with the optimizer '{resolved}'", "it with 'sgd' alone")
    layers = arguments.integer(call, "layers", layers, 1, 100000)
    low, high = _fractions(call, "lam_fraction", lam_fraction)
    ridge = _nonnegative(call, "ridge", ridge)
    if ridge != 0 and kind != "alista":
        raise refuse(ValueError, call, "ridge", f"it for {kind}", "it for alista alone")
    selection = (0.0, 0.0)
    if support_selection is not None:
        if kind != "alista":
            raise refuse(ValueError, call, "support_selection", f"it for {kind}", "it for alista alone")
        selection = _pair(call, "support_selection", support_selection, "(P, MAX), numbers >= 0, MAX at most 100")
        if selection[1] > 100:
            raise refuse(ValueError, call, "support_selection", f"{selection[1]:g}", "MAX at most 100")
    if start is None:
        start = "as it is" if scalar else "step"
    elif isinstance(start, str):
        arguments.one_of(call, "start", start, ("step", "ista"))
        if scalar:
            raise refuse(ValueError, call, "start", f"'{start}' for {kind}", "a Network of its kind, or nothing")
    elif not isinstance(start, Network):
        raise refuse(TypeError, call, "start", arguments.of_type(start), "'step', 'ista' or a Network")
    if gamma is not None:
        if kind != "momentum-lista" or start != "ista":
            raise refuse(ValueError, call, "gamma", f"it for {kind} with the start {arguments.shown(start)}",
                         "it for momentum-lista with the start 'ista'")
        if arguments.number(call, "gamma", gamma, least=0) >= 1:
            raise refuse(ValueError, call, "gamma", f"{gamma:g}", "a number under 1")
    if layerwise is not None:
        layerwise = arguments.flag(call, "layerwise", layerwise)
    if momentum is not None and arguments.number(call, "momentum", momentum, least=0) >= 1:
        raise refuse(ValueError, call, "momentum", f"{momentum:g}", "a number under 1")
    if schedule is not None:
        arguments.one_of(call, "schedule", schedule, ("cosine", "constant", "steps"))
    dictionary = Dictionary._of(call, D, device, threads)
    X = _samples(call, "X", X, dictionary)
    if validation is not None:
        validation = _samples(call, "validation", validation, dictionary)
    core = _core.LearnedNetwork(dictionary._core, kind, layers, ridge, *selection,
                                0.2 if gamma is None else float(gamma))
    if isinstance(start, Network):
        _begin_as(call, core, start, kind, layers, dictionary)
        start = "as it is"
    report: Callable[[dict[str, Any]], Any] | None
    if progress is True:
        report = _Line(layers)
    elif callable(progress):
        report = progress
    elif progress is False or progress is None:
        report = None
    else:
        raise refuse(TypeError, call, "progress", arguments.of_type(progress), "True, False or a function of a dict")
    outcome = core.train(
        X,
        validation,
        start,
        (low, high),
        optimizer,
        layerwise,
        0 if epochs is None else arguments.integer(call, "epochs", epochs, 1, 10**8),
        256 if batch is None else arguments.integer(call, "batch", batch, 1, 2**31),
        0.0 if rate is None else arguments.number(call, "rate", rate, above=0),
        "cosine" if schedule is None else schedule,
        0.9 if momentum is None else float(momentum),
        0.0 if weight_decay is None else _nonnegative(call, "weight_decay", weight_decay),
        np.inf if clip is None else arguments.number(call, "clip", clip, above=0),
        0 if patience is None else arguments.integer(call, "patience", patience, 1),
        arguments.integer(call, "seed", seed, 0),
        arguments.integer(call, "memory_limit", memory_limit, 1),
        report,
    )
    for event in outcome["history"]:
        del event["start"]
    network = Network(dictionary, core, outcome)
    raised = outcome["raised"]
    if isinstance(raised, KeyboardInterrupt):
        message = "the exception's `result` is the network with the best parameters so far"
        raise Interrupted(message, network) from raised
    if raised is not None:
        raise raised
    return network


def _restored(dictionary, content, known):
    """A network of its dictionary and what its file holds."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "network.safetensors")
        with open(path, "wb") as file:
            file.write(content)
        return Network(dictionary, _core.LearnedNetwork.load(dictionary._core, path), known)


class _Line:
    """Writes where a training stands."""

    def __init__(self, layers):
        self._layers = layers

    def __call__(self, event):
        what = "the step-LISTA that it begins as, " if event["start"] else ""
        sys.stderr.write(f"{what}layer {event['depth']} of {self._layers}, pass {event['pass']}: "
                         f"cost {event['cost']:.9g}, best validation {event['best_validation']:.9g}\n")


def _begin_as(call, core, start, kind, layers, dictionary):
    of_dictionary = start.dictionary.shape == dictionary.shape
    if start.layers != layers or not of_dictionary or start.kind not in (kind, "step"):
        raise refuse(ValueError, call, "start", repr(start),
                     f"a network of kind {kind} or step with {layers} layers, for a dictionary of {dictionary.shape}")
    if start.kind != kind and kind == "alista":
        raise refuse(ValueError, call, "start", repr(start), "a network of kind alista")
    if start.kind == kind:
        if kind == "alista" and (not start._core.analytic or start._core.ridge != core.ridge):
            raise refuse(ValueError, call, "start", "a network with another matrix", "one with the same ridge")
        core.copy_of(start._core)
    else:
        core.become_step_network(start._core)


def _nonnegative(call, name, value):
    return arguments.number(call, name, value, least=0)


def _pair(call, name, value, wanted):
    try:
        first, second = value
    except (TypeError, ValueError) as error:
        raise refuse(TypeError, call, name, arguments.of_type(value), wanted) from error
    return _nonnegative(call, name, first), _nonnegative(call, name, second)


def _fractions(call, name, value):
    if arguments.is_one(value):
        number = arguments.number(call, name, value, above=0)
        return number, number
    low, high = _pair(call, name, value, "a number, or two, the smaller first")
    if not 0 < low <= high:
        raise refuse(ValueError, call, name, f"{low:g} and {high:g}", "two numbers > 0, the smaller first")
    return low, high


def _samples(call, name, value, dictionary):
    n = dictionary.shape[0]
    wanted = f"an array (N, {n}) of numbers with at least one row"
    of_its_place = arguments.cuda_matrix if arguments.is_on_cuda(value) else arguments.matrix
    array = of_its_place(call, name, value, wanted)
    if array.shape[1] != n or array.shape[0] == 0:
        raise refuse(ValueError, call, name, f"shape {tuple(array.shape)}", wanted)
    return array
