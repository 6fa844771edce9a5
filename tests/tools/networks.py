"""Networks' files and networks in NumPy: docs/networks.md once more, in float64 and without shortcuts."""

import json

import numpy as np

TYPES = {"F32": "<f4", "F64": "<f8", "I64": "<i8"}
KINDS = ("step", "alista", "coupled", "lista", "momentum-lista")
SCALAR = ("step", "alista")  # a layer learns a step and a threshold, in float64


def read(path):
    """Tensors and metadata of a safetensors file."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        tensors[name] = np.frombuffer(data[begin:end], TYPES[entry["dtype"]]).reshape(entry["shape"])
    return tensors, metadata


def write(path, tensors, metadata):
    """Without the hash of the tensors that the program writes."""
    metadata = {key: text for key, text in metadata.items() if key != "tensors_hash"}
    header, parts, offset = {"__metadata__": metadata}, [], 0
    for name, tensor in tensors.items():
        parts.append(np.ascontiguousarray(tensor).tobytes())
        dtype = next(key for key, value in TYPES.items() if np.dtype(value) == tensor.dtype)
        header[name] = {"dtype": dtype, "shape": tensor.shape, "data_offsets": [offset, offset + len(parts[-1])]}
        offset += len(parts[-1])
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(parts))


def matrix_of(metadata, D):
    """W of step and alista."""
    if metadata.get("matrix") != "analytic":
        return D
    added = float(metadata["ridge"]) * np.linalg.norm(D, 2) ** 2
    W = np.linalg.pinv(D @ D.T + added * np.eye(len(D)), hermitian=True) @ D
    return W / (W * D).sum(0)


def shrink(U, thresholds, kept=0):
    """The soft-threshold by row, but the `kept` largest entries over it pass as they are."""
    shrunk = np.sign(U) * np.maximum(np.abs(U) - thresholds, 0)
    if kept == 0:
        return shrunk
    least = np.sort(np.abs(U), axis=1)[:, -kept][:, None]
    return np.where((np.abs(U) >= least) & (np.abs(U) > thresholds), U, shrunk)


class Forward:
    """Codes Z (N, m) of the rows of X, what float32 may be off in each entry (float64's error is under 1e-12 of the
    largest), and how close the closest entry of each row came to its threshold in any layer."""

    def __init__(self, tensors, metadata, D, X, lam):
        kind, layers = metadata["network"], int(metadata["layers"])
        tensors = {name: tensor.astype(np.float64) for name, tensor in tensors.items()}
        n, m = D.shape
        eps = (n + m + 8) * 2.0**-23  # of a sum of that many terms, its inputs rounded
        lam = lam[:, None]
        Z = np.zeros((len(X), m))
        V, E, E_V = Z.copy(), Z.copy(), Z.copy()
        self.margin = np.full(len(X), np.inf)
        W = matrix_of(metadata, D)
        for t in range(layers):
            if kind in SCALAR:
                factor = tensors["thresholds" if kind == "alista" else "steps"][t]
                percent = min(float(metadata.get("selected_percent_a_layer", 0)) * (t + 1),
                              float(metadata.get("selected_percent", 0)))
                U = Z + tensors["steps"][t] * (X - Z @ D.T) @ W
                kept = int(np.floor(m * percent / 100))
            elif kind == "coupled":
                factor, kept, Wt = tensors["thresholds"][t], 0, tensors["W"][t]
                U = Z + (X - Z @ D.T) @ Wt
                E = E + E @ np.abs(D.T) @ np.abs(Wt)
                E += eps * (np.abs(Z) + (np.abs(X) + np.abs(Z) @ np.abs(D.T)) @ np.abs(Wt))
            else:
                factor, kept = tensors["thresholds"][t], 0
                W1, W2 = tensors["W1"][t].T, tensors["W2"][t].T
                U = Z @ W1 + X @ W2
                E_S = E @ np.abs(W1) + eps * (np.abs(Z) @ np.abs(W1) + np.abs(X) @ np.abs(W2))
            threshold = lam * np.maximum(factor, 0) + np.zeros_like(U)
            self.margin = np.minimum(self.margin, np.abs(np.abs(U) - threshold).min(1))
            S = shrink(U, threshold, kept)
            if kind == "momentum-lista":
                gamma = tensors["gamma"][t]
                E_S += eps * threshold
                E_V = abs(gamma) * E_V + abs(1 - gamma) * (E_S + E) + eps * (np.abs(V) + np.abs(S) + np.abs(Z))
                V = gamma * V + (1 - gamma) * (S - Z)
                Z = Z + V
                E = E + E_V + eps * (np.abs(Z) + np.abs(V))
            else:
                if kind == "lista":
                    E = E_S
                E = E + eps * threshold
                Z = S
        self.Z = Z
        self.bound = 1e-12 * np.abs(Z).max() if kind in SCALAR else E


def costs(D, X, Z, lam):
    """F of each row."""
    R = X - Z @ D.T
    return (R * R).sum(1) / 2 + lam * np.abs(Z).sum(1)


def ista(D, X, lam, step, iterations, accelerated=False):
    """The codes of ISTA or FISTA from 0."""
    Z = np.zeros((len(X), D.shape[1]))
    Y, t = Z, 1.0
    for _ in range(iterations):
        before = Z
        Z = shrink(Y + step * (X - Y @ D.T) @ D, step * lam[:, None])
        t, last = (1 + np.sqrt(1 + 4 * t * t)) / 2, t
        Y = Z + (last - 1) / t * (Z - before) if accelerated else Z
    return Z


def optimum(D, X, lam):
    """Codes of a long FISTA that starts its momentum afresh row by row where it leads uphill."""
    step = 1 / np.linalg.norm(D, 2) ** 2
    Z = np.zeros((len(X), D.shape[1]))
    Y, t = Z, np.ones(len(X))
    for _ in range(4000):
        before = Z
        Z = shrink(Y + step * (X - Y @ D.T) @ D, step * lam[:, None])
        t = np.where(((Y - Z) * (Z - before)).sum(1) > 0, 1, t)
        t, last = (1 + np.sqrt(1 + 4 * t * t)) / 2, t
        Y = Z + ((last - 1) / t)[:, None] * (Z - before)
    return Z
