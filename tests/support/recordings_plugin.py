"""What suites of pytest share: slow tests are left out without --slow, tests on recordings without SHRINKWARP_DATA."""

import os
import signal
from pathlib import Path

import pytest

DATA = os.environ.get("SHRINKWARP_DATA", "")


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run the slow tests too")


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: takes more than ten seconds; run with --slow")
    config.addinivalue_line("markers", "data: needs the recordings that SHRINKWARP_DATA names")
    # A background job of a shell ignores SIGINT, and so would what it starts.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if DATA and not Path(DATA).is_dir():
        pytest.exit(f"SHRINKWARP_DATA is '{DATA}', which is no folder", returncode=4)


def pytest_collection_modifyitems(config, items):
    for item in items:
        if "slow" in item.keywords and not config.getoption("--slow"):
            item.add_marker(pytest.mark.skip(reason="slow: run with --slow"))
        if "data" in item.keywords and not DATA:
            item.add_marker(pytest.mark.skip(reason="SHRINKWARP_DATA is not set"))


def pytest_terminal_summary(terminalreporter):
    reports = terminalreporter.stats.get("skipped", [])
    skipped = sum("SHRINKWARP_DATA is not set" in str(report.longrepr) for report in reports)
    if skipped:
        terminalreporter.section("SHRINKWARP_DATA is not set", sep="!", red=True, bold=True)
        terminalreporter.line(f"{skipped} tests on real recordings were SKIPPED")


@pytest.fixture(scope="session")
def recordings():
    return Path(DATA)
