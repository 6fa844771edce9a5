"""The README's example does what the README says."""

import os
import re
import subprocess
import sys

import numpy as np

from program import PATH, ROOT


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)


def test_example(folder):
    (folder / "bin").mkdir()
    (folder / "bin" / "shrinkwarp").symlink_to(PATH)
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    shell = subprocess.run(
        ["bash", "-euc", blocks("sh")[0]], cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True
    )
    assert shell.returncode == 0, shell.stderr
    python = subprocess.run([sys.executable, "-c", blocks("python")[0]], cwd=folder, capture_output=True, text=True)
    assert python.returncode == 0, python.stderr
    gap, claimed, relative = map(float, python.stdout.split())
    assert np.isclose(gap, claimed, rtol=1e-6, atol=1e-13 * gap / relative)  # 1e-13 of the energy: rounding
    assert relative <= 1e-6
