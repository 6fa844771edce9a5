"""Many recordings of `shrinkwarp-meg`: each a task that is done once, however often the program is run."""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
import threading
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Iterator

from ._arguments import require_mne
from ._bids import bids_output, find_bids
from ._group_page import MARK, group_page
from ._single import DONE, FAILED, INTERRUPTED, UNCONVERGED
from ._table import read_table
from ._task import Task, is_final, known_of, write_in_one_step
from ._workers import on_processes, on_scheduler

_TERMINATED = 143


def run_cohort(options: argparse.Namespace, of_rows: dict[str, argparse.Action]) -> int:
    """Run the recordings of `options.table` or `options.bids`; returns the exit status of the program."""
    require_mne()
    tasks = read_table(options, of_rows) if options.table is not None else find_bids(options)
    chosen = _chosen(tasks, options)
    page = _page(options, tasks)
    records = {task.name: known_of(task) for task in tasks}
    if options.page_only:
        _write_page(page, options, tasks, records)
        return _conclusion(chosen, records)
    status = None
    try:
        with _sigterm_as_interrupt() as was_terminated:
            _run(chosen, records, options)
    except KeyboardInterrupt:
        status = _TERMINATED if was_terminated() else INTERRUPTED
        done = sum(_is_done(records[task.name]) for task in chosen)
        _complain(f"interrupted; {done} of {len(chosen)} recordings are done, and run again it goes on there")
        # Of those that were under way the records say that they had begun.
        records.update({task.name: known_of(task) for task in tasks if records[task.name] is None})
    _write_page(page, options, tasks, records)
    return _conclusion(chosen, records) if status is None else status


def _run(chosen: list[Task], records: dict[str, dict | None], options: argparse.Namespace) -> None:
    number = {task.name: k + 1 for k, task in enumerate(chosen)}

    def tell(task: Task, text: str) -> None:
        print(f"[{number[task.name]}/{len(chosen)}] {task.name}: {text}", flush=True)

    waiting = []
    for task in chosen:
        if not is_final(records[task.name]):
            waiting.append(task)
        else:
            tell(task, "done before" if _is_done(records[task.name]) else "failed")
    if not waiting:
        return
    if options.scheduler is not None:
        running = on_scheduler(waiting, options.scheduler)
    else:
        running = on_processes(waiting, min(options.workers or 1, len(waiting)))
    with closing(running):
        for task, record in running:
            records[task.name] = record
            tell(task, f"done in {record['seconds']:.1f} s" if _is_done(record) else "failed")


def _is_done(record: dict | None) -> bool:
    return record is not None and record["state"] == "done"


def _conclusion(chosen: list[Task], records: dict[str, dict | None]) -> int:
    """Names what has failed, and is the exit status."""
    bad, missed = [], 0
    for task in chosen:
        record = records[task.name]
        if not _is_done(record):
            bad.append((task.name, "has not been run" if record is None else record.get("error", "is unfinished")))
        elif record["missed"]:
            missed += 1
            samples = sum(condition["missed"] for condition in record["conditions"])
            _complain(f"{task.name}: {samples} samples have a gap over {record['options']['gap']:g}")
    if bad:
        _complain(f"{len(bad)} of {len(chosen)} recordings are not done:")
    for name, error in bad:
        print(f"  {name}: {error}", file=sys.stderr)
    return FAILED if bad else UNCONVERGED if missed else DONE


def _complain(text: str) -> None:
    print(f"shrinkwarp-meg: {text}", file=sys.stderr)


def _chosen(tasks: list[Task], options: argparse.Namespace) -> list[Task]:
    """Those of --rows and --only."""
    found = tasks
    if options.rows is not None:
        numbers = set()
        for part in options.rows.split(","):
            match = re.fullmatch(r"(\d+)(?:-(\d+))?", part.strip())
            first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
            if not 1 <= first <= last <= len(tasks):
                wanted = f"numbers from 1 to {len(tasks)}, as in 3 or 1,4-6"
                raise ValueError(f"--rows: found {part.strip()!r}, wanted {wanted}")
            numbers.update(range(first, last + 1))
        found = [task for k, task in enumerate(tasks) if k + 1 in numbers]
    if options.only is not None:
        names = [task.name for task in tasks]
        for name in options.only:
            if name not in names:
                few = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
                raise ValueError(f"--only: found {name!r}, wanted one of {few}")
        found = [task for task in found if task.name in options.only]
    return found


def _page(options: argparse.Namespace, tasks: list[Task]) -> Path:
    if options.page is not None:
        page = Path(options.page).absolute()
    elif options.table is not None:
        table = Path(options.table).absolute()
        page = table.with_name(f"{table.stem}-group.html")
    else:
        page = bids_output(options) / f"task-{options.task}_{options.kind or 'ave'}-group.html"
    if any(page == task.report_file for task in tasks):
        raise ValueError(f"--page: found {page}, which is the report of a recording, wanted another name")
    if page.exists() and not options.overwrite and not _is_group_page(page):
        raise ValueError(f"--page: found the file {page}, which is no group page, wanted another name, or --overwrite")
    return page


def _is_group_page(path: Path) -> bool:
    with open(path, encoding="utf-8", errors="replace") as file:
        return MARK in file.read(1000)


def _write_page(page: Path, options: argparse.Namespace, tasks: list[Task], records: dict[str, dict | None]) -> None:
    page.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    for task in tasks:
        record = records[task.name]
        has_report = _is_done(record) and record["report"] is not None
        rows.append((task.name, record, os.path.relpath(task.report_file, page.parent) if has_report else None))
    title = options.table if options.table is not None else f"{options.bids}, task {options.task}"
    write_in_one_step(page, group_page(title, rows))
    print(page)


@contextmanager
def _sigterm_as_interrupt() -> Iterator:
    """SIGTERM ends as Ctrl-C does: workers are ended and the page is written. Yields whether it came."""
    came = []

    def interrupt(number, frame):
        came.append(number)
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's
        yield lambda: False
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield lambda: bool(came)
    finally:
        signal.signal(signal.SIGTERM, before)
