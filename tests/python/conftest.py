"""The suite of the Python module.

The package is that in the folder $SHRINKWARP_PYTHON, or else in build/cpu-release/python; an installed one where the variable is empty.
Tests on recordings need SHRINKWARP_DATA.
"""

import os
import sys
from pathlib import Path

import pytest

pytest_plugins = ["recordings_plugin"]

ROOT = Path(__file__).resolve().parents[2]
FOLDER = os.environ.get("SHRINKWARP_PYTHON", str(ROOT / "build/cpu-release/python"))
if FOLDER:
    FOLDER = os.path.abspath(FOLDER)
    sys.path.insert(0, FOLDER)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [FOLDER, os.environ.get("PYTHONPATH")]))  # of processes started


def pytest_configure():
    try:
        import shrinkwarp  # noqa: F401
    except ImportError as error:
        pytest.exit(f"no package in '{FOLDER}' ({error}): build it, or name it with SHRINKWARP_PYTHON=...", returncode=4)


def pytest_report_header(config):
    import shrinkwarp

    return f"package: {Path(shrinkwarp.__file__).parent}"
