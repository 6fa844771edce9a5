"""Residual and momentum residual networks, whose layers can be undone to the last bit.

    v <- gamma v + (1 - gamma) f(x),   x <- x + v

`MomentumNet` is such layers alone, `Net` a classifier with them or with plain residual blocks: a perceptron, or a
ResNet with torchvision's names. Files of `Net` are those of the program's ``shrinkwarp net``. In PyTorch:
`shrinkwarp.torch`.

Samples may lie on the CUDA device of the network, where they are read in place if they have its dtype and are in C order;
what comes of them is then a `CudaArray` on that device, which other libraries take with ``from_dlpack``. Samples from
anywhere else are copied to the host, and what comes of them is NumPy's.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from . import _arguments as arguments
from . import _core
from ._arguments import refuse
from ._core import CudaArray
from ._lasso import Array

RESNETS = tuple(_core.resnets)
_MODES = ("exact", "approximate")
_FORMS = ("damped", "plain")
_ACTIVATIONS = ("none", "relu", "gelu", "tanh")
_NORMALISATIONS = ("none", "layer", "batch")


class Net:
    """A classifier of residual layers, with momentum or without. Made by `mlp`, `resnet`, `load` or `transform`.

    Attributes
    ----------
    tensors : dict of str to ndarray
        The parameters, and the statistics of batch normalisation, by their names in files: the network's own, to be
        changed in place or replaced by others of the same shapes. Gammas that are not learned are among them, and stay.
    """

    def __init__(self, spec, tensors, dtype, device, threads, seed=0):
        self._spec = spec
        self._asked = device, threads
        self._contexts = contexts_of("Net", device, threads)
        self._core = layers_of(dtype).net(self._contexts, spec)
        self._dtype = np.dtype(dtype)
        self.tensors = initial_tensors(self._core, seed) if tensors is None else tensors

    @classmethod
    def mlp(cls, features: int, classes: int, blocks: int = 4, width: int = 64, hidden: int = 64, *,
            activation: str = "tanh", normalisation: str = "none", dropout: float = 0.0, initial_velocity: bool = False,
            gamma: float | Sequence[float] | None = None, mode: str = "exact", form: str = "damped",
            learn_gamma: bool = False, gamma_range: tuple[float, float] | None = None, store_activations: bool = False,
            seed: int = 0, dtype: Any = np.float32, device: str = "auto", threads: int | None = None) -> Net:
        """A linear layer to `width` features (left out where samples have as many), `blocks` residual branches
        ``W2 act(W1 x + b1) + b2`` of `hidden` features, a linear layer to the classes.

        Parameters
        ----------
        features, classes, blocks, width, hidden : int
        activation : {"tanh", "relu", "gelu", "none"}
        normalisation : {"none", "layer", "batch"}
            Of what a branch takes.
        dropout : float
            Of the hidden features of a branch.
        initial_velocity : bool
            v begins as what a branch of its own gives of x, not as 0; with momentum.
        gamma, mode, form, learn_gamma, gamma_range, store_activations
            As for `MomentumNet`. Without `gamma` the blocks have no momentum.
        seed : int
            Of the weights.
        dtype : float32 or float64
        device, threads
            As for `shrinkwarp.Dictionary`.
        """
        call = "Net.mlp"
        momentum = None if gamma is None else momentum_spec(call, blocks, gamma, mode, form, learn_gamma, gamma_range,
                                                            store_activations)
        spec = _mlp_spec(call, features, classes, blocks, width, hidden, activation, normalisation, dropout,
                         initial_velocity, momentum)
        return cls(spec, None, _dtype(call, dtype), device, threads, arguments.integer(call, "seed", seed, 0))

    @classmethod
    def resnet(cls, name: str, classes: int = 1000, input: tuple[int, int, int] = (3, 224, 224), *,
               gamma: float | None = None, mode: str = "exact", form: str = "damped", learn_gamma: bool = False,
               gamma_range: tuple[float, float] | None = None, store_activations: bool = False, seed: int = 0,
               dtype: Any = np.float32, device: str = "auto", threads: int | None = None) -> Net:
        """A ResNet of torchvision's, with its names of tensors.

        Parameters
        ----------
        name : {"resnet18", "resnet34", "resnet50", "resnet101", "resnet152"}
        classes : int
        input : (channels, height, width)
        gamma, mode, form, learn_gamma, gamma_range, store_activations
            As for `MomentumNet`, of the blocks behind the first of each stage. Without `gamma` they have no momentum.
        seed, dtype, device, threads
            As for `mlp`.
        """
        call = "Net.resnet"
        arguments.one_of(call, "name", name, RESNETS)
        momentum = None
        if gamma is not None:
            if not arguments.is_one(gamma):
                raise refuse(ValueError, call, "gamma", arguments.shown(gamma), "one number")
            momentum = momentum_spec(call, 1, gamma, mode, form, learn_gamma, gamma_range, store_activations)
        spec = _spec(name, _image(call, input), arguments.integer(call, "classes", classes, 1))
        spec["momentum"] = momentum
        return cls(spec, None, _dtype(call, dtype), device, threads, arguments.integer(call, "seed", seed, 0))

    @classmethod
    def load(cls, path: str | bytes | os.PathLike, input: tuple[int, int, int] = (3, 224, 224), *, device: str = "auto",
             threads: int | None = None) -> Net:
        """The network of a file: of `save`, ``shrinkwarp net``, or a ResNet's state of torchvision as safetensors.

        Parameters
        ----------
        path : str or path
        input : (channels, height, width)
            Of the images, for a file of torchvision's, which does not say.
        """
        call = "Net.load"
        spec, tensors = _core.load_net(arguments.path(call, path), list(_image(call, input)))
        return cls(spec, tensors, np.float32, device, threads)

    def save(self, path: str | bytes | os.PathLike) -> None:
        """Writes a safetensors file, in float32; it appears under its name when it is complete."""
        call = "Net.save"
        values = [value.astype(np.float32) for value in self._values(call)]
        tensors = named(self._core, values)
        _core.save_net(arguments.path(call, path), self._spec, tensors)

    @property
    def architecture(self) -> str:
        """"mlp" or the name of a ResNet."""
        return self._spec["architecture"]

    @property
    def gamma(self) -> float | None:
        """The momentum before training, or None."""
        return None if self._spec["momentum"] is None else self._spec["momentum"]["gamma"]

    @property
    def momentum_layers(self) -> list[int]:
        """How many layers each momentum stage has."""
        return list(self._core.stages)

    def __reduce__(self):
        return Net, (self._spec, self.tensors, self._dtype, *self._asked)

    def __repr__(self):
        momentum = self._spec["momentum"]
        its = "" if momentum is None else f", gamma={momentum['gamma']:g}, mode='{momentum['mode']}'"
        return f"Net('{self.architecture}', input={tuple(self._spec['input'])}, classes={self._spec['classes']}{its})"

    def activation_bytes(self, batch: int, training: bool = True) -> int:
        """Bytes that a pass of `batch` samples has for activations at most: in training, or in evaluation."""
        call = "Net.activation_bytes"
        return sum(self._core.memory(arguments.integer(call, "batch", batch, 1, 2**31),
                                     arguments.flag(call, "training", training)))

    def forward(self, X: Array) -> np.ndarray | CudaArray:
        """Logits (N, classes) of samples (N, features) or (N, channels, height, width), as in evaluation."""
        call = "Net.forward"
        Y, _, _ = self._core.forward(self._rows(call, X), self._values(call), [], False, False, 0, 0)
        return Y

    def record(self, X: Array, training: bool = False, seed: int = 0, step: int = 0) -> Recording:
        """A forward pass that keeps what a backward pass needs: samples that are read in place among it, which have to
        stay as they are until then.

        Parameters
        ----------
        X : array of shape (N, features) or (N, channels, height, width)
        training : bool
            Normalise by the batch, which changes the statistics among `tensors`, and drop out.
        seed, step : int
            Of dropout: which masks.

        Returns
        -------
        Recording
        """
        call = "Net.record"
        rows = self._rows(call, X)
        training = arguments.flag(call, "training", training)
        Y, kept, statistics = self._core.forward(rows, self._values(call), [], True, training,
                                                 arguments.integer(call, "seed", seed, 0),
                                                 arguments.integer(call, "step", step, 0))
        if training and len(statistics) > 0:
            for (name, _, learned), value in zip(self._core.entries, statistics):
                if not learned:
                    self.tensors[name][...] = value
        return Recording(self._core, self._contexts, kept, rows, Y, tuple(np.shape(X)))

    def _rows(self, call, X):
        shape = tuple(self._spec["input"])
        array = arguments.on_place(call, "X", X, samples_of(shape), self._contexts, self._dtype)
        if not are_samples(array.shape, shape):
            raise refuse(ValueError, call, "X", f"shape {array.shape}", samples_of(shape))
        return finite(call, "X", array, self._contexts).reshape((array.shape[0], int(np.prod(shape))))

    def _values(self, call):
        return values_of(call, self._core, self.tensors, self._dtype, self._spec["momentum"])


class Recording:
    """What `Net.record` leaves.

    Attributes
    ----------
    output : ndarray or CudaArray of shape (N, classes)
        The logits.
    bytes : int
        Held for the backward pass.
    """

    def __init__(self, core, contexts, kept, rows, output, shape):
        self._core, self._contexts, self._kept, self._rows, self._shape = core, contexts, kept, rows, shape
        self.output = output
        self.bytes = kept.bytes

    def backward(self, dY: Array) -> tuple[np.ndarray | CudaArray, dict[str, np.ndarray]]:
        """The gradients of a loss whose gradient by `output` is dY.

        Returns
        -------
        dX : ndarray or CudaArray
            By the samples, where they lie.
        gradients : dict of str to ndarray
            By the parameters.
        """
        dY = like("Recording.backward", "dY", dY, self.output, self._contexts)
        dX, gradients, _ = self._core.backward(self._kept, self._rows, self.output, dY, True, [])
        return dX.reshape(self._shape), named(self._core, gradients)


def transform(net: Net, gamma: float | Sequence[float] = 0.9, *, mode: str = "exact", form: str = "damped",
              learn_gamma: bool = False, gamma_range: tuple[float, float] | None = None,
              store_activations: bool = False) -> Net:
    """The same network with momentum and all its weights, as momentumnet's ``transform_to_momentumnet`` makes it.

    Parameters
    ----------
    net : Net
        Without momentum.
    gamma, mode, form, learn_gamma, gamma_range, store_activations
        As for `MomentumNet`.

    Returns
    -------
    Net
        With tensors of its own.
    """
    call = "transform"
    if not isinstance(net, Net):
        raise refuse(TypeError, call, "net", arguments.of_type(net), "a Net")
    if net.gamma is not None:
        raise refuse(ValueError, call, "net", repr(net), "one without momentum")
    layers = net._spec["blocks"] if net.architecture == "mlp" else 1
    if net.architecture != "mlp" and not arguments.is_one(gamma):
        raise refuse(ValueError, call, "gamma", arguments.shown(gamma), "one number")
    momentum = momentum_spec(call, layers, gamma, mode, form, learn_gamma, gamma_range, store_activations)
    result = Net.__new__(Net)
    result._spec = {**net._spec, "momentum": momentum, "initial_velocity": False}
    result._asked, result._contexts, result._dtype = net._asked, net._contexts, net._dtype
    result._core = layers_of(net._dtype).net(net._contexts, result._spec)
    values = dict(net.tensors)
    result.tensors = {}
    for name, shape, _ in result._core.entries:
        if name.endswith(".gamma") and name not in values:
            result.tensors[name] = gammas_of(momentum, shape, net._dtype).copy()
        else:
            result.tensors[name] = np.array(values[name])
    return result


class MomentumNet:
    """Momentum layers whose branches are ``W2 act(W1 x + b1) + b2``, there and back.

    Parameters
    ----------
    width : int
        Features of a sample.
    layers : int
    hidden : int
        Features between the two products of a branch.
    gamma : float or sequence of float
        The momentum, over 0 and at most 1: one, or one for each layer.
    mode : {"exact", "approximate"}
        Fixed-point numbers of 2^-44 up to 2^19, whose every bit comes back, or floating point, whose inverse is off by
        some ``gamma^-layers`` roundings.
    form : {"damped", "plain"}
        ``v <- gamma v + (1 - gamma) f`` or ``v <- gamma v + f``.
    activation, normalisation, dropout, initial_velocity
        As for `Net.mlp`.
    learn_gamma : bool
        gamma of each layer is a parameter too, "momentum.gamma".
    gamma_range : (float, float), optional
        That learned gammas are held within; gamma squared and half way from gamma to 1 by default.
    seed, dtype, device, threads
        As for `Net.mlp`.

    Attributes
    ----------
    tensors : dict of str to ndarray
        As of `Net`.
    """

    def __init__(self, width: int, layers: int, hidden: int, gamma: float | Sequence[float] = 0.9, *,
                 mode: str = "exact", form: str = "damped", activation: str = "tanh", normalisation: str = "none",
                 dropout: float = 0.0, initial_velocity: bool = False, learn_gamma: bool = False,
                 gamma_range: tuple[float, float] | None = None, seed: int = 0, dtype: Any = np.float32,
                 device: str = "auto", threads: int | None = None):
        call = "MomentumNet"
        width = arguments.integer(call, "width", width, 1, 1 << 24)
        momentum = momentum_spec(call, layers, gamma, mode, form, learn_gamma, gamma_range, False)
        spec = _mlp_spec(call, width, 1, layers, width, hidden, activation, normalisation, dropout, initial_velocity,
                         momentum)
        self._width, self._mode, self._has_initial, self._momentum = width, mode, initial_velocity, momentum
        self._made_of = dict(
            width=width, layers=layers, hidden=hidden, gamma=gamma, mode=mode, form=form, activation=activation,
            normalisation=normalisation, dropout=dropout, initial_velocity=initial_velocity, learn_gamma=learn_gamma,
            gamma_range=gamma_range, dtype=dtype, device=device, threads=threads)
        self._dtype = _dtype(call, dtype)
        self._contexts = contexts_of(call, device, threads)
        self._core = layers_of(self._dtype).mlp_stage(self._contexts, spec)
        self.tensors = initial_tensors(self._core, arguments.integer(call, "seed", seed, 0))

    @property
    def layers(self) -> int:
        return self._core.stages[0]

    def __reduce__(self):
        return _restored, (self._made_of, self.tensors)

    def __repr__(self):
        return f"MomentumNet(width={self._width}, layers={self.layers}, mode='{self._mode}')"

    def activation_bytes(self, batch: int, training: bool = True) -> int:
        """Bytes that a pass of `batch` samples has for activations at most: there and back, or there alone."""
        call = "MomentumNet.activation_bytes"
        return sum(self._core.memory(arguments.integer(call, "batch", batch, 1, 2**31),
                                     arguments.flag(call, "training", training)))

    def forward(self, X: Array, V: Array | None = None, *, training: bool = False, seed: int = 0,
                step: int = 0) -> MomentumState:
        """The state behind the last layer.

        Parameters
        ----------
        X : array of shape (N, width)
        V : array of shape (N, width), optional
            The velocity to begin with, in place of 0 or of what `initial_velocity` gives.
        training, seed, step
            As for `Net.record`; statistics of batch normalisation stay.

        Returns
        -------
        MomentumState
        """
        call = "MomentumNet.forward"
        X = self._rows(call, "X", X)
        if V is not None:
            V = self._rows(call, "V", V)
            if V.shape != X.shape:
                raise refuse(ValueError, call, "V", f"shape {V.shape}", f"{X.shape}, that of X")
        kept = self._core.advance(X, V, values_of(call, self._core, self.tensors, self._dtype, self._momentum), [],
                                  arguments.flag(call, "training", training), arguments.integer(call, "seed", seed, 0),
                                  arguments.integer(call, "step", step, 0))
        return MomentumState(self._core, kept)

    def inverse(self, state: MomentumState) -> MomentumState:
        """The state that led to a state of `forward`, with the parameters that it had then; that state stays.

        In exact mode every bit of x and v is what it was, or there is an error.
        """
        self._require("MomentumNet.inverse", state)
        return MomentumState(self._core, self._core.inverse(state._kept))

    def backward(self, state: MomentumState, dY: Array,
                 X: Array | None = None) -> tuple[np.ndarray | CudaArray, dict[str, np.ndarray]]:
        """The gradients of a loss whose gradient by ``state.x`` is dY, from the state alone.

        Parameters
        ----------
        state : MomentumState
            Of `forward`; it stays.
        dY : array of shape (N, width)
        X : array of shape (N, width), optional
            What `forward` began with: with `initial_velocity`, which reads it.

        Returns
        -------
        dX : ndarray or CudaArray of shape (N, width)
        gradients : dict of str to ndarray
            By the parameters.
        """
        call = "MomentumNet.backward"
        self._require(call, state)
        dY = like(call, "dY", dY, state.x, self._contexts)
        if self._has_initial and X is None:
            raise refuse(ValueError, call, "X", "None", "what forward began with, for the initial velocity reads it")
        X = np.empty((0, self._width), self._dtype) if X is None else self._rows(call, "X", X)
        none = np.empty((0, self._width), self._dtype)
        dX, gradients, _ = self._core.backward(state._kept, X, none, dY, True, [])
        return dX, named(self._core, gradients)

    def _rows(self, call, name, value):
        wanted = f"(N, {self._width})"
        array = arguments.on_place(call, name, value, wanted, self._contexts, self._dtype)
        if array.ndim != 2 or array.shape[1] != self._width:
            raise refuse(ValueError, call, name, f"shape {array.shape}", wanted)
        return finite(call, name, array, self._contexts)

    def _require(self, call, state):
        if not isinstance(state, MomentumState) or state._core is not self._core:
            raise refuse(TypeError, call, "state", arguments.of_type(state), "a state of this network's forward")
        if state._kept.is_beginning:
            raise refuse(ValueError, call, "state", "what inverse gave", "a state of this network's forward")


class MomentumState:
    """x and v behind some layers of a momentum network, and in exact mode what leads back.

    Attributes
    ----------
    x, v : ndarray or CudaArray
        Position and velocity, where `forward` got X.
    """

    def __init__(self, core, kept):
        self._core, self._kept = core, kept
        self.x, self.v = core.values_of(kept)

    @property
    def fixed(self) -> tuple[np.ndarray | CudaArray, np.ndarray | CudaArray]:
        """x and v as they are in exact mode: int64, in units of 2^-44."""
        return self._core.fixed_of(self._kept)

    @property
    def buffer_bytes(self) -> int:
        """Of all that leads back, beside x and v; 0 in approximate mode."""
        return self._core.buffer_bytes(self._kept)


# ---- For this package ------------------------------------------------------------------------------------------------


def _restored(made_of, tensors):
    """A `MomentumNet` of its arguments, with tensors."""
    net = MomentumNet(**made_of)
    net.tensors = tensors
    return net


def layers_of(dtype):
    return _core.LayersFloat64 if np.dtype(dtype) == np.float64 else _core.LayersFloat32


def contexts_of(call, device, threads):
    return _core.Contexts(*arguments.place(call, device, threads))


def initial_tensors(core, seed):
    return {name: value for (name, _, _), value in zip(core.entries, core.initial(seed))}


def named(core, values):
    return {name: value for (name, _, _), value in zip(core.entries, values) if value is not None}


def values_of(call, core, tensors, dtype, momentum):
    """The values of a core's tensors in its order.

    Of gammas that are not learned `momentum` has the values, which what a stage keeps is laid out for.
    """
    values = []
    for name, shape, learned in core.entries:
        wanted = f"an array of shape {shape}"
        if name not in tensors:
            raise refuse(ValueError, call, f"tensors['{name}']", "none", wanted)
        array = arguments.on_host(call, f"tensors['{name}']", tensors[name], wanted)
        if array.shape != shape:
            raise refuse(ValueError, call, f"tensors['{name}']", f"shape {array.shape}", wanted)
        array = np.ascontiguousarray(array, dtype=dtype)
        if name.endswith(".gamma"):
            check_gamma(call, f"tensors['{name}']", array, learned, momentum)
        values.append(array)
    return values


def check_gamma(call, name, array, learned, momentum):
    if learned:
        finite(call, name, array, None)
    elif not np.allclose(array, gammas_of(momentum, array.shape, array.dtype), rtol=1e-6, atol=0):
        raise refuse(ValueError, call, name, arguments.shown(array),
                     "the gamma that the network was made with: another one takes another network, or learn_gamma")


def gammas_of(momentum, shape, dtype):
    """Before training."""
    return np.broadcast_to(np.asarray(momentum["gammas"] or momentum["gamma"], dtype=dtype), shape)


def like(call, name, value, other, contexts):
    """A value as an array of another's shape and type."""
    wanted = f"an array of shape {other.shape}"
    array = arguments.on_place(call, name, value, wanted, contexts, other.dtype)
    if array.shape != other.shape:
        raise refuse(ValueError, call, name, f"shape {array.shape}", wanted)
    return array


