"""Networks of `shrinkwarp net train mlp`, which the experiments on momentum share: their files, and what a layer does, in NumPy.

A network is a dictionary of its tensors by name, in float64; a branch is f(x) = W2 tanh(W1 x + b1) + b2, a sample a row."""

import json
from pathlib import Path

import numpy as np

BRANCH = ("linear1.weight", "linear1.bias", "linear2.weight", "linear2.bias")


def describe(width, hidden, blocks, classes, gamma=None, plain=False, mode="exact", features=None):
    """The metadata of a network's file; one without gamma is residual."""
    text = {"format": "shrinkwarp-net-1", "architecture": "mlp", "input": f"{features or width},1,1", "classes": classes,
            "blocks": blocks, "width": width, "hidden": hidden, "activation": "tanh", "normalisation": "none", "dropout": 0,
            "initial_velocity": "no", "momentum": "no"}
    if gamma is not None:
        text |= {"momentum": "yes", "gamma": repr(float(gamma)), "form": "plain" if plain else "damped", "arithmetic": mode,
                 "gamma_learned": "no", "gamma_low": 0.5, "gamma_high": 1 - 1 / 1024}
    return {key: str(value) for key, value in text.items()}


def write(path, tensors, metadata):
    """A safetensors file of float32."""
    header, data = {"__metadata__": metadata}, b""
    for name, values in tensors.items():
        part = np.ascontiguousarray(values, "<f4").tobytes()
        header[name] = {"dtype": "F32", "shape": np.shape(values), "data_offsets": [len(data), len(data) + len(part)]}
        data += part
    text = json.dumps(header).encode()
    Path(path).write_bytes(len(text).to_bytes(8, "little") + text + data)
    return Path(path)


def branches(tensors):
    """(W1, b1, W2, b2) of each block."""
    count = sum(name.startswith("blocks.") and name.endswith(BRANCH[0]) for name in tensors)
    return [tuple(tensors[f"blocks.{t}.{part}"] for part in BRANCH) for t in range(count)]


def named(layers):
    """The tensors of blocks with these (W1, b1, W2, b2)."""
    return {f"blocks.{t}.{part}": values for t, layer in enumerate(layers) for part, values in zip(BRANCH, layer)}


def random_branches(random, width, hidden, blocks, scale=1.0):
    """Uniform as the program's own are, W2 and b2 times `scale`."""
    def drawn(bound, *shape):
        return random.uniform(-bound, bound, shape)

    return [(drawn(width**-0.5, hidden, width), drawn(width**-0.5, hidden),
             scale * drawn(hidden**-0.5, width, hidden), scale * drawn(hidden**-0.5, width)) for _ in range(blocks)]


def branch(layer, X):
    W1, b1, W2, b2 = layer
    return np.tanh(X @ W1.T + b1) @ W2.T + b2


def states(layers, X, gamma=None, plain=False):
    """x before the first layer, behind it, ..., behind the last: [layers + 1, N, width]."""
    V, found = np.zeros_like(X), [X]
    for layer in layers:
        f = branch(layer, X)
        V = f if gamma is None else gamma * V + (1 if plain else 1 - gamma) * f
        X = X + V
        found.append(X)
    return np.array(found)
