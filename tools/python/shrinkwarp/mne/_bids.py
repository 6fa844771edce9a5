"""The recordings of a BIDS data set, as MNE-BIDS-Pipeline leaves them among the derivatives."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from pathlib import Path

from ._task import Task

_DERIVATIVES = "derivatives/mne-bids-pipeline"
_FOLDERS = ("sub-*/meg", "sub-*/eeg", "sub-*/ses-*/meg", "sub-*/ses-*/eeg")
_NAME = re.compile(r"((?:[a-z]+-[a-zA-Z0-9+]+_)+)([a-z]+)\.fif")
_NOISE_TASKS = ("noise", "rest")


@dataclass(frozen=True)
class _File:
    """A file whose name is made of BIDS entities."""

    path: Path
    entities: dict[str, str]
    suffix: str

    @property
    def task(self) -> str | None:
        return self.entities.get("task")

    def without(self, *names: str) -> dict[str, str]:
        return {name: value for name, value in self.entities.items() if name not in names}


def find_bids(options: argparse.Namespace) -> list[Task]:
    """The recordings of `options.bids` with task `options.task`, by subject, session and run.

    docs/meg.md says which files are looked for. A recording whose forward solution or covariance is not there, or there
    twice, is a task with a problem.

    Raises
    ------
    ValueError
        There is no recording, or no folder.
    """
    root = Path(options.bids).absolute()
    derivatives = root / _DERIVATIVES if (root / _DERIVATIVES).is_dir() else root
    kind, out = options.kind or "ave", bids_output(options)
    tasks = []
    for folder in sorted(path for pattern in _FOLDERS for path in derivatives.glob(pattern)):
        files = [file for file in map(_parsed, sorted(folder.glob("*.fif"))) if file is not None]
        recordings = [file for file in files if file.suffix == kind and file.task == options.task
                      and file.entities.get("split", "01") in ("01", "1")
                      and (options.proc is None or file.entities.get("proc") == options.proc)]
        for same in _grouped(recordings):
            tasks.append(_task(options, same, files, out / folder.relative_to(derivatives)))
    if not tasks:
        name = f"*_task-{options.task}_*{'' if options.proc is None else f'proc-{options.proc}_'}{kind}.fif"
        raise ValueError(f"--bids: found no {name} in {', '.join(_FOLDERS)} of {derivatives}, wanted recordings")
    return tasks


def bids_output(options: argparse.Namespace) -> Path:
    """The folder that outputs go to."""
    if options.out is not None:
        return Path(options.out).absolute()
    root = Path(options.bids).absolute()
    if not (root / _DERIVATIVES).is_dir():
        raise ValueError(f"--out: found none with --bids {options.bids}, which has no {_DERIVATIVES}, wanted a folder")
    return root / "derivatives" / "shrinkwarp"


def _parsed(path: Path) -> _File | None:
    """None where the name is not one of BIDS."""
    match = _NAME.fullmatch(path.name)
    if match is None:
        return None
    entities = dict(pair.split("-") for pair in match[1].rstrip("_").split("_"))
    return _File(path, entities, match[2])


def _grouped(files: list[_File]) -> list[list[_File]]:
    """Files that differ in nothing but their processing, or in being whole or split, together."""
    groups: dict[tuple, list[_File]] = {}
    for file in files:
        groups.setdefault(tuple(file.without("proc", "split").items()), []).append(file)
    return list(groups.values())


def _task(options, same: list[_File], files: list[_File], folder: Path) -> Task:
    problems = []

    def one(what: str, found: list[_File]) -> str | None:
        if len(found) == 1:
            return str(found[0].path)
        names = " and ".join(file.path.name for file in found) or "none"
        problems.append(f"{what}: found {names} in {same[0].path.parent}, wanted one")
        return None

    given = vars(options).copy()
    processed = _of_best_processing(same)
    recording = processed[0]
    given["data"] = one("recording", processed)
    given["fwd"] = one(f"forward solution *_task-{options.task}_fwd.fif", _forward(recording, files))
    what = f"noise covariance *_cov.fif of task {options.task}, noise or rest"
    given["cov"] = one(what, _covariance(recording, files))
    name = "_".join(f"{key}-{value}" for key, value in recording.without("split").items())
    given["out"] = str(folder / f"{name}_{recording.suffix}-lasso")
    return Task(name, argparse.Namespace(**given), "; ".join(problems) or None)


def _of_best_processing(files: list[_File]) -> list[_File]:
    """Those with proc-clean, else those without, else all."""
    for wanted in ("clean", None):
        found = [file for file in files if file.entities.get("proc") == wanted]
        if found:
            return found
    return files


def _of(suffix: str, task: str, recording: _File, files: list[_File]) -> list[_File]:
    """Those that say nothing else of their origin than the recording does: one without a run is of all runs."""
    return [file for file in files if file.suffix == suffix and file.task == task
            and all(recording.entities.get(name) == value for name, value in file.without("task", "proc").items())]


def _nearest(files: list[_File]) -> list[_File]:
    """Those that say most: of its own run before of all runs."""
    most = max((len(file.without("proc")) for file in files), default=0)
    return [file for file in files if len(file.without("proc")) == most]


def _forward(recording: _File, files: list[_File]) -> list[_File]:
    return _of_best_processing(_nearest(_of("fwd", recording.task, recording, files)))


def _covariance(recording: _File, files: list[_File]) -> list[_File]:
    for task in (recording.task, *_NOISE_TASKS):
        found = _of("cov", task, recording, files)
        if found:
            return _of_best_processing(_nearest(found))
    return []
