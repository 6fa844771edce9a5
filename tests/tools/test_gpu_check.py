"""tools/gpu_check on fakes: what passes, what fails and what the report says, with no GPU and no build."""

import importlib.machinery
import importlib.util
import json
import os
import signal
import sys
import time

import pytest

from program import ROOT

PROGRAMS = ("device_tests", "runtime_tests", "kernel_tests", "model_tests", "allocation_tests", "tool_tests")

# Answers with the names of the fields it is asked for; the name of the GPU is $FAKE_GPU.
NVIDIA_SMI = """
for argument; do
  case $argument in
    --id=*) echo "${argument#--id=}" >> "$FAKE_IDS" ;;
    --query-gpu=*) echo "${argument#--query-gpu=}" | sed "s/^name/$FAKE_GPU/" ;;
  esac
done
"""

# Runs the program among its arguments, as compute-sanitizer does.
SANITIZER = """
while [ $# -gt 0 ] && [ ! -x "$1" ]; do shift; done
[ $# -eq 0 ] || "$@" || exit
echo "========= ERROR SUMMARY: 0 errors"
"""


def write_program(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def gtest(passed, skipped=0, failed=0):
    """A program that ends as GoogleTest does with --gtest_brief=1."""
    lines = [f"[==========] {passed + skipped + failed} tests from 2 test suites ran. (1 ms total)"]
    lines += [f"[  PASSED  ] {passed} tests."] + [f"[  SKIPPED ] {skipped} tests."] * (skipped > 0)
    return "".join(f"echo '{line}'\n" for line in lines) + f"exit {int(failed > 0)}"


class Check:
    """tools/gpu_check as a module, with its programs in a folder of their own."""

    def __init__(self, folder, monkeypatch):
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        loader = importlib.machinery.SourceFileLoader("gpu_check", str(ROOT / "tools/gpu_check"))
        self.module = importlib.util.module_from_spec(importlib.util.spec_from_loader("gpu_check", loader))
        loader.exec_module(self.module)
        self.folder, self.monkeypatch = folder, monkeypatch
        write_program(folder / "path/nvidia-smi", NVIDIA_SMI)
        write_program(folder / "path/compute-sanitizer", SANITIZER)
        write_program(folder / "path/nvcc", "echo 'Cuda compilation tools, release 13.0, V13.0.88'")
        self.write_python(packages=False)
        for name in PROGRAMS:
            self.write(name, gtest(passed=3))
        self.write("shrinkwarp", "exit 3")
        monkeypatch.setenv("PATH", f"{folder / 'path'}:{os.environ['PATH']}")
        monkeypatch.setenv("FAKE_GPU", "GPU one")
        monkeypatch.setenv("FAKE_IDS", str(folder / "ids"))
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        monkeypatch.setattr(sys, "executable", str(folder / "path/python"))

    def write(self, name, text):
        write_program(self.folder / "build/bin" / name, text)

    def write_python(self, packages, pytest_says="exit 9"):
        """A Python that has all packages or none, and whose pytest is the script `pytest_says`."""
        write_program(self.folder / "path/python",
                      f'case "$2" in import*) exit {int(not packages)} ;; esac\n{pytest_says}')

    def run(self, stage):
        """The exit status, and the steps of the stage by name."""
        status = self.status_of(stage)
        return status, {step["name"]: step for step in self.report()["stages"][stage]["steps"]}

    def status_of(self, stage):
        self.monkeypatch.setattr(sys, "argv", [
            "gpu_check", "--stage", stage, "--build", str(self.folder / "build"), "--out", str(self.folder / "out")])
        handler = signal.getsignal(signal.SIGTERM)
        try:
            return self.module.main()
        finally:
            signal.signal(signal.SIGTERM, handler)

    def report(self):
        return json.loads((self.folder / "out/report.json").read_text())

    def report_text(self):
        return (self.folder / "out/report.md").read_text()


@pytest.fixture
def check(folder, monkeypatch):
    return Check(folder, monkeypatch)


def statuses(steps):
    return {name: step["status"] for name, step in steps.items()}


def test_passes(check):
    check.write("runtime_tests", gtest(passed=5, skipped=2))
    status, steps = check.run("tests")
    assert status == 0  # a package that Python lacks is no failure
    assert statuses(steps) == {**dict.fromkeys(PROGRAMS, "passed"), "program": "skipped"}
    assert steps["runtime_tests"]["tests"] == {"passed": 5, "skipped": 2, "failed": 0}
    assert "5 passed, 2 skipped, 0 failed" in check.report_text()


def test_a_failed_test_is_a_failure(check):
    check.write("kernel_tests", gtest(passed=3, failed=2))
    status, steps = check.run("tests")
    assert status == 1
    assert [name for name in PROGRAMS if steps[name]["status"] == "failed"] == ["kernel_tests"]
    assert steps["kernel_tests"]["tests"] == {"passed": 3, "skipped": 0, "failed": 2}


def test_no_test_is_a_failure(check):
    check.write("runtime_tests", "exit 0")
    check.write("kernel_tests", gtest(passed=0, skipped=4))
    check.write("model_tests", gtest(passed=0))
    for stage, wanted in (("tests", ["runtime_tests", "kernel_tests", "model_tests"]),
                          ("sanitize", ["memcheck kernel_tests", "memcheck model_tests"])):
        status, steps = check.run(stage)
        assert status == 1
        assert [name for name in steps if steps[name]["status"] == "failed"] == wanted
        assert {steps[name]["reason"] for name in wanted} == {"no test has passed"}


def test_sanitize(check):
    status, steps = check.run("sanitize")
    assert status == 0 and len(steps) == 4
    for step in steps.values():
        assert step["tests"]["passed"] == 3 and step["summary"] == "ERROR SUMMARY: 0 errors"


def test_a_sanitizer_without_a_summary_is_a_failure(check):
    write_program(check.folder / "path/compute-sanitizer", SANITIZER.replace("SUMMARY", ""))
    status, steps = check.run("sanitize")
    assert status == 1 and set(statuses(steps).values()) == {"failed"}


@pytest.mark.parametrize("says, outcome", [
    ("echo '7 passed, 1 skipped in 0.1s'", "passed"),
    ("echo '10 skipped in 0.1s'", "failed"),
    ("echo '0 passed in 0.1s'", "failed"),
    ("echo '7 passed, 1 failed in 0.1s'; exit 1", "failed"),
])
def test_tests_of_the_program(check, says, outcome):
    check.monkeypatch.setattr(check.module, "TEST_PROGRAMS", ())
    check.write_python(packages=True, pytest_says=says)
    status, steps = check.run("tests")
    assert steps["program"]["status"] == outcome and status == int(outcome == "failed")


def is_running(process):
    try:
        with open(f"/proc/{process}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_time_is_over(check):
    """The program that takes too long ends with what it has started; what has had no turn is a failure."""
    check.monkeypatch.setattr(check.module, "STAGE_SECONDS", 3)
    check.monkeypatch.setattr(check.module, "STEP_LEAST_SECONDS", 0.05)
    child = check.folder / "child"
    check.write("device_tests", f"sleep 100 &\necho $! > {child}\nwait")
    status, steps = check.run("tests")
    assert status == 1
    assert steps["device_tests"]["status"] == "timed out"
    assert {steps[name]["status"] for name in PROGRAMS[1:]} == {"not run"}
    wanted = time.monotonic() + 5  # SIGKILL takes a moment
    while is_running(int(child.read_text())) and time.monotonic() < wanted:
        time.sleep(0.01)
    assert not is_running(int(child.read_text()))


def test_steps_without_a_turn_are_a_failure(check):
    check.monkeypatch.setattr(check.module, "STAGE_SECONDS", 0)
    status, steps = check.run("sanitize")
    assert status == 1 and set(statuses(steps).values()) == {"not run"}


def test_bench(check):
    line = {"benchmark": "fista", "lambda_fraction": 0.5, "gap": 1e-6, "problems": 100, "seconds": 2.0,
            "iterations": 7000, "worst_gap": 9e-7}
    call = {"benchmark": "solve", "solver": "working-set", "group_size": 1, "lambda_fraction": 0.3, "gap": 1e-6, "problems": 1000,
            "problems_per_second": 5e5, "nonzeros": 29000, "worst_gap": 8e-7,
            "phases": [{"name": "look", "seconds": 1e-4}, {"name": "pass", "seconds": 2e-4}]}
    kernel = {"benchmark": "kernels", "kernel": "proximal_iterations", "mode": "tf32", "rows": 64, "atoms": 256,
              "problems": 100000, "iterations": 100, "median_seconds": 0.004, "bytes_per_second": 2e11,
              "percent_of_copy": 7.0, "flops_per_second": 1.6e14, "percent_of_gemm": 41.0}
    check.write("shrinkwarp", f"case $2 in fista) echo '{json.dumps(line)}';; solve) echo '{json.dumps(call)}';; "
                              f"kernels) echo '{json.dumps(kernel)}';; *) exit 1;; esac")
    status, steps = check.run("bench")
    assert status == 1  # the iterations'
    assert steps["PyTorch iteration 64 x 128"]["status"] == "skipped"
    assert steps["iteration 64 x 128"]["status"] == "failed"
    assert steps["solve at 0.5 to 1e-06"]["results"] == [line]
    assert "| 0.5 | 1e-06 | 100 | 2.00 | 50 | 70 | 9.0e-07 |" in check.report_text()
    assert steps["calls, working-set"]["results"] == [call]
    assert "| working-set | 1 | 0.3 | 1e-06 | 1000 | 500000 | 29.0 | 8.0e-07 | pass 200, look 100 |" in check.report_text()
    assert steps["kernels"]["results"] == steps["iterations on chip"]["results"] == [kernel]
    wanted = "| proximal_iterations | tf32 | 64 x 256 | 100000 | 100 | 4000.0 | 200 | 7 % | 160.00 | 41 % |"
    assert wanted in check.report_text()
    check.write("shrinkwarp", "exit 0")
    status, steps = check.run("bench")
    assert status == 1 and steps["solve at 0.5 to 1e-06"]["reason"] == "no results"


def test_machine_of_each_stage(check):
    check.run("tests")
    check.run("sanitize")
    assert check.report_text().count("- nvcc: 13.0") == 1
    check.monkeypatch.setenv("FAKE_GPU", "GPU two")
    check.run("sanitize")
    stages = check.report()["stages"]
    assert stages["tests"]["machine"]["gpu"]["name"] == "GPU one"
    assert stages["sanitize"]["machine"]["gpu"]["name"] == "GPU two"
    tests, sanitize = check.report_text().split("## sanitize")
    assert "- name: GPU one" in tests and "- name: GPU two" in sanitize
    assert check.report_text().count("- nvcc: 13.0") == 2


@pytest.mark.parametrize("visible, wanted", [
    (None, "0"), ("", "0"), ("2", "2"), ("3,1", "3"), ("GPU-8932f937-d72c,1", "GPU-8932f937-d72c"), ("none", "0")])
def test_gpu_that_is_described(check, visible, wanted):
    if visible is not None:
        check.monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert check.module.query_gpu(["name"]) == {"name": "GPU one"}
    assert (check.folder / "ids").read_text().split() == [wanted]


def test_wants_a_gpu_and_a_build(check):
    (check.folder / "build/bin/model_tests").unlink()
    with pytest.raises(SystemExit, match="model_tests is not there"):
        check.status_of("tests")
    write_program(check.folder / "path/nvidia-smi", "exit 9")
    assert check.status_of("tests") == 1
    assert not (check.folder / "out/report.json").exists()