def samples_of(shape):
    """In a message."""
    features = int(np.prod(shape))
    return f"samples (N, {features})" + ("" if shape[1:] == (1, 1) else f" or (N, {', '.join(map(str, shape))})")


def are_samples(found, shape):
    """Whether an array of a shape holds samples of (channels, height, width)."""
    if len(found) not in (2, 4) or int(np.prod(found[1:])) != int(np.prod(shape)):
        return False
    return len(found) == 2 or shape[1:] == (1, 1) or tuple(found[1:]) == tuple(shape)


def finite(call, name, array, contexts):
    on_device = isinstance(array, CudaArray)
    if contexts.non_finite(array) > 0 if on_device else not np.isfinite(array).all():
        raise refuse(ValueError, call, name, "NaN or infinity", "finite numbers")
    return array


def momentum_spec(call, layers, gamma, mode, form, learn_gamma, gamma_range, store_activations, whole=False):
    """What a momentum stage is, as the library takes it."""
    arguments.one_of(call, "mode", mode, _MODES)
    arguments.one_of(call, "form", form, _FORMS)
    layers = arguments.integer(call, "layers", layers, 1, 10**7)
    wanted = "over 0 and at most 1"
    if arguments.is_one(gamma):
        gammas, first = [], arguments.number(call, "gamma", gamma, above=0)
        if first > 1:
            raise refuse(ValueError, call, "gamma", f"{first:g}", wanted)
    else:
        wanted = f"a number, or {layers} numbers, {wanted}"
        values = arguments.vector(call, "gamma", gamma, layers, wanted)
        if not ((values > 0) & (values <= 1)).all():
            raise refuse(ValueError, call, "gamma", arguments.shown(gamma), wanted)
        gammas, first = values.tolist(), float(values[0])
    learned = arguments.flag(call, "learn_gamma", learn_gamma)
    low, high = (first**2, (1 + first) / 2) if learned else (0.5, 1 - 1 / 1024)
    if gamma_range is not None:
        if not learned:
            raise refuse(ValueError, call, "gamma_range", arguments.shown(gamma_range), "it with learn_gamma alone")
        wanted = f"two numbers over 0 and at most 1, the smaller first, with gamma, {first:g}, between them"
        try:
            low, high = (arguments.number(call, "gamma_range", value, above=0) for value in gamma_range)
        except (TypeError, ValueError) as error:
            if str(error).startswith(call):
                raise
            raise refuse(TypeError, call, "gamma_range", arguments.of_type(gamma_range), wanted) from error
        if not low <= first <= high <= 1:
            raise refuse(ValueError, call, "gamma_range", f"{low:g} and {high:g}", wanted)
    return {"gamma": first, "gammas": gammas, "form": form, "mode": mode, "learned": learned, "low": low, "high": high,
            "stored": arguments.flag(call, "store_activations", store_activations), "whole": whole}


