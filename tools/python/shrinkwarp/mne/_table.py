"""The table of a cohort: one recording a row."""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Iterator

from ._task import Task

_FILES = {"forward": "fwd", "data": "data", "covariance": "cov", "output": "out"}
_KINDS = {"float": "a number", "int": "a whole number"}


def read_table(options: argparse.Namespace, of_rows: dict[str, argparse.Action]) -> list[Task]:
    """The recordings of a table, in its order.

    Parameters
    ----------
    options : argparse.Namespace
        With `table`; the others hold where a row does not say otherwise.
    of_rows : dict
        The options that there may be columns of, by their names in `options`.

    Raises
    ------
    OSError
    ValueError
        With file, line and column, what was found and what was wanted.
    """
    table = Path(options.table)
    folder = table.absolute().parent
    tasks: list[Task] = []
    outputs: dict[Path, int] = {}
    names: dict[str, int] = {}
    for line, row in _rows(table, of_rows):
        given = vars(options).copy()
        for column, text in row.items():
            where = f"{table}, line {line}, column {column}"
            if column in _FILES:
                if not text:
                    raise ValueError(f"{where}: found nothing, wanted a path")
                given[_FILES[column]] = str(folder / text)
            elif column != "name" and text:
                given[column] = _value(of_rows[column], text, where)
        task = Task(row.get("name") or row["output"], argparse.Namespace(**given))
        for column, known, value in (("output", outputs, task.status_file), ("name", names, task.name)):
            if value in known:
                found = row.get(column) or task.name
                raise ValueError(f"{table}, line {line}, column {column}: found {found} as in line {known[value]}, "
                                 "wanted another for each recording")
            known[value] = line
        tasks.append(task)
    if not tasks:
        raise ValueError(f"{table}: found no row under the names of the columns, wanted a recording in each")
    return tasks


def _rows(table: Path, of_rows: dict[str, argparse.Action]) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and cells of each row, the names of columns with underscores."""
    with open(table, newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file, delimiter="\t" if table.suffix == ".tsv" else ",", strict=True)
        try:
            columns: list[str] | None = None
            for cells in reader:
                cells = [cell.strip() for cell in cells]
                if not any(cells):
                    continue
                if columns is None:
                    columns = _columns(cells, f"{table}, line {reader.line_num}", of_rows)
                    continue
                if len(cells) != len(columns):
                    raise ValueError(f"{table}, line {reader.line_num}: found {len(cells)} cells, "
                                     f"wanted {len(columns)}, one for each column")
                yield reader.line_num, dict(zip(columns, cells))
        except csv.Error as error:
            raise ValueError(f"{table}, line {reader.line_num}: {error}") from error
        except UnicodeDecodeError as error:
            raise ValueError(f"{table}: found bytes that are no UTF-8 after line {reader.line_num}, "
                             "wanted a text of UTF-8") from error
    if columns is None:
        raise ValueError(f"{table}: found no line, wanted one with the names of columns: {', '.join(_FILES)}")


def _columns(cells: list[str], where: str, of_rows: dict[str, argparse.Action]) -> list[str]:
    columns = [cell.lower().replace("-", "_") for cell in cells]
    known = (*_FILES, "name", *of_rows)
    for k, column in enumerate(columns):
        if column not in known:
            raise ValueError(f"{where}, column {k + 1}: found {cells[k]!r}, wanted one of {', '.join(known)}")
        if column in columns[:k]:
            raise ValueError(f"{where}, column {k + 1}: found {cells[k]!r} a second time, wanted each column once")
    missing = [name for name in _FILES if name not in columns]
    if missing:
        raise ValueError(f"{where}: found no column {' and no column '.join(missing)}, wanted {', '.join(_FILES)}")
    return columns


def _value(action: argparse.Action, text: str, where: str):
    try:
        value = text if action.type is None else action.type(text)
    except ValueError as error:
        kind = getattr(action.type, "__name__", "")
        raise ValueError(f"{where}: found {text!r}, wanted {_KINDS.get(kind, 'a ' + kind)}") from error
    if action.choices is not None and value not in action.choices:
        raise ValueError(f"{where}: found {text!r}, wanted {' or '.join(action.choices)}")
    return value
