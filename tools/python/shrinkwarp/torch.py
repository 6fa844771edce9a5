"""Momentum networks and LISTA as PyTorch modules, differentiated by this library's kernels, on the CPU and on CUDA.

`MomentumNet` takes any modules as its branches and stores no activations: on the way back x and v of each layer come
from those of the next, in exact arithmetic to the last bit. `transform_to_momentumnet` makes such networks of others,
as momentumnet's function of that name does. `Net` is a whole `shrinkwarp.momentum.Net` and `LISTA` a learned solver,
both with all their layers in the library. Tensors of float32 and float64 are read where they lie, on CUDA in the order
of PyTorch's current stream, and what comes of them lies there too; gradients of gradients are not to be had.
"""

from __future__ import annotations

import atexit
import contextlib
import copy
import functools

import numpy as np
import torch

from . import _arguments as arguments
from . import _core, momentum, networks
from ._arguments import refuse
from ._lasso import Dictionary

_DTYPES = {torch.float32: np.float32, torch.float64: np.float64}


class MomentumNet(torch.nn.Module):
    """Momentum layers with modules as branches: ``v <- gamma v + (1 - gamma) f_t(x)``, ``x <- x + v``, from v = 0.

    Its arguments are those of ``momentumnet.MomentumNet``, and the names in its state too.

    Parameters
    ----------
    functions : sequence of modules
        f_1 ... f_T, each from tensors of a shape to tensors of that shape; one may be there several times. They are
        evaluated a second time on the way back and have to give the same bits: what depends on PyTorch's random
        numbers, and batch normalisation in training, is taken care of.
    gamma : float or sequence of float
        Over 0 and at most 1: one, or one for each layer.
    init_speed : bool
        v begins as ``init_function(x)``.
    init_function : module, optional
    use_backprop : bool
        True stores activations and differentiates as PyTorch does, in floating point.
    is_residual : bool
        False where functions give ``x + f(x)``, as the blocks of ResNets do.
    mode : {"exact", "approximate"}
        Fixed-point numbers of 2^-44 up to 2^19, which come back to the last bit, or floating point, which is off by
        some ``gamma^-T`` roundings.
    learn_gamma : bool
        gamma of each layer is a parameter too, held within `gamma_range`.
    gamma_range : (float, float), optional
        gamma squared and half way from gamma to 1 by default.
    """

    def __init__(self, functions, gamma=0.9, init_speed=False, init_function=None, use_backprop=False,
                 is_residual=True, *, mode="exact", learn_gamma=False, gamma_range=None):
        super().__init__()
        call = "MomentumNet"
        functions = list(functions)
        if not functions:
            raise refuse(ValueError, call, "functions", "none", "at least one module")
        for function in functions:
            if not isinstance(function, torch.nn.Module):
                raise refuse(TypeError, call, "functions", arguments.of_type(function), "modules")
        if bool(init_speed) != (init_function is not None):
            raise refuse(ValueError, call, "init_function", "None" if init_function is None else "one",
                         "one with init_speed, and none without")
        whole = not arguments.flag(call, "is_residual", is_residual)
        self._spec = momentum.momentum_spec(call, len(functions), gamma, mode, "damped", learn_gamma, gamma_range,
                                            False, whole)
        self.use_backprop = arguments.flag(call, "use_backprop", use_backprop)
        self.init_speed = bool(init_speed)
        self.network = torch.nn.ModuleDict({str(t): function for t, function in enumerate(functions)})
        if init_function is not None:
            self.network["init"] = init_function
        gammas = torch.tensor(self._spec["gammas"] or [self._spec["gamma"]] * len(functions), dtype=torch.float64)
        self._fixed_gammas = gammas
        self.gammas = torch.nn.Parameter(gammas.to(torch.get_default_dtype())) if learn_gamma else None
        if learn_gamma and use_backprop:
            raise refuse(ValueError, call, "learn_gamma", "it with use_backprop", "one of them")

    @property
    def gamma(self):
        return self._spec["gamma"]

    @property
    def functions(self):
        return [self.network[str(t)] for t in range(len(self._fixed_gammas))]

    @property
    def init_function(self):
        return self.network["init"] if self.init_speed else None

    def extra_repr(self):
        return f"gamma={self.gamma:g}, mode='{self._spec['mode']}', is_residual={not self._spec['whole']}"

    def forward(self, x, *function_args):
        """The last x. Further arguments go to each function; tensors among them have their gradients."""
        _tensor("MomentumNet.forward", "x", x)
        if self.use_backprop:
            return self._backpropagated(x, function_args)
        if self.gammas is not None:
            _same_device("MomentumNet.forward", x, [self.gammas])
        tensors = [value for value in function_args if isinstance(value, torch.Tensor)]
        parameters = list(dict.fromkeys(self.network.parameters()))
        return _Momentum.apply(self, function_args, len(tensors), x, self.gammas, *tensors, *parameters)

    def advance(self, x, *function_args):
        """The state behind the last layer, for `inverse`: a `State` with tensors `x` and `v`, without gradients."""
        x = _tensor("MomentumNet.advance", "x", x).detach().contiguous()
        with _at(x):
            run = _Run(self, x, function_args, differentiates=False)
            return State(run, run.core.advance(run.rows(x), None, run.values, [], False, 0, 0))

    def inverse(self, state):
        """The state that led to a state of `advance`.

        In exact mode `fixed` has every bit, or there is an error. The modules' parameters have to be what they were.
        """
        if not isinstance(state, State) or state._run.net is not self:
            raise refuse(TypeError, "MomentumNet.inverse", "state", arguments.of_type(state), "a state of its advance")
        if state._kept.is_beginning:
            raise refuse(ValueError, "MomentumNet.inverse", "state", "what inverse gave", "a state of its advance")
        with _at(state.x):
            return State(state._run, state._run.core.inverse(state._kept))

    def _backpropagated(self, x, function_args):
        v = self.init_function(x, *function_args) if self.init_speed else torch.zeros_like(x)
        for function, gamma in zip(self.functions, self._fixed_gammas.tolist()):
            f = function(x, *function_args)
            if self._spec["whole"]:
                f = f - x
            v = gamma * v + (1 - gamma) * f
            x = x + v
        return x


