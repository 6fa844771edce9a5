"""Makes the package shrinkwarp_on_simt importable, the module over the host executor; skips who asks for it where there is none."""

import sys
from pathlib import Path

import pytest

from conftest import FOLDER

_FOLDER = Path(FOLDER).parent / "python_on_simt"
if not FOLDER or not list(_FOLDER.glob("shrinkwarp_on_simt/_core*.so")):
    pytest.skip("the module over the host executor is not built: it is beside a package in a build folder without CUDA",
                allow_module_level=True)
sys.path.insert(0, str(_FOLDER))
