"""Modules for PyTorch: gradients, ways back, torchvision's ResNets beside torchvision and momentumnet."""

import copy
import gc
import pickle
import weakref

import numpy as np
import pytest

torch = pytest.importorskip("torch")
import shrinkwarp  # noqa: E402
import shrinkwarp.torch as modules  # noqa: E402
from at_once import at_once  # noqa: E402
from shrinkwarp import momentum, networks  # noqa: E402


def perceptron(d=5, hidden=7, dtype=torch.float64):
    return torch.nn.Sequential(torch.nn.Linear(d, hidden), torch.nn.Tanh(), torch.nn.Linear(hidden, d)).to(dtype)


def gradients(module, x, *args):
    module.zero_grad()
    x = x.clone().requires_grad_()
    y = module(x, *args)
    torch.sin(y).sum().backward()
    return y.detach(), x.grad, {name: value.grad for name, value in module.named_parameters()}


def relative(found, wanted):
    return ((found - wanted).norm() / wanted.norm()).item()


# ---- MomentumNet -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["exact", "approximate"])
@pytest.mark.parametrize("is_residual", [True, False])
def test_gradients_by_differences(mode, is_residual):
    torch.manual_seed(0)
    shared = perceptron()
    net = modules.MomentumNet([shared, perceptron(), shared], 0.75, init_speed=True, init_function=perceptron(),
                              mode=mode, is_residual=is_residual)
    x = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    parameters = list(net.parameters())

    def call(x, *parameters):
        return net(x)

    assert torch.autograd.gradcheck(call, (x, *parameters))


def test_gradients_by_learned_momenta():
    torch.manual_seed(0)
    net = modules.MomentumNet([perceptron() for _ in range(4)], 0.75, mode="approximate", learn_gamma=True).double()
    x = torch.randn(3, 5, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda gammas: net(x), (net.gammas,))