class State:
    """x and v behind some layers of a `MomentumNet`, and what leads back.

    Attributes
    ----------
    x, v : torch.Tensor
    """

    def __init__(self, run, kept):
        self._run, self._kept = run, kept
        self.x, self.v = (_tensor_of(value).view(run.shape) for value in run.core.values_of(kept))

    @property
    def fixed(self):
        """x and v as they are in exact mode: int64, in units of 2^-44."""
        with _at(self.x):
            return tuple(_tensor_of(value).view(self._run.shape) for value in self._run.core.fixed_of(self._kept))

    @property
    def buffer_bytes(self):
        """Of all that leads back, beside x and v; 0 in approximate mode."""
        return self._run.core.buffer_bytes(self._kept)


def transform_to_momentumnet(model, sub_layers=("layer1", "layer2", "layer3", "layer4"), keep_first_layer=True,
                             gamma=0.9, use_backprop=False, is_residual=False, *, mode="exact"):
    """The counterpart with momentum of a model with residual layers: a copy, which shares nothing with it.

    Parameters
    ----------
    model : torch.nn.Module
        A ResNet of torchvision's, say.
    sub_layers : sequence of str
        Names of the model's sequences of residual layers; "encoder.layers", say.
    keep_first_layer : bool
        The first layer of each sequence stays as it is, as that of ResNets has to, which changes the shape.
    gamma : float
    use_backprop, is_residual, mode
        As for `MomentumNet`. Blocks of ResNets give x + f(x), which is what ``is_residual=False`` says.

    Returns
    -------
    torch.nn.Module
        Its momentum layers are `MomentumNet`, ``result.layer1[1][0]`` for a ResNet, each with its `inverse`.
    """
    call = "transform_to_momentumnet"
    if not isinstance(model, torch.nn.Module):
        raise refuse(TypeError, call, "model", arguments.of_type(model), "a module")
    if isinstance(sub_layers, str):
        raise refuse(TypeError, call, "sub_layers", arguments.of_type(sub_layers), "a sequence of names")
    keep_first_layer = arguments.flag(call, "keep_first_layer", keep_first_layer)
    result = copy.deepcopy(model)
    for name in sub_layers:
        if not isinstance(name, str):
            raise refuse(TypeError, call, "sub_layers", arguments.of_type(name), "names of the model's modules")
        try:
            layers = list(result.get_submodule(name).children())
        except AttributeError as error:
            raise refuse(ValueError, call, "sub_layers", f"'{name}'", "names of the model's modules") from error
        kept = layers[:1] if keep_first_layer else []
        rest = layers[len(kept):]
        stage = torch.nn.Sequential()
        if rest:
            stage.append(MomentumNet(rest, gamma, use_backprop=use_backprop, is_residual=is_residual, mode=mode))
        parent, _, last = name.rpartition(".")
        setattr(result.get_submodule(parent), last, torch.nn.Sequential(*kept, stage) if kept else stage)
    return result


