"""Fixtures of the suite that drives the program as its users do.

The program is $SHRINKWARP or else build/cpu-release/bin/shrinkwarp. Tests on recordings need SHRINKWARP_DATA.
"""

import os

import pytest

import program

pytest_plugins = ["recordings_plugin"]


def pytest_configure():
    if not os.access(program.PATH, os.X_OK) or program.PATH.is_dir():
        pytest.exit(f"no program at {program.PATH}: build it, or name it with SHRINKWARP=...", returncode=4)


def pytest_report_header(config):
    return f"program: {program.PATH}"


@pytest.fixture(autouse=True)
def nothing_runs_on():
    """A test that failed leaves no program behind that would disturb the next."""
    yield
    program.kill_started()


@pytest.fixture
def folder(tmp_path):
    """A folder that holds nothing but what the test and the program put there."""
    return tmp_path