def _spec(architecture, input, classes):
    return {"architecture": architecture, "input": input, "classes": classes, "blocks": 1, "width": 1, "hidden": 1,
            "activation": "tanh", "normalisation": "none", "dropout": 0.0, "initial_velocity": False, "momentum": None}


def _mlp_spec(call, features, classes, blocks, width, hidden, activation, normalisation, dropout, initial_velocity,
              momentum):
    arguments.one_of(call, "activation", activation, _ACTIVATIONS)
    arguments.one_of(call, "normalisation", normalisation, _NORMALISATIONS)
    dropout = arguments.number(call, "dropout", dropout, least=0)
    if dropout >= 1:
        raise refuse(ValueError, call, "dropout", f"{dropout:g}", "a number under 1")
    if arguments.flag(call, "initial_velocity", initial_velocity) and momentum is None:
        raise refuse(ValueError, call, "initial_velocity", "it without gamma", "both")
    most = 1 << 24
    spec = _spec("mlp", (arguments.integer(call, "features", features, 1, most), 1, 1),
                 arguments.integer(call, "classes", classes, 1, most))
    spec.update(blocks=arguments.integer(call, "blocks", blocks, 1, most),
                width=arguments.integer(call, "width", width, 1, most),
                hidden=arguments.integer(call, "hidden", hidden, 1, most), activation=activation,
                normalisation=normalisation, dropout=dropout, initial_velocity=initial_velocity, momentum=momentum)
    return spec


def _image(call, input):
    wanted = "(channels, height, width)"
    try:
        channels, height, width = input
    except (TypeError, ValueError) as error:
        raise refuse(TypeError, call, "input", arguments.of_type(input), wanted) from error
    return tuple(arguments.integer(call, "input", side, 1, 1 << 20) for side in (channels, height, width))


def _dtype(call, dtype):
    try:
        its = np.dtype(dtype)
    except TypeError as error:
        raise refuse(TypeError, call, "dtype", arguments.of_type(dtype), "float32 or float64") from error
    if its not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise refuse(ValueError, call, "dtype", str(its), "float32 or float64")
    return its