class Net(torch.nn.Module):
    """A `shrinkwarp.momentum.Net` as a module, all of its layers in the library.

    Parameters
    ----------
    net : shrinkwarp.momentum.Net
        Its tensors become the module's parameters and buffers, in the same memory and under the same names.
    """

    def __init__(self, net):
        super().__init__()
        if not isinstance(net, momentum.Net):
            raise refuse(TypeError, "Net", "net", arguments.of_type(net), "a shrinkwarp.momentum.Net")
        self._spec = copy.deepcopy(net._spec)
        self._entries = list(net._core.entries)
        for name, _, learned in self._entries:
            *path, last = name.split(".")
            module = self
            for part in path:
                if part not in module._modules:
                    module.add_module(part, torch.nn.Module())
                module = module._modules[part]
            value = torch.from_numpy(net.tensors[name])
            if learned:
                module.register_parameter(last, torch.nn.Parameter(value))
            else:
                module.register_buffer(last, value)

    @classmethod
    def from_torchvision(cls, model, input=(3, 224, 224), gamma=None, **options):
        """A ResNet of torchvision's, its weights copied.

        Parameters
        ----------
        model : torchvision.models.ResNet
            18, 34, 50, 101 or 152, with any number of classes.
        input : (channels, height, width)
            Of the images that it will get.
        gamma : float, optional
            Momentum of the blocks behind the first of each stage; without it they have none.
        **options
            Of `shrinkwarp.momentum.Net.resnet`: mode, form, learn_gamma, gamma_range, store_activations.
        """
        call = "Net.from_torchvision"
        if not isinstance(model, torch.nn.Module):
            raise refuse(TypeError, call, "model", arguments.of_type(model), "a module")
        state = model.state_dict()
        wanted = f"a ResNet of torchvision's: {', '.join(momentum.RESNETS)}"
        counts = tuple(len({name.split(".")[1] for name in state if name.startswith(f"layer{stage}.")})
                       for stage in range(1, 5))
        its = ("layer1.0.conv3.weight" in state, counts)
        found = [name for name, layout in _core.resnets.items() if layout == its]
        if not found or "fc.weight" not in state:
            raise refuse(ValueError, call, "model", type(model).__name__, wanted)
        weight = state["fc.weight"]
        if weight.dtype not in _DTYPES:
            raise refuse(TypeError, call, "model", f"parameters of {weight.dtype}", "float32 or float64")
        net = momentum.Net.resnet(found[0], weight.shape[0], input, gamma=gamma, dtype=_DTYPES[weight.dtype],
                                  device="cpu", **options)
        for name, value in net.tensors.items():
            if name.endswith("momentum.gamma"):
                continue
            if name not in state or tuple(state[name].shape) != value.shape:
                its = tuple(state[name].shape) if name in state else "missing"
                raise refuse(ValueError, call, "model", f"{name} {its}", f"{value.shape}, of {wanted}")
            value[...] = state[name].detach().cpu().numpy()
        return cls(net)

    def to_net(self):
        """The `shrinkwarp.momentum.Net` of the values that the module has, copied; to be saved, say."""
        values = {name: value.detach().cpu().numpy().copy() for name, value in self._tensors()}
        return momentum.Net(self._spec, values, next(iter(values.values())).dtype, "cpu", None)

    def activation_bytes(self, batch, training=True):
        """As `shrinkwarp.momentum.Net.activation_bytes`."""
        _, value = next(self._tensors())
        batch = arguments.integer("Net.activation_bytes", "batch", batch, 1, 2**31)
        core = _net_core(self, value.dtype, _device(value))
        return sum(core.memory(batch, arguments.flag("Net.activation_bytes", "training", training)))

    def _tensors(self):
        for name, _, _ in self._entries:
            module, _, last = name.rpartition(".")
            yield name, getattr(self.get_submodule(module), last)

    def forward(self, x):
        """Logits (N, classes) of (N, features) or (N, channels, height, width)."""
        call = "Net.forward"
        _tensor(call, "x", x)
        shape = tuple(self._spec["input"])
        if not momentum.are_samples(tuple(x.shape), shape):
            raise refuse(ValueError, call, "x", f"shape {tuple(x.shape)}", momentum.samples_of(shape))
        tensors = [value for _, value in self._tensors()]
        _same_device(call, x, tensors)
        self._check_gammas(call, tensors)
        return _Whole.apply(self, x, *tensors)

    def _check_gammas(self, call, tensors):
        """Of values that have not been looked at; those that are learned on CUDA would have each step wait."""
        seen = self.__dict__.setdefault("_seen", {})
        for (name, _, learned), value in zip(self._entries, tensors):
            if not name.endswith(".gamma") or learned and value.device.type != "cpu":
                continue
            if name not in seen or seen[name][0] is not value or seen[name][1] != value._version:
                momentum.check_gamma(call, name, value.detach().cpu().numpy(), learned, self._spec["momentum"])
                seen[name] = value, value._version

    def __getstate__(self):
        return {name: value for name, value in self.__dict__.items() if name not in ("_cores", "_seen")}


