"""Fixtures of the suite that starts the program by mpirun, on this machine alone.

The program is $SHRINKWARP or else build/cpu-release/bin/shrinkwarp. Without mpirun, or where the program was built
without MPI, all is skipped.
"""

import json
import os
import shutil

import pytest

import program
from mpirun import end_started

pytest_plugins = ["recordings_plugin"]


def pytest_configure():
    if not os.access(program.PATH, os.X_OK) or program.PATH.is_dir():
        pytest.exit(f"no program at {program.PATH}: build it, or name it with SHRINKWARP=...", returncode=4)


def pytest_collection_modifyitems(items):
    reason = None
    if shutil.which("mpirun") is None:
        reason = "there is no mpirun"
    elif not json.loads(program.run("info", "--json").stdout)["mpi"]:
        reason = "the program was built without MPI"
    for item in items if reason else []:
        item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True)
def nothing_runs_on():
    """A test that failed leaves no program behind that would disturb the next."""
    yield
    end_started()
    program.kill_started()


@pytest.fixture
def folder(tmp_path):
    """A folder that holds nothing but what the test and the program put there."""
    return tmp_path
