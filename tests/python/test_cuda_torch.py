"""Modules for PyTorch on CUDA, without a GPU: what the library does there, with PyTorch's part on the host.

The package is the module over the host executor. PyTorch has no such device, so its tensors stay on the host, and the
three functions in which `shrinkwarp.torch` meets the device are replaced by ones that bring them there and back.
"""

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch")
import shrinkwarp.torch  # noqa: E402
import simt_package  # noqa: E402,F401
from cuda_arrays import CudaArray, Device  # noqa: E402

import shrinkwarp_on_simt.torch as modules  # noqa: E402
from shrinkwarp_on_simt import _core, momentum  # noqa: E402

DEVICE = Device(_core)


@pytest.fixture(autouse=True)
def on_device(monkeypatch):
    """Gives the arrays that were lent."""
    lent = []

    def lend(contexts, tensors):
        theirs = [CudaArray(DEVICE, tensor.numpy()) for tensor in tensors]
        lent.extend(theirs)
        arrays = contexts.taken(theirs, "a tensor")
        assert all(isinstance(array, _core.CudaArray) for array in arrays)
        return arrays

    def tensor_of(array):
        return torch.from_numpy(array if isinstance(array, np.ndarray) else array.numpy())

    monkeypatch.setattr(modules, "_device", lambda tensor: "cuda:0")
    monkeypatch.setattr(modules, "_lent", lend)
    monkeypatch.setattr(modules, "_tensor_of", tensor_of)
    return lent


def results(module, *inputs):
    """The output, gradients by the inputs and by the parameters, and what training has changed."""
    module.zero_grad()
    inputs = [value.clone().requires_grad_() for value in inputs]
    y = module(*inputs)
    torch.sin(y).sum().backward()
    return [y.detach(), *(value.grad for value in inputs), *(value.grad for value in module.parameters()),
            *module.buffers()]


def agree(found, wanted, tolerance=1e-4):
    assert len(found) == len(wanted) > 1
    for its, theirs in zip(found, wanted):
        if theirs is None:
            assert its is None
            continue
        assert its.shape == theirs.shape and its.dtype == theirs.dtype
        assert torch.allclose(its.double(), theirs.double(), rtol=tolerance, atol=tolerance)


def branches(count, **options):
    torch.manual_seed(0)
    return [torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.BatchNorm1d(8), torch.nn.Tanh(), torch.nn.Dropout(0.3),
                                torch.nn.Linear(8, 5)) for _ in range(count)]


X = torch.randn(6, 5, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("options", [dict(mode="exact"), dict(mode="approximate"), dict(mode="exact", learn_gamma=True),
                                     dict(mode="exact", is_residual=False), dict(use_backprop=True)],
                         ids=["exact", "approximate", "learned gamma", "whole", "backpropagated"])
def test_branches_of_pytorch(options, on_device):
    functions = branches(4)
    found, wanted = (its.MomentumNet(copy.deepcopy(functions), 0.8, **options) for its in (modules, shrinkwarp.torch))
    collected = []
    for module in (found, wanted):
        torch.manual_seed(3)  # for dropout
        collected.append(results(module, X))
    agree(*collected)
    assert bool(on_device) != options.get("use_backprop", False)


def test_a_state_and_its_way_back():
    functions, first = branches(4), branches(1)[0]
    net, on_cpu = (its.MomentumNet(functions, 0.8, init_speed=True, init_function=first).eval()
                   for its in (modules, shrinkwarp.torch))
    state, theirs = net.advance(X), on_cpu.advance(X)
    start = net.inverse(state)
    assert torch.equal(start.x, X) and start.fixed[0].dtype == torch.int64
    agree([state.x, state.v], [theirs.x, theirs.v])


class WithContext(torch.nn.Module):
    def __init__(self, reads_x):
        super().__init__()
        self.linear, self.reads_x = torch.nn.Linear(5, 5), reads_x

    def forward(self, x, context):
        return torch.tanh(self.linear(context) + self.linear(x) if self.reads_x else self.linear(context))


@pytest.mark.parametrize("reads_x", [True, False])
@pytest.mark.parametrize("init_speed", [True, False])
def test_branches_with_arguments(reads_x, init_speed):
    torch.manual_seed(0)
    functions, context = [WithContext(reads_x) for _ in range(4)], torch.randn(6, 5)
    first = functions.pop() if init_speed else None
    agree(*(results(its.MomentumNet(copy.deepcopy(functions), 0.8, init_speed=init_speed,
                                    init_function=copy.deepcopy(first)), X, context)
            for its in (modules, shrinkwarp.torch)))


def test_parameters_elsewhere_are_refused():
    wanted = "x: found it on cpu, wanted it on meta, where a parameter is, and all parameters on one device"
    with pytest.raises(ValueError, match="Net.forward: " + wanted):
        modules.Net(momentum.Net.mlp(5, 3, device="cpu")).to("meta")(X)
    with pytest.raises(ValueError, match="LISTA.forward: " + wanted):
        modules.LISTA(np.eye(5), 2).to("meta")(X, 0.1)
    with pytest.raises(ValueError, match="MomentumNet.forward: " + wanted):
        modules.MomentumNet([torch.nn.Identity()], 0.8, learn_gamma=True).to("meta")(X)
    with pytest.raises(ValueError, match="x: found torch.strided on meta, wanted a tensor of float32 or float64 on"):
        modules.MomentumNet([torch.nn.Identity()], 0.8)(X.to("meta"))


def test_a_branch_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"functions: found one that gives torch.float32 of shape \(6, 4\) on cpu, "):
        modules.MomentumNet([torch.nn.Linear(5, 4)], 0.8)(X)


@pytest.mark.parametrize("kind, mode", [*((kind, "exact") for kind in shrinkwarp.networks.KINDS),
                                        ("momentum-lista", "stored")])
def test_lista(kind, mode):
    random = np.random.default_rng(0)
    D = random.standard_normal((5, 9))
    lam = torch.from_numpy(random.uniform(0.1, 0.5, 6))
    found, wanted = (its.LISTA(D, 3, kind, mode=mode, dtype=torch.float64) for its in (modules, shrinkwarp.torch))
    agree(*(results(lambda_of(module, lam), X.double()) for module in (found, wanted)), 1e-9)


def lambda_of(module, lam):
    class Its(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.module = module

        def forward(self, x):
            return self.module(x, lam)

    return Its()


@pytest.mark.parametrize("training", [True, False])
def test_whole_networks(training):
    made = dict(normalisation="batch", gamma=0.9, seed=2, device="cpu")
    found, wanted = (its.Net(package.Net.mlp(5, 3, **made)).train(training)
                     for its, package in ((modules, momentum), (shrinkwarp.torch, shrinkwarp.momentum)))
    before = copy.deepcopy(found.state_dict())
    agree(*(results(module, X) for module in (found, wanted)))
    assert training == any(not torch.equal(value, before[name]) for name, value in found.named_buffers())


def test_images():
    torch.manual_seed(0)
    images = torch.randn(2, 3, 8, 8)
    made = dict(input=(3, 8, 8), gamma=0.9, seed=2, device="cpu")
    agree(*(results(its.Net(package.Net.resnet("resnet18", 3, **made)).eval(), images)
            for its, package in ((modules, momentum), (shrinkwarp.torch, shrinkwarp.momentum))), 1e-2)


def test_what_was_lent_comes_back(on_device):
    results(modules.MomentumNet(branches(3), 0.8), X)
    results(modules.Net(momentum.Net.mlp(5, 3, device="cpu")), X)
    assert on_device and all(loan.returned == 1 for array in on_device for loan in array.loans)