class LISTA(torch.nn.Module):
    """A learned solver: T layers that stand in for iterations, for one dictionary and any lambda.

    Before training its parameters are those of an untrained `shrinkwarp.networks` network, ISTA for most kinds; their
    names and shapes are those in files. A loss may be anything of the codes.

    Parameters
    ----------
    D : array of shape (n, m)
    layers : int
    kind : {"lista", "coupled", "step", "alista", "momentum-lista"}
    gamma : float
        Of momentum-lista before training.
    mode : {"exact", "stored"}
        Of momentum-lista: on the way back layers are undone to the last bit, with gammas that are held within 2^-10 and
        1 - 2^-10; or activations are stored, with any.
    ridge : float
        Of alista's matrix.
    dtype : torch.float32 or torch.float64
    """

    def __init__(self, D, layers, kind="lista", *, gamma=0.2, mode="exact", ridge=0.0, dtype=torch.float32):
        super().__init__()
        call = "LISTA"
        arguments.one_of(call, "kind", kind, networks.KINDS)
        arguments.one_of(call, "mode", mode, ("exact", "stored"))
        layers = arguments.integer(call, "layers", layers, 1, 100000)
        gamma = arguments.number(call, "gamma", gamma, least=_GAMMAS[0] if mode == "exact" else 0)
        if gamma > _GAMMAS[1]:
            raise refuse(ValueError, call, "gamma", f"{gamma:g}", f"a number of {_GAMMAS[0]:g} to {_GAMMAS[1]:g}")
        ridge = arguments.number(call, "ridge", ridge, least=0)
        dictionary = Dictionary._of(call, D, "cpu", None)
        core = _core.LearnedNetwork(dictionary._core, kind, layers, ridge, 0.0, 0.0, gamma)
        self._take(call, D, kind, core, mode, dtype)

    @classmethod
    def from_network(cls, network, D, dtype=torch.float32):
        """A trained network as a module.

        One of momentum-lista gets the mode "stored" where its gammas are not within the other's range.

        Parameters
        ----------
        network : shrinkwarp.networks.Network
        D : array of shape (n, m)
            Its dictionary.
        """
        call = "LISTA.from_network"
        if not isinstance(network, networks.Network):
            raise refuse(TypeError, call, "network", arguments.of_type(network), "a shrinkwarp.networks.Network")
        if network._core.selects:
            raise refuse(ValueError, call, "network", "support selection", "a network without it")
        mode = "exact"
        if network.kind == "momentum-lista":
            gamma = network.tensors["gamma"]
            mode = "exact" if _GAMMAS[0] <= gamma.min() and gamma.max() <= _GAMMAS[1] else "stored"
        module = cls.__new__(cls)
        torch.nn.Module.__init__(module)
        module._take(call, D, network.kind, network._core, mode, dtype)
        return module

    def _take(self, call, D, kind, core, mode, dtype):
        if dtype not in _DTYPES:
            raise refuse(ValueError if isinstance(dtype, torch.dtype) else TypeError, call, "dtype",
                         arguments.shown(dtype), "torch.float32 or torch.float64")
        D = np.asfortranarray(arguments.matrix(call, "D", D, "an array (n, m) of numbers"), dtype=np.float64)
        if D.shape != (core.rows, core.atoms):
            raise refuse(ValueError, call, "D", f"shape {D.shape}", f"{(core.rows, core.atoms)}")
        self.kind, self.layers, self.mode, self.ridge = kind, core.layers, mode, core.ridge
        self.shape = D.shape
        for name, value in core.tensors().items():
            setattr(self, name, torch.nn.Parameter(torch.from_numpy(value).to(dtype)))
        W = _core.analytic_weights(D, self.ridge) if kind == "alista" and core.analytic else D
        if kind in ("step", "alista", "coupled"):
            self.register_buffer("D", torch.from_numpy(np.ascontiguousarray(D)).to(dtype))
        if kind in ("step", "alista"):
            self.register_buffer("Wt", torch.from_numpy(np.ascontiguousarray(W.T)).to(dtype))

    def extra_repr(self):
        return f"'{self.kind}', layers={self.layers}, n={self.shape[0]}, m={self.shape[1]}"

    def forward(self, x, lam):
        """Codes (N, m) of observations x (N, n).

        Parameters
        ----------
        x : torch.Tensor of shape (N, n)
        lam : float or torch.Tensor of shape (N,)
            It has no gradient.
        """
        call = "LISTA.forward"
        _tensor(call, "x", x)
        if x.dim() != 2 or x.shape[1] != self.shape[0]:
            raise refuse(ValueError, call, "x", f"shape {tuple(x.shape)}", f"(N, {self.shape[0]})")
        dtype = next(self.parameters()).dtype
        if x.dtype != dtype:
            raise refuse(TypeError, call, "x", f"{x.dtype}", f"{dtype}, that of the parameters")
        _same_device(call, x, [*self.parameters(), *self.buffers()])
        if isinstance(lam, torch.Tensor):
            if lam.requires_grad:
                raise refuse(ValueError, call, "lam", "a tensor that requires its gradient", "one without")
            lam = lam.cpu().numpy()
        lams = arguments.on_host(call, "lam", lam, f"a number or ({x.shape[0]},)")
        if lams.shape not in ((), (x.shape[0],)) or not np.isfinite(lams).all() or (lams < 0).any():
            raise refuse(ValueError, call, "lam", arguments.shown(lam),
                         f"a finite number >= 0, or ({x.shape[0]},) of them")
        lams = np.ascontiguousarray(np.broadcast_to(lams, (x.shape[0],)), dtype=_DTYPES[dtype])
        W1, W2, thresholds = self._matrices()
        z = torch.zeros(x.shape[0], self.shape[1], dtype=dtype, device=x.device)
        if self.kind != "momentum-lista":
            return _Lista.apply(self, x, lams, z, W1, W2, thresholds, None)
        if self.mode == "exact":
            return _Lista.apply(self, x, lams, z, W1, W2, thresholds, self.gamma)
        v = z
        for t in range(self.layers):
            code = _Lista.apply(self, x, lams, z, W1[t:t + 1], W2[t:t + 1], thresholds[t:t + 1], None)
            v = self.gamma[t] * v + (1 - self.gamma[t]) * (code - z)
            z = z + v
        return z

    def _matrices(self):
        """W1 (T, m, m), W2 (T, m, n) and thresholds (T, m) of layers st(W1 z + W2 x, lambda theta)."""
        m = self.shape[1]
        if self.kind in ("lista", "momentum-lista"):
            return self.W1, self.W2, self.thresholds
        one = torch.eye(m, dtype=self.D.dtype, device=self.D.device)
        if self.kind == "coupled":
            W2 = self.W.transpose(1, 2)
            return one - W2 @ self.D, W2, self.thresholds
        steps = self.steps[:, None, None]
        factors = self.steps if self.kind == "step" else self.thresholds
        return one - steps * (self.Wt @ self.D), steps * self.Wt, factors[:, None].expand(-1, m)

    def to_network(self, D, lam_fraction):
        """The `shrinkwarp.networks.Network` of the parameters that the module has, for files and for solvers' starts.

        Parameters
        ----------
        D : array of shape (n, m), or shrinkwarp.Dictionary
        lam_fraction : float or (float, float)
            The fractions of lambda_max that it is for.
        """
        tensors = {name: value.detach().cpu().numpy() for name, value in self.named_parameters()}
        return networks.Network.from_tensors(self.kind, D, tensors, lam_fraction, ridge=self.ridge)

    def __getstate__(self):
        return {name: value for name, value in self.__dict__.items() if name != "_cores"}