class WithArgument(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(0.3 * torch.randn(5, 5, dtype=torch.float64))

    def forward(self, x, context, scale):
        return torch.tanh(x @ self.weight + context) * scale


def test_further_arguments_have_their_gradients():
    torch.manual_seed(0)
    net = modules.MomentumNet([WithArgument() for _ in range(3)], 0.8)
    x, context = (torch.randn(3, 5, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(lambda x, context: net(x, context, 2.0), (x, context))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_agrees_with_backpropagation(dtype):
    torch.manual_seed(1)
    functions = [perceptron(dtype=dtype) for _ in range(30)]
    x = torch.randn(4, 6, 5, dtype=dtype)
    found = gradients(modules.MomentumNet(functions, 0.9), x)
    wanted = gradients(modules.MomentumNet(functions, 0.9, use_backprop=True), x)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-11
    assert relative(found[0], wanted[0]) < tolerance and relative(found[1], wanted[1]) < tolerance
    assert all(relative(found[2][name], wanted[2][name]) < tolerance for name in wanted[2])


def test_dropout_and_batch_normalisation_are_the_same_twice():
    def net(use_backprop):
        torch.manual_seed(2)
        functions = [torch.nn.Sequential(torch.nn.BatchNorm1d(5), torch.nn.Dropout(0.4),
                                         perceptron(dtype=torch.float32)) for _ in range(5)]
        return modules.MomentumNet(functions, 0.9, use_backprop=use_backprop)

    x = torch.randn(16, 5)
    results = []
    for use_backprop in (False, True):
        module = net(use_backprop)
        torch.manual_seed(3)
        results.append((*gradients(module, x), module.state_dict(), torch.rand(1)))
    found, wanted = results
    assert relative(found[1], wanted[1]) < 1e-5
    assert all(relative(found[2][name], wanted[2][name]) < 1e-5 for name in wanted[2])
    for name, value in wanted[3].items():
        assert torch.allclose(found[3][name].double(), value.double(), rtol=1e-5, atol=1e-6), name
    assert found[4] == wanted[4]  # random numbers go on where they did


def test_inverse_has_every_bit():
    torch.manual_seed(4)
    net = modules.MomentumNet([perceptron(dtype=torch.float32) for _ in range(100)], 0.9)
    x = torch.randn(6, 5)
    state = net.advance(x)
    assert torch.equal(state.x, net(x).detach())
    start = net.inverse(state)
    assert torch.equal(start.x, x) and torch.equal(start.v, torch.zeros_like(x))
    assert torch.equal(start.fixed[0], (x.double() * 2.0**44).round().long())
    assert state.buffer_bytes > 0
    approximate = modules.MomentumNet(net.functions, 0.9, mode="approximate")
    back = approximate.inverse(approximate.advance(x)).x
    assert not torch.equal(back, x)


def test_no_activations_are_stored():
    def held(layers):
        function = torch.nn.Linear(64, 64)
        y = modules.MomentumNet([function] * layers, 0.9)(torch.randn(100, 64))
        assert not y.grad_fn.saved_tensors
        return y.grad_fn.kept.bytes

    assert held(60) - held(10) < 50 * 100 * 64 * 0.2 / 8 + 4096 * 50 / 100  # log2(1 / 0.9) bits an element and layer


def test_branches_that_change_their_mind_are_an_error():
    class Fickle(torch.nn.Module):
        calls = 0

        def forward(self, x):
            Fickle.calls += 1
            return x * Fickle.calls

    x = torch.randn(3, 5, requires_grad=True)
    y = modules.MomentumNet([Fickle(), Fickle()], 0.9)(x)
    with pytest.raises(RuntimeError, match="backward: .*wanted"):
        y.sum().backward()


def test_errors_of_branches_come_through():
    class Failing(torch.nn.Module):
        def forward(self, x):
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        modules.MomentumNet([Failing()], 0.9)(torch.randn(3, 5))
    with pytest.raises(ValueError, match="functions: found"):
        modules.MomentumNet([torch.nn.Linear(5, 4)], 0.9)(torch.randn(3, 5))
    with pytest.raises(RuntimeError, match="layer 1"):
        modules.MomentumNet([torch.nn.Linear(5, 5)], 0.9)(torch.full((3, 5), 1e7))


def test_nothing_is_left_behind():
    function = torch.nn.Linear(5, 5)
    net = modules.MomentumNet([function] * 3, 0.9)
    x = torch.randn(4, 5, requires_grad=True)
    y = net(x)
    run = weakref.ref(y.grad_fn.run)
    y.sum().backward()
    state = weakref.ref(net.advance(x))
    del y
    gc.collect()
    assert run() is None and state() is None


def test_modules_are_copied_and_pickled():
    torch.manual_seed(5)
    D = np.random.default_rng(0).standard_normal((4, 9))
    for module, args in [(modules.MomentumNet([perceptron(dtype=torch.float32)] * 3, 0.9), (torch.randn(2, 5),)),
                         (modules.LISTA(D, 3), (torch.randn(2, 4), 0.1)),
                         (modules.Net(momentum.Net.mlp(5, 2, device="cpu")), (torch.randn(2, 5),))]:
        wanted = module(*args)
        for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
            assert torch.equal(other(*args), wanted)


def test_tensors_are_not_copied():
    x = torch.randn(3, 5)
    assert modules._array(x).ctypes.data == x.data_ptr()


def test_hooks_may_hold_what_branches_get():
    held, values = [], []

    def hold(module, inputs, output):
        held.append(inputs[0])
        values.append(inputs[0].detach().clone())

    branch = perceptron(dtype=torch.float32)
    branch.register_forward_hook(hold)
    modules.MomentumNet([branch] * 3, 0.9)(torch.randn(100, 5, requires_grad=True)).sum().backward()
    gc.collect()
    others = [torch.full((100, 5), 7.0) for _ in range(1000)]  # in the memory that is free now
    assert len(held) == 6 and len(others) == 1000
    assert all(torch.equal(found, wanted) for found, wanted in zip(held, values))


@pytest.mark.parametrize("requires_grad", [True, False])
def test_branches_may_change_what_they_get(requires_grad):
    torch.manual_seed(11)
    linear = torch.nn.Linear(5, 5)
    x = torch.randn(3, 5, requires_grad=requires_grad)
    found, wanted = (modules.MomentumNet([torch.nn.Sequential(torch.nn.ReLU(inplace), linear)] * 3, 0.9)(x)
                     for inplace in (True, False))
    assert torch.equal(found, wanted)
    found.sum().backward()


def test_threads_share_a_module():
    torch.manual_seed(6)
    net = modules.MomentumNet([perceptron(dtype=torch.float32) for _ in range(10)], 0.9)
    x = torch.randn(8, 5)

    def gradient():
        its = x.clone().requires_grad_()
        return torch.autograd.grad(net(its).sum(), its)[0]

    wanted = gradient()
    assert all(torch.equal(value, wanted) for value in at_once(gradient))


# ---- torchvision's ResNets -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def resnet():
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(7)
    return models.resnet18(num_classes=10).eval()


@pytest.fixture(scope="module")
def images():
    return torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(8))


def plain(name):
    """torchvision's name of a parameter of any of the transformed networks."""
    parts = name.replace(".network.", ".").split(".")
    if parts[0].startswith("layer") and parts[1:3] == ["1", "0"] and parts[3].isdigit():
        parts[1:4] = [str(int(parts[3]) + 1)]
    return ".".join(parts)


def named_gradients(module, images):
    module.zero_grad()
    torch.sin(module(images)).sum().backward()
    return {plain(name): value.grad for name, value in module.named_parameters()}


def test_whole_net_agrees_with_torchvision(resnet, images):
    net = modules.Net.from_torchvision(resnet, images.shape[1:]).eval()
    logits = resnet(images)
    assert relative(net(images), logits) < 1e-4
    assert set(net.state_dict()) == {name for name in resnet.state_dict() if not name.endswith("num_batches_tracked")}
    found, wanted = named_gradients(net, images), named_gradients(resnet, images)
    assert all(relative(found[name], wanted[name]) < 1e-4 for name in wanted)


def test_training_updates_running_statistics(resnet, images):
    net, other = modules.Net.from_torchvision(resnet, images.shape[1:]).train(), copy.deepcopy(resnet).train()
    found, wanted = named_gradients(net, images), named_gradients(other, images)
    assert all(relative(found[name], wanted[name]) < 1e-3 for name in wanted)
    state, its = net.state_dict(), other.state_dict()
    assert all(torch.allclose(state[name], its[name], rtol=1e-4, atol=1e-5) for name in state if "running" in name)


@pytest.mark.parametrize("training", [False, True])
def test_transformed_agrees_with_momentumnet(resnet, images, training):
    momentumnet = pytest.importorskip("momentumnet")
    wanted = momentumnet.transform_to_momentumnet(resnet, gamma=0.9, use_backprop=True).train(training)
    net = modules.transform_to_momentumnet(resnet, gamma=0.9).train(training)
    whole = modules.Net.from_torchvision(resnet, images.shape[1:], 0.9).train(training)
    assert set(net.state_dict()) == set(wanted.state_dict())
    logits = copy.deepcopy(wanted)(images)
    assert relative(copy.deepcopy(net)(images), logits) < 1e-4
    assert relative(copy.deepcopy(whole)(images), logits) < 1e-4
    expected = named_gradients(wanted, images)
    for module in (net, whole):
        found = named_gradients(module, images)
        assert set(found) == set(expected)
        assert all(relative(found[name], expected[name]) < 1e-3 for name in expected)
    if training:
        state, its = net.state_dict(), wanted.state_dict()
        assert all(torch.allclose(state[name], its[name], rtol=1e-4, atol=1e-5) for name in state if "running" in name)
        assert all(torch.equal(state[name], its[name]) for name in state if "tracked" in name)


def test_transformed_layers_come_back(resnet, images):
    net = modules.transform_to_momentumnet(resnet, gamma=0.9)
    stages = [module for module in net.modules() if isinstance(module, modules.MomentumNet)]
    assert len(stages) == 4
    inputs = []
    hooks = [stage.register_forward_pre_hook(lambda module, args: inputs.append(args[0].detach())) for stage in stages]
    net(images)
    for hook in hooks:
        hook.remove()
    for stage, x in zip(stages, inputs):
        start = stage.inverse(stage.advance(x))
        assert torch.equal(start.fixed[0], (x.double() * 2.0**44).round().long())
        assert (start.x - x).abs().max() <= 2.0**-45


def test_transform_takes_other_models():
    torch.manual_seed(9)
    layer = torch.nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
    model = torch.nn.Module()
    model.encoder = torch.nn.TransformerEncoder(layer, 3)
    net = modules.transform_to_momentumnet(model, ["encoder.layers"], keep_first_layer=False, gamma=0.8)
    stage = net.encoder.layers[0]
    reference = modules.MomentumNet(stage.functions, 0.8, use_backprop=True, is_residual=False)
    x = torch.randn(2, 5, 8)
    torch.manual_seed(10)
    found = gradients(stage, x)
    torch.manual_seed(10)
    wanted = gradients(reference, x)
    assert relative(found[0], wanted[0]) < 1e-5 and relative(found[1], wanted[1]) < 1e-4


def test_net_goes_to_files(resnet, images, tmp_path):
    net = modules.Net.from_torchvision(resnet, images.shape[1:], 0.9, mode="approximate").eval()
    net.to_net().save(tmp_path / "net.safetensors")
    again = modules.Net(momentum.Net.load(tmp_path / "net.safetensors", device="cpu")).eval()
    assert torch.equal(again(images), net(images))
    assert net.activation_bytes(4) > net.activation_bytes(4, training=False)


def test_net_learns():
    torch.manual_seed(11)
    x = torch.randn(200, 2)
    labels = (x[:, 0] * x[:, 1] > 0).long()
    net = modules.Net(momentum.Net.mlp(2, 2, 5, 16, 16, gamma=0.9, dropout=0.1, learn_gamma=True, device="cpu"))
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(x), labels).backward()
        optimizer.step()
    assert (net.eval()(x).argmax(dim=1) == labels).float().mean() > 0.9
    assert not torch.allclose(net.momentum.gamma, torch.tensor(0.9))


# ---- LISTA -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(12)
    D = rng.standard_normal((6, 14))
    D /= np.linalg.norm(D, axis=0)
    return D, (rng.standard_normal((60, 14)) * (rng.random((60, 14)) < 0.2)) @ D.T + 0.01 * rng.standard_normal((60, 6))


@pytest.mark.parametrize("kind, mode", [*((kind, "exact") for kind in networks.KINDS), ("momentum-lista", "stored")])
def test_lista_gradients_by_differences(problem, kind, mode):
    D, X = problem
    module = modules.LISTA(D, 3, kind, mode=mode, dtype=torch.float64)
    x = torch.from_numpy(X[:4]).requires_grad_()
    parameters = [value for name, value in module.named_parameters() if name != "gamma" or mode == "stored"]
    assert torch.autograd.gradcheck(lambda x, *parameters: module(x, 0.05), (x, *parameters), atol=1e-6)


def test_both_modes_of_momentum_lista_agree(problem):
    D, X = problem
    x = torch.from_numpy(X)
    exact, stored = (modules.LISTA(D, 8, "momentum-lista", mode=mode, gamma=0.25, dtype=torch.float64)
                     for mode in ("exact", "stored"))
    found, wanted = gradients(exact, x, 0.05), gradients(stored, x, 0.05)
    assert relative(found[0], wanted[0]) < 1e-11 and relative(found[1], wanted[1]) < 1e-11
    assert all(relative(found[2][name], wanted[2][name]) < 1e-10 for name in wanted[2])


@pytest.mark.parametrize("kind", networks.KINDS)
def test_lista_is_the_network(problem, kind):
    D, X = problem
    network = networks.train(kind, D, X, 4, 0.2, epochs=100)
    module = modules.LISTA.from_network(network, D, torch.float64)
    lam = 0.2 * np.abs(X @ D).max(axis=1)
    codes = module(torch.from_numpy(X), torch.from_numpy(lam)).detach().numpy()
    wanted = network.apply(X, lam).toarray()
    assert np.abs(codes - wanted).max() < 1e-5 * np.abs(wanted).max()
    if not network.fell_back:
        back = module.to_network(D, 0.2)
        assert np.abs(back.apply(X, lam) - wanted).max() < 1e-5 * np.abs(wanted).max()


def test_lista_learns(problem):
    D, X = problem
    module = modules.LISTA(D, 5, "coupled")
    x, wanted = torch.from_numpy(X).float(), torch.from_numpy(shrinkwarp.lasso(D, X, 0.05).codes.toarray()).float()
    optimizer = torch.optim.Adam(module.parameters(), 1e-2)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = (module(x, 0.05) - wanted).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


# ---- Arguments -------------------------------------------------------------------------------------------------------


def test_bad_arguments(problem):
    D, X = problem
    function, x = torch.nn.Linear(5, 5), torch.randn(3, 5)
    lista, net = modules.LISTA(D, 2), modules.MomentumNet([function])
    whole = modules.Net(momentum.Net.mlp(5, 2, device="cpu"))
    for call, match in [
        (lambda: modules.MomentumNet([]), "functions: found"),
        (lambda: modules.MomentumNet([function], 0), "gamma: found"),
        (lambda: modules.MomentumNet([function], [0.5, 0.6]), "gamma: found"),
        (lambda: modules.MomentumNet([function], mode="quick"), "mode: found"),
        (lambda: modules.MomentumNet([function], init_speed=True), "init_function: found"),
        (lambda: modules.MomentumNet([function], use_backprop=True, learn_gamma=True), "learn_gamma: found"),
        (lambda: net(torch.tensor(1.0)), "x: found"),
        (lambda: net(x.to_sparse()), "x: found"),
        (lambda: modules.transform_to_momentumnet(whole, ["layer9"]), "sub_layers: found"),
        (lambda: modules.Net.from_torchvision(whole), "model: found"),
        (lambda: whole(torch.randn(3, 4)), "x: found"),
        (lambda: modules.LISTA(D, 0), "layers: found"),
        (lambda: modules.LISTA(D, 2, "resnet"), "kind: found"),
        (lambda: modules.LISTA(D, 2, gamma=0.9999), "gamma: found"),
        (lambda: modules.LISTA(D, 2, mode="approximate"), "mode: found"),
        (lambda: modules.LISTA(D, 2, dtype=torch.float16), "dtype: found"),
        (lambda: lista(torch.randn(3, 5), 0.1), "x: found"),
        (lambda: lista(torch.randn(3, 6), -0.1), "lam: found"),
        (lambda: lista(torch.randn(3, 6), torch.ones(2)), "lam: found"),
        (lambda: lista(torch.randn(3, 6), torch.ones(3, requires_grad=True)), "lam: found"),
    ]:
        with pytest.raises(ValueError, match=match + ".*wanted"):
            call()
    for call, match in [
        (lambda: modules.MomentumNet([3]), "functions: found"),
        (lambda: net(X), "x: found"),
        (lambda: net(x.half()), "x: found"),
        (lambda: net.inverse(3), "state: found"),
        (lambda: modules.transform_to_momentumnet(3), "model: found"),
        (lambda: modules.transform_to_momentumnet(whole, "layer1"), "sub_layers: found"),
        (lambda: modules.Net(3), "net: found"),
        (lambda: whole(torch.randn(3, 5, dtype=torch.float64)), "x: found"),
        (lambda: modules.LISTA.from_network(3, D), "network: found"),
        (lambda: lista(torch.randn(3, 6, dtype=torch.float64), 0.1), "x: found"),
    ]:
        with pytest.raises(TypeError, match=match + ".*wanted"):
            call()


@pytest.mark.parametrize("kind", networks.KINDS)
@pytest.mark.parametrize("mode", ["exact", "stored"])
def test_observations_that_change_before_the_way_back_are_noticed(kind, mode):
    solver = modules.LISTA(np.random.default_rng(0).standard_normal((5, 9)), 3, kind, mode=mode)
    x = torch.randn(4, 5)
    loss = solver(x, 0.5).square().sum()
    x.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("learned, value", [(False, 0.5), (False, np.nan), (True, np.nan)])
def test_gammas_of_networks_are_looked_at(learned, value):
    net = modules.Net(momentum.Net.mlp(5, 3, gamma=0.9, learn_gamma=learned))
    (name, gamma), = ((name, its) for name, its in net.state_dict(keep_vars=True).items() if name.endswith(".gamma"))
    net(torch.zeros(2, 5))
    with torch.no_grad():
        gamma.fill_(value)
    with pytest.raises(ValueError, match=f"Net.forward: {name}: found"):
        net(torch.zeros(2, 5))


def test_images_of_another_shape_are_refused():
    net = modules.Net(momentum.Net.resnet("resnet18", 3, (3, 32, 16)))
    for shape in ((2, 32, 16, 3), (2, 3, 16, 32), (3, 32, 16), (2, 5), (3 * 32 * 16,)):
        with pytest.raises(ValueError, match=r"x: found shape \(.*\), wanted samples \(N, 1536\) or \(N, 3, 32, 16\)"):
            net(torch.zeros(shape))


def test_there_is_no_way_back_from_a_beginning():
    net = modules.MomentumNet([perceptron() for _ in range(3)], 0.8)
    start = net.inverse(net.advance(torch.randn(4, 5, dtype=torch.float64)))
    with pytest.raises(ValueError, match="state: found what inverse gave, wanted a state of its advance"):
        net.inverse(start)
