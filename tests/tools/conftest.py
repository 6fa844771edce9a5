"""Fixtures of the suite that drives the program as its users do.

The program is $SHRINKWARP or else build/cpu-release/bin/shrinkwarp. Tests on recordings need SHRINKWARP_DATA.
"""

import os
import signal
from pathlib import Path

import pytest

import program

DATA = os.environ.get("SHRINKWARP_DATA", "")


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the slow tests too")


def pytest_configure(config):
    # A background job of a shell ignores SIGINT, and so would the programs that it starts.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if not os.access(program.PATH, os.X_OK) or program.PATH.is_dir():
        pytest.exit(f"no program at {program.PATH}: build it, or name it with SHRINKWARP=...", returncode=4)
    if DATA and not Path(DATA).is_dir():
        pytest.exit(f"SHRINKWARP_DATA is '{DATA}', which is no folder", returncode=4)


def pytest_collection_modifyitems(config, items):
    for item in items:
        if "slow" in item.keywords and not config.getoption("--slow"):
            item.add_marker(pytest.mark.skip(reason="slow: run with --slow"))
        if "data" in item.keywords and not DATA:
            item.add_marker(pytest.mark.skip(reason="SHRINKWARP_DATA is not set"))


def pytest_report_header(config):
    return f"program: {program.PATH}"


def pytest_terminal_summary(terminalreporter):
    reports = terminalreporter.stats.get("skipped", [])
    skipped = sum("SHRINKWARP_DATA is not set" in str(report.longrepr) for report in reports)
    if skipped:
        terminalreporter.section("SHRINKWARP_DATA is not set", sep="!", red=True, bold=True)
        terminalreporter.line(f"{skipped} tests on real recordings were SKIPPED")


@pytest.fixture(autouse=True)
def nothing_runs_on():
    """A test that failed leaves no program behind that would disturb the next."""
    yield
    program.kill_started()


@pytest.fixture
def folder(tmp_path):
    """A folder that holds nothing but what the test and the program put there."""
    return tmp_path


@pytest.fixture(scope="session")
def recordings():
    return Path(DATA)