# ---- Behind the modules ----------------------------------------------------------------------------------------------

_GAMMAS = (2.0**-10, 1 - 2.0**-10)


@functools.lru_cache(maxsize=None)
def _contexts(device):
    atexit.register(_contexts.cache_clear)
    return _core.Contexts(device, 0)


def _tensor(call, name, value):
    wanted = "a tensor of float32 or float64 on the CPU or on CUDA"
    if not isinstance(value, torch.Tensor):
        raise refuse(TypeError, call, name, arguments.of_type(value), wanted)
    if value.dtype not in _DTYPES:
        raise refuse(TypeError, call, name, f"{value.dtype}", wanted)
    if value.device.type not in ("cpu", "cuda") or value.layout != torch.strided:
        raise refuse(ValueError, call, name, f"{value.layout} on {value.device}", wanted)
    if value.device.type == "cuda" and _core.cuda_device_count() == 0:
        raise refuse(ValueError, call, name, f"it on {value.device} ({_core.cuda_unavailable_reason()})",
                     "a tensor on the CPU")
    return value


def _same_device(call, x, parameters):
    for parameter in parameters:
        if x.device != parameter.device:
            raise refuse(ValueError, call, "x", f"it on {x.device}",
                         f"it on {parameter.device}, where a parameter is, and all parameters on one device")


