"""What a figure was made on and with."""

import json
import os
import platform
import subprocess
from pathlib import Path

from .workers import environment

ROOT = Path(__file__).resolve().parents[3]


def describe(program, device):
    """cpu, processors, openblas (the kernels it takes for this processor), instruction_set, gpu and commit."""
    said = subprocess.run([program, "info", "--json"], capture_output=True, text=True, check=True,
                          env=environment(os.cpu_count()))
    info = json.loads(said.stdout)
    gpus = info["cuda_devices"] if device == "cuda" else []
    return {"cpu": cpu_model(), "processors": len(os.sched_getaffinity(0)), "openblas": info["blas"],
            "instruction_set": info["instruction_set"], "gpu": gpus[0] if gpus else None, "kernel": platform.release(),
            "commit": commit()}


def cpu_model():
    """Name, family, model and stepping: names alone do not tell generations apart."""
    fields = {}
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    numbers = [f"{name} {fields[key]}" for name, key in (("family", "cpu family"), ("model", "model")) if key in fields]
    return " ".join([fields.get("model name", platform.machine()), *numbers])


def commit():
    """Of the checkout, with -dirty where it has changes."""
    said = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
                          capture_output=True, text=True)
    return said.stdout.strip() or "unknown"
