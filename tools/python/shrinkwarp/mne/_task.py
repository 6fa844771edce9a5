"""A recording of a cohort: what is to be done, what has been done, and the file beside its output that remembers it."""

from __future__ import annotations

import argparse
import json
import os
import socket
import time
import traceback
import uuid
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from ._estimate import LassoEstimate
from ._single import UNCONVERGED, Witness, estimate_files, stem_and_ending

SCHEMA = "shrinkwarp-meg-status-1"

# What an estimate depends on, beside its files. Where and how fast it is computed is no part of it.
_OPTIONS = ("condition", "tmin", "tmax", "l_freq", "h_freq", "alpha", "alpha_scope", "loose", "depth", "rank",
            "pick_ori", "gap", "random_state", "no_report")
_WARNINGS = 10  # of a recording that are kept
_PLAIN_ERRORS = (ImportError, OSError, RuntimeError, TypeError, ValueError)


@dataclass
class Task:
    """One recording of a cohort.

    Attributes
    ----------
    name : str
    options : argparse.Namespace
        As for one recording, with absolute paths in `fwd`, `data`, `cov` and `out`.
    problem : str | None
        Why it cannot even begin, such as files that were not found.
    """

    name: str
    options: argparse.Namespace
    problem: str | None = None

    @property
    def stem(self) -> str:
        return stem_and_ending(self.options.out)[0]

    @property
    def folder(self) -> Path:
        return self.status_file.parent

    @property
    def status_file(self) -> Path:
        return Path(f"{self.stem}.status.json")

    @property
    def report_file(self) -> Path:
        return Path(f"{self.stem}.html")

    def read_status(self) -> dict | None:
        """The record of the last run that got as far as one, or None."""
        try:
            record = json.loads(self.status_file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return record if isinstance(record, dict) and record.get("schema") == SCHEMA else None

    def write_status(self, record: dict) -> None:
        """In one step, so that a killed process leaves the record before or this one."""
        write_in_one_step(self.status_file, json.dumps(record, indent=1) + "\n")

    def differences(self, record: dict) -> list[str]:
        """In what the options and inputs that `record` was made with differ from those of now."""
        before, now = record["options"], _options(self.options)
        found = [f"{name.replace('_', '-')} was {_shown(before.get(name))}, is {_shown(now[name])}"
                 for name in _OPTIONS if before.get(name) != now[name]]
        for role, path in _inputs(self.options).items():
            known, stamp = record["inputs"][role], self.stamp(path)
            if known["path"] != stamp["path"]:
                found.append(f"{role} was {known['path']}, is {stamp['path']}")
            elif _changed(known, stamp):
                found.append(f"{path.name} has changed")
        for known in record["inputs"]["more"]:
            path = self.folder / known["path"]
            if _changed(known, self.stamp(path)):
                found.append(f"{path.name} has changed")
        return found

    def stamp(self, path: Path) -> dict:
        """How an input is known again: path from the output's folder, length, time of its last change.

        Recordings are too long to be hashed. The path is a relative one, so that a cohort may be moved as a whole.
        """
        stamp: dict[str, Any] = {"path": os.path.relpath(path, self.folder)}
        try:
            found = path.stat()
        except OSError:
            return stamp
        return {**stamp, "bytes": found.st_size, "modified_ns": found.st_mtime_ns}

    def is_whole(self, record: dict) -> bool:
        """Whether all files that `record` names are there with the lengths that they had."""
        return all(_length(self.folder / name) == length for name, length in record["files"].items())


def known_of(task: Task) -> dict | None:
    """What is known of a recording without doing anything.

    A record in state "done", where there is nothing left to do; "failed" where it cannot or must not begin; "running"
    or "failed" of an earlier run, which may be repeated, as may be what there is no record of (None).
    """
    if task.problem is not None:
        return {**_failed_record(task, task.problem), "final": True}
    record = task.read_status()
    if record is None or record["state"] != "done":
        return record
    if not task.is_whole(record):
        return None
    differences = task.differences(record)
    if not differences:
        return record
    if task.options.overwrite:
        return None
    # The finished record stays: it still says what made the files that are there.
    text = f"{task.status_file.name} is of other options or inputs ({'; '.join(differences)})"
    error = f"--out: found {text}, wanted the same, another output, or --overwrite"
    return {**_failed_record(task, error), "final": True}


def is_final(known: dict | None) -> bool:
    """Whether what `known_of` says stays so, whatever is run."""
    return known is not None and (known["state"] == "done" or known.get("final", False))


def run_task(task: Task) -> dict:
    """Do one recording, unless it is done; returns its record. What is wrong with the recording is in there too."""
    known = known_of(task)
    if is_final(known):
        return known
    work = _Work(task, task.read_status())
    with warnings.catch_warnings(record=True) as work.warnings:
        warnings.simplefilter("default")
        try:
            task.folder.mkdir(parents=True, exist_ok=True)
            return work.done(estimate_files(task.options, work) == UNCONVERGED)
        except Exception as error:
            return work.failed(error)


def record_of_failure(task: Task, error: str) -> dict:
    """Of a recording whose process is gone and cannot say so itself; kept beside its output where it had begun."""
    record = task.read_status()
    if record is None or record["state"] != "running":
        return _failed_record(task, error)
    record = {**record, "state": "failed", "error": error}
    task.write_status(record)
    return record


class _Work(Witness):
    """A recording that is being done, and its record."""

    def __init__(self, task: Task, before: dict | None):
        self._task = task
        self._start = time.monotonic()
        # Stamps are of the time before anything is read: a file that changes meanwhile is found to have changed.
        self._inputs: dict[str, Any] = {role: task.stamp(path) for role, path in _inputs(task.options).items()}
        self._before = before
        self._record: dict | None = None
        self._conditions: list[dict] = []
        self.warnings: list[warnings.WarningMessage] = []

    def mine(self) -> set[Path]:
        return set() if self._before is None else {self._task.folder / name for name in self._before["files"]}

    def begins(self, read: list[Path], written: list[Path]) -> None:
        data = Path(self._task.options.data)
        self._inputs["more"] = [self._task.stamp(path) for path in read if path != data.resolve()]
        mine = {path.name for path in self.mine()}
        self._record = {
            "schema": SCHEMA, "name": self._task.name, "state": "running",
            "host": socket.gethostname(), "pid": os.getpid(),
            "options": _options(self._task.options), "inputs": self._inputs,
            "files": {name: None for name in sorted(mine.union(path.name for path in written))},
        }
        self._written = [path.name for path in written]
        self._task.write_status(self._record)

    def solved(self, title: str, estimate: LassoEstimate) -> None:
        self._conditions.append(_measures(title, estimate))

    def wrote(self, path: Path) -> None:
        pass  # the group page and the record name the files

    def warns(self, text: str) -> None:
        pass  # the record has the number of samples that missed the gap

    def done(self, missed: bool) -> dict:
        self._record["files"] = {name: _length(self._task.folder / name) for name in self._written}
        self._record.update(state="done", seconds=self._seconds(), warnings=self._warned(), missed=missed,
                            conditions=self._conditions,
                            report=None if self._task.options.no_report else self._task.report_file.name)
        self._task.write_status(self._record)
        return self._record

    def failed(self, error: Exception) -> dict:
        text = " ".join(str(error).split())
        if not isinstance(error, _PLAIN_ERRORS) or not text:
            text = f"{type(error).__name__}: {text}"
        if self._record is None:
            return {**_failed_record(self._task, text), "seconds": self._seconds()}
        self._record.update(state="failed", error=text, seconds=self._seconds(), warnings=self._warned(),
                            traceback=traceback.format_exc())
        try:
            self._task.write_status(self._record)
        except OSError:
            pass  # a full disk, say: the record of the start says that the files are unfinished
        return self._record

    def _warned(self) -> list[str]:
        texts = dict.fromkeys(" ".join(str(warning.message).split()) for warning in self.warnings)
        return list(texts)[:_WARNINGS]

    def _seconds(self) -> float:
        return round(time.monotonic() - self._start, 3)


def _failed_record(task: Task, error: str) -> dict:
    """Of a recording that has not begun. It is written nowhere: files that are there may be somebody else's."""
    return {"schema": SCHEMA, "name": task.name, "state": "failed", "error": error}


def _measures(title: str, estimate: LassoEstimate) -> dict:
    """What the group page tells of one condition."""
    gaps = estimate.relative_gap[np.isfinite(estimate.relative_gap)]
    return {
        "title": title,
        "samples": len(estimate.lam),
        "missed": int(np.count_nonzero(~estimate.converged)),
        "largest_gap": float(gaps.max()) if gaps.size else None,
        "explained_percent": round(estimate.total_explained_variance, 2),
        "peak": _peak(estimate),
    }


def _peak(estimate: LassoEstimate) -> dict | None:
    """The largest moment of any source at any time."""
    moments = estimate.sources(0, len(estimate.lam))
    columns, size = moments.shape[1], estimate.problem.group_size
    source_of = sparse.csr_matrix((np.ones(columns), (np.arange(columns), np.arange(columns) // size)))
    power = sparse.coo_matrix(moments.power(2) @ source_of)
    if power.nnz == 0:
        return None
    largest = int(np.argmax(power.data))
    epoch, sample = divmod(int(power.row[largest]), estimate.recording.samples_per_part)
    place = estimate.problem.forward["source_rr"][power.col[largest]]
    peak = {
        "time_s": round(float(estimate.recording.inst.times[sample]), 6),
        "moment_nAm": float(f"{1e9 * np.sqrt(power.data[largest]):.6g}"),
        "place_mm": [round(float(1000 * coordinate), 2) for coordinate in place],
    }
    return {**peak, "epoch": epoch} if estimate.recording.kind == "epochs" else peak


def write_in_one_step(path: Path, text: str) -> None:
    """The file is the old one or the new one, whatever happens."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with open(temporary, "x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _options(options: argparse.Namespace) -> dict:
    return {name: getattr(options, name) for name in _OPTIONS}


def _inputs(options: argparse.Namespace) -> dict[str, Path]:
    return {"forward": Path(options.fwd), "data": Path(options.data), "covariance": Path(options.cov)}


def _changed(known: dict, stamp: dict) -> bool:
    """An input that is gone has not changed what it gave."""
    return "bytes" in stamp and stamp != known


def _length(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _shown(value: Any) -> str:
    return "unset" if value is None else str(value)