def _at(tensor):
    """Makes the device of a tensor PyTorch's current one, whose current stream the library is ordered behind."""
    return torch.cuda.device(tensor.device) if tensor.device.type == "cuda" else contextlib.nullcontext()


def _device(tensor):
    """As the library has its name."""
    return "cpu" if tensor.device.type == "cpu" else f"cuda:{tensor.device.index}"


def _array(tensor, dtype=None):
    """A tensor's memory, of NumPy or on CUDA of the library's; a copy where it is not contiguous or of another type."""
    return _arrays([tensor.detach().to(dtype or tensor.dtype)])[0]


def _arrays(tensors):
    """The same of tensors of one device; on CUDA there is one wait for all."""
    tensors = [tensor.detach().contiguous() for tensor in tensors]
    device = _device(tensors[0]) if tensors else "cpu"
    return [tensor.numpy() for tensor in tensors] if device == "cpu" else _lent(_contexts(device), tensors)


def _lent(contexts, tensors):
    return contexts.taken([arguments.as_it_is(tensor) for tensor in tensors], "a tensor")


def _tensor_of(array):
    """An array's memory as a tensor."""
    return torch.from_numpy(array) if isinstance(array, np.ndarray) else torch.from_dlpack(array)


def _cached(module, key, make):
    # Not in the module's state: what it holds is the library's.
    cores = module.__dict__.setdefault("_cores", {})
    if key not in cores:
        cores[key] = make()
    return cores[key]


class _Run:
    """The layers of a `MomentumNet` for one shape of x."""

    def __init__(self, net, x, function_args, differentiates):
        if x.dim() == 0:
            raise refuse(ValueError, "MomentumNet", "x", "shape ()", "samples along the first axis")
        self.net, self.shape = net, tuple(x.shape)
        self.features = int(np.prod(self.shape[1:]))
        self.shared = _Shared(x, function_args, differentiates)
        branches = [_Branch(self.shared, function) for function in net.functions]
        initial = _Branch(self.shared, net.init_function) if net.init_speed else None
        layers = momentum.layers_of(_DTYPES[x.dtype])
        self.core = layers.python_stage(_contexts(_device(x)), self.features, branches, initial, net._spec)
        gammas = net._fixed_gammas if net.gammas is None else net.gammas
        self.values = [_array(gammas, x.dtype)]

    def rows(self, x):
        return _array(x).reshape((self.shape[0], self.features))


class _Shared:
    """What the branches of a run share.

    They are not to hold the run: it holds the library's layers, and these hold them.
    """

    def __init__(self, x, function_args, differentiates):
        self.shape, self.differentiates = tuple(x.shape), differentiates
        self.cuda_devices = [x.device.index] if x.device.type == "cuda" else []
        # Leaves of their own, so that a way back ends at them.
        self.args = [value.detach().requires_grad_(value.requires_grad and differentiates)
                     if isinstance(value, torch.Tensor) else value for value in function_args]
        self.gradients = {}

    def add(self, tensor, gradient):
        key = id(tensor)
        self.gradients[key] = gradient if key not in self.gradients else self.gradients[key] + gradient


