"""One FISTA iteration in PyTorch, as a peer of `shrinkwarp bench iteration`: same shapes, float32, no TF32.

    python3 tools/bench/torch_fista.py [--rows 306] [--atoms 6138] [--problems 256,1024,4096] [--device cuda]

Prints one JSON object a number of problems: seconds of an iteration run eagerly and, where torch.compile works, compiled.
"""

import argparse
import json
import sys
import time


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=306)
    parser.add_argument("--atoms", type=int, default=6138)
    parser.add_argument("--problems", default="256,1024,4096")
    parser.add_argument("--device", default="cuda")
    arguments = parser.parse_args()
    try:
        import torch
    except ImportError:
        sys.exit("torch_fista.py: PyTorch is not installed")
    if arguments.device == "cuda" and not torch.cuda.is_available():
        sys.exit("torch_fista.py: PyTorch sees no CUDA device")
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    device = torch.device(arguments.device)
    synchronize = torch.cuda.synchronize if device.type == "cuda" else lambda: None

    def iteration(D, X, z, previous, beta, step, threshold):
        y = z + beta * (z - previous)
        u = y + step * (D.T @ (X - D @ y))
        following = torch.sign(u) * torch.relu(torch.abs(u) - threshold)
        restart = ((y - following) * (following - z)).sum(0)
        return following, restart

    def seconds_a_call(call):
        call()
        synchronize()
        calls = 1
        while True:
            start = time.perf_counter()
            for _ in range(calls):
                call()
            synchronize()
            seconds = time.perf_counter() - start
            if seconds >= 0.2:
                return seconds / calls
            calls *= 2

    n, m = arguments.rows, arguments.atoms
    generator = torch.Generator(device="cpu").manual_seed(1)
    D = torch.randn(n, m, generator=generator).to(device)
    compiled = torch.compile(iteration) if hasattr(torch, "compile") else None
    for problems in map(int, arguments.problems.split(",")):
        X = torch.randn(n, problems, generator=generator).to(device)
        z = torch.zeros(m, problems, device=device)
        previous = torch.zeros(m, problems, device=device)
        beta = torch.full((problems,), 0.5, device=device)
        inputs = (D, X, z, previous, beta, 1e-3 / (n + m), 1e-3 / (n + m))
        line = {
            "benchmark": "torch iteration",
            "torch": torch.__version__,
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
            "rows": n,
            "atoms": m,
            "problems": problems,
            "eager_seconds": seconds_a_call(lambda: iteration(*inputs)),
        }
        if compiled is not None:
            try:
                line["compiled_seconds"] = seconds_a_call(lambda: compiled(*inputs))
            except Exception as error:  # a machine without a compiler, say
                line["compile_error"] = str(error).splitlines()[0]
                compiled = None
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
