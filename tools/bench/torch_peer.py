"""What the comparisons with PyTorch share: the program that waits its turn, its tensors, PyTorch on as many threads, and times."""

import json
import os
import struct
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = Path(sys.argv[0]).name


def read_safetensors(path):
    import numpy as np

    content = Path(path).read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    types = {"F32": np.float32, "F64": np.float64}
    tensors = {}
    for name, entry in json.loads(content[8 : 8 + size]).items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        values = np.frombuffer(content[8 + size + begin : 8 + size + end], types[entry["dtype"]])
        tensors[name] = values.reshape(entry["shape"])
    return tensors


class Program:
    """`shrinkwarp bench <benchmark>`, one run at a time. Has its arguments from the script's, by their `names`."""

    def __init__(self, benchmark, arguments, names, file):
        command = [arguments.program, "bench", benchmark, "--on-request", "--save", file]
        for name in names:
            command += ["--" + name.replace("_", "-"), str(getattr(arguments, name))]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.identity = self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{SCRIPT}: {self.process.args[0]} ended with status {self.process.wait()}")
        return json.loads(line)

    def run(self, *what):
        print(*what, file=self.process.stdin, flush=True)
        return self.answer()

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def load_torch(arguments):
    """PyTorch on the threads of `arguments`, without TF32; ends the script where there is none for the device."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(arguments.threads)  # read when PyTorch is loaded
    try:
        import torch
    except ImportError:
        sys.exit(f"{SCRIPT}: PyTorch is not installed")
    if arguments.device == "cuda" and not torch.cuda.is_available():
        sys.exit(f"{SCRIPT}: PyTorch sees no CUDA device")
    torch.set_num_threads(arguments.threads)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    return torch


class Clock:
    def __init__(self, torch, device):
        self.wait = torch.cuda.synchronize if device == "cuda" else lambda: None

    def time(self, call):
        """(seconds, CPU seconds, what it returned)."""
        self.wait()
        start, cpu = time.perf_counter(), time.process_time()
        returned = call()
        self.wait()
        return time.perf_counter() - start, time.process_time() - cpu, returned


def ratio(above, below):
    """Median over the runs."""
    return median(a / b if b > 0 else float("nan") for a, b in zip(above, below))