class _Branch:
    """One branch as the library calls it. What it is given is the library's memory."""

    def __init__(self, shared, function):
        self._shared, self._function = shared, function
        self._graph = self._random = None
        self._trains = any(module.training for module in function.modules())

    def forward(self, X, keeps, repeated):
        shared = self._shared
        x = _tensor_of(X).view(shared.shape).requires_grad_(shared.differentiates)
        with self._as_before() if repeated else self._remembered():
            # With a graph the first time too, although nobody needs it: PyTorch may take other kernels without. The
            # function gets a copy, which it may change, and which its hooks may hold for longer than the library's
            # memory is there.
            with torch.enable_grad() if shared.differentiates else torch.no_grad():
                y = self._function(x.clone(), *shared.args)
        if not isinstance(y, torch.Tensor) or y.shape != x.shape or y.dtype != x.dtype or y.device != x.device:
            found = arguments.of_type(y)
            if isinstance(y, torch.Tensor):
                found = f"{y.dtype} of shape {tuple(y.shape)} on {y.device}"
            raise refuse(ValueError, "MomentumNet", "functions", f"one that gives {found}",
                         f"{x.dtype} of shape {tuple(x.shape)} on {x.device}, as it takes")
        if keeps:
            self._graph = x, y
        return _array(y).reshape(X.shape)

    def backward(self, dY, wants_dX):
        (x, y), self._graph = self._graph, None
        shape = dY.shape
        if not y.requires_grad:
            return None
        leaves = [value for value in (*self._shared.args, *self._function.parameters())
                  if isinstance(value, torch.Tensor) and value.requires_grad]
        dY = _tensor_of(dY).view(y.shape).clone()  # a gradient may be this one itself
        gradients = torch.autograd.grad(y, [x, *leaves], dY, allow_unused=True)
        for leaf, gradient in zip(leaves, gradients[1:]):
            if gradient is not None:
                self._shared.add(leaf, gradient)
        if gradients[0] is None:
            if dY.device.type == "cuda":  # nothing that is lent has the library wait for what still reads its memory
                torch.cuda.current_stream(dY.device).synchronize()
            return None
        return _array(gradients[0]).reshape(shape)

    @contextlib.contextmanager
    def _remembered(self):
        if self._trains:
            devices = self._shared.cuda_devices
            self._random = torch.get_rng_state(), [torch.cuda.get_rng_state(index) for index in devices]
        yield

    @contextlib.contextmanager
    def _as_before(self):
        """The same random numbers, and running statistics stay."""
        if not self._trains:
            yield
            return
        own = [(module, dict(module._buffers)) for module in self._function.modules()
               if isinstance(module, torch.nn.modules.batchnorm._NormBase)]
        try:
            for module, buffers in own:
                for name, value in buffers.items():
                    module._buffers[name] = None if value is None else value.clone()
            state, of_devices = self._random
            with torch.random.fork_rng(devices=self._shared.cuda_devices):
                torch.set_rng_state(state)
                for index, its in zip(self._shared.cuda_devices, of_devices):
                    torch.cuda.set_rng_state(its, index)
                yield
        finally:
            for module, buffers in own:
                module._buffers.update(buffers)


class _Momentum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, net, function_args, count, x, gammas, *tensors):
        differentiates = any(ctx.needs_input_grad)
        with _at(x):
            run = _Run(net, x, function_args, differentiates)
            Y, kept, _ = run.core.forward(run.rows(x), run.values, [], differentiates, False, 0, 0)
            Y = _tensor_of(Y).view(x.shape)
        ctx.run, ctx.kept = run, kept
        ctx.args = [value for value in run.shared.args if isinstance(value, torch.Tensor)]
        ctx.parameters = tensors[count:]
        if net.init_speed:
            ctx.save_for_backward(x)
        return Y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, dY):
        run = ctx.run
        none = np.empty((0, run.features), _DTYPES[dY.dtype])
        X = none
        if run.net.init_speed:
            with _at(dY):
                X = run.rows(ctx.saved_tensors[0])
        run.shared.gradients = gathered = {}
        gamma = None
        with _at(dY):
            dX, of_tensors, _ = run.core.backward(ctx.kept, X, none, run.rows(dY), True, [])
            dX = _tensor_of(dX).view(run.shape)
            if run.net.gammas is not None:
                gamma = _tensor_of(of_tensors[0]).to(run.net.gammas)
        others = [gathered.get(id(value)) for value in (*ctx.args, *ctx.parameters)]
        run.shared.gradients = {}
        return (None, None, None, dX, gamma, *others)


