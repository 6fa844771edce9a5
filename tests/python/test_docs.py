"""Blocks of Python in the documents do what the documents say."""

import importlib.util
import re

import pytest

from conftest import ROOT


def blocks(path):
    found = re.findall(r"^```python\n(.*?)^```", (ROOT / path).read_text(), re.DOTALL | re.MULTILINE)
    return [block for block in found if "D.npy" not in block]  # that one is of the program's files


@pytest.mark.parametrize("path", ["README.md", "docs/python.md"])
def test_blocks_run(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    found = blocks(path)
    assert found
    for block in found:
        others = re.findall(r"(?:import|from) (?:shrinkwarp\.)?(sklearn|torch|mne|dask|distributed|zarr)\b", block)
        if any(importlib.util.find_spec(name) is None for name in others):
            continue
        exec(compile(block, path, "exec"), names)