def _net_core(net, dtype, device):
    return _cached(net, (dtype, device),
                   lambda: momentum.layers_of(_DTYPES[dtype]).net(_contexts(device), net._spec))


def _rows(x):
    return _array(x).reshape((x.shape[0], int(np.prod(x.shape[1:]))))


class _Whole(torch.autograd.Function):
    @staticmethod
    def forward(ctx, net, x, *tensors):
        dtype = tensors[0].dtype
        if x.dtype != dtype:
            raise refuse(TypeError, "Net.forward", "x", f"{x.dtype}", f"{dtype}, that of the parameters")
        core = _net_core(net, dtype, _device(x))
        keeps = any(ctx.needs_input_grad)
        seed = int(torch.randint(2**62, ())) if net.training and net._spec["dropout"] > 0 else 0
        with _at(x):
            Y, kept, statistics = core.forward(_rows(x), _arrays(tensors), [], keeps, net.training, seed, 0)
            for (_, _, learned), tensor, value in zip(net._entries, tensors, statistics):
                if not learned:
                    tensor.copy_(_tensor_of(value))
            result = _tensor_of(Y)
        ctx.core, ctx.kept = core, kept
        ctx.save_for_backward(x, result)
        return result

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, dY):
        x, result = ctx.saved_tensors
        with _at(x):
            dX, gradients, _ = ctx.core.backward(ctx.kept, _rows(x), _array(result), _array(dY),
                                                 ctx.needs_input_grad[1], [])
            dX = None if dX is None else _tensor_of(dX).view(x.shape)
            return (None, dX, *(None if value is None else _tensor_of(value) for value in gradients))


class _Lista(torch.autograd.Function):
    """Layers of LISTA from codes z; with momenta, which begin with v = 0."""

    @staticmethod
    def forward(ctx, module, x, lams, z, W1, W2, thresholds, gamma):
        (n, m), layers, dtype = module.shape, len(W1), _DTYPES[x.dtype]

        def make():
            spec = None
            if gamma is not None:
                spec = momentum.momentum_spec("LISTA", layers, 0.5, "exact", "damped", True, _GAMMAS, False, True)
            return momentum.layers_of(dtype).lista(_contexts(_device(x)), n, m, layers, spec)

        core = _cached(module, (x.dtype, _device(x), layers), make)
        keeps = any(ctx.needs_input_grad)
        with _at(x):
            tensors = [value[t] for t in range(layers) for value in (W1, W2, thresholds)]
            *values, z_array, x_array = _arrays([*tensors, *([] if gamma is None else [gamma]), z, x])
            Y, kept, _ = core.forward(z_array, values, [x_array, lams[:, None]], keeps, False, 0, 0)
            result = _tensor_of(Y)
        ctx.core, ctx.kept, ctx.has_gamma = core, kept, gamma is not None
        # x too, which the library holds: PyTorch says whether it has changed meanwhile.
        ctx.save_for_backward(x, *(() if ctx.has_gamma else (z, result)))
        return result

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, dY):
        none = np.empty((0, dY.shape[1]), _DTYPES[dY.dtype])
        with _at(dY):
            _, *others = ctx.saved_tensors
            z, result = (none, none) if ctx.has_gamma else (_array(value) for value in others)
            dz, gradients, sides = ctx.core.backward(ctx.kept, z, result, _array(dY), ctx.needs_input_grad[3],
                                                     [ctx.needs_input_grad[1], False])
            gradients = [_tensor_of(value) for value in gradients]
            gamma = gradients.pop() if ctx.has_gamma else None
            W1, W2, thresholds = (torch.stack(gradients[first::3]) for first in range(3))
            dz, dx = (None if value is None else _tensor_of(value) for value in (dz, sides[0]))
        return None, dx, None, dz, W1, W2, thresholds, gamma
