"""The program `shrinkwarp-meg`: `apply_lasso` from files to files, of one recording or of a cohort."""

from __future__ import annotations

import argparse
import sys
from typing import Any, Sequence

from ._single import FAILED, INTERRUPTED, Witness, estimate_files

_STATUSES = """
Exit status: 0 done, 1 failed (also where a value does not fit the files), 2 wrong usage, 3 done but some sample missed the gap,
130 interrupted.
Of a cohort: 1 some recording is not done, 3 all are done but some sample missed the gap, 143 ended by SIGTERM.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status, which `--help` explains."""
    parser, of_rows = _parser()
    options = parser.parse_args(arguments)
    _check_usage(parser, options)
    try:
        if options.data is not None:
            return estimate_files(options, Witness())
        from ._cohort import run_cohort

        return run_cohort(options, of_rows)
    except KeyboardInterrupt:
        print("shrinkwarp-meg: interrupted", file=sys.stderr)
        return INTERRUPTED
    except (ImportError, OSError, RuntimeError, TypeError, ValueError) as error:
        print(f"shrinkwarp-meg: {error}", file=sys.stderr)
        return FAILED


def _parser() -> tuple[argparse.ArgumentParser, dict[str, argparse.Action]]:
    """The parser, and those of its options that a table may have columns of."""
    parser = argparse.ArgumentParser(
        prog="shrinkwarp-meg",
        description="Lasso estimate of the sources of MEG or EEG recordings, sample by sample, with a report.",
        epilog=_STATUSES,
        usage="%(prog)s --fwd F --data R --cov C --out S [options]\n       "
              "%(prog)s --table T [options]\n       %(prog)s --bids ROOT --task T [options]",
    )
    files = parser.add_argument_group("files")
    what = files.add_mutually_exclusive_group(required=True)
    what.add_argument("--data", metavar="R", help="one recording: raw, epochs or evoked (.fif)")
    what.add_argument("--table", metavar="T",
                      help="many: a row each, with columns forward, data, covariance, output, and, where rows differ, "
                      "name and options of the groups recording and estimate (.csv; .tsv with tabs)")
    what.add_argument("--bids", metavar="ROOT",
                      help="many: of a BIDS data set, as MNE-BIDS-Pipeline leaves them in "
                      "derivatives/mne-bids-pipeline, or of such a folder of derivatives")
    files.add_argument("--fwd", metavar="F", help="with --data: forward solution (-fwd.fif)")
    files.add_argument("--cov", metavar="C", help="with --data: noise covariance (-cov.fif)")
    files.add_argument("--out", metavar="S",
                       help="source estimates: S-lh.stc and S-rh.stc (volumes: S-vl.stc), or one file where S ends in "
                       ".h5; each condition and epoch has its own; S.html is the report. With --bids a folder "
                       "(default ROOT/derivatives/shrinkwarp)")
    files.add_argument("--no-report", action="store_true", help="write no report")
    files.add_argument("--overwrite", action="store_true",
                       help="replace files that exist; of a cohort, also what was done with other options or inputs")
    cohort = parser.add_argument_group("cohort, with --table or --bids")
    cohort.add_argument("--workers", type=_positive, metavar="K",
                        help="recordings at a time, a process each (default 1)")
    cohort.add_argument("--scheduler", metavar="ADDRESS", help="run them on this dask scheduler instead")
    cohort.add_argument("--rows", metavar="N", help="only the recordings with these numbers, from 1, as in 3 or 1,4-6")
    cohort.add_argument("--only", action="append", metavar="NAME", help="only the recording of this name; repeatable")
    cohort.add_argument("--page", metavar="P", help="group page (default: T-group.html, or in the folder --out)")
    cohort.add_argument("--page-only", action="store_true", help="run nothing, write the page of what is there")
    cohort.add_argument("--task", metavar="T", help="with --bids: the task (entity task-)")
    cohort.add_argument("--kind", choices=("ave", "epo", "raw"), help="with --bids: recordings (default ave)")
    cohort.add_argument("--proc", metavar="P", help="with --bids: recordings with proc-P (default: clean, else none)")
    of_rows: dict[str, argparse.Action] = {}

    def of_row(group: Any, *names: str, **given: Any) -> None:
        action = group.add_argument(*names, **given)
        of_rows[action.dest] = action

    data = parser.add_argument_group("recording")
    of_row(data, "--condition", metavar="NAME", help="of an evoked file, by name or number (default: all)")
    of_row(data, "--tmin", type=float, metavar="SECONDS", help="from here on")
    of_row(data, "--tmax", type=float, metavar="SECONDS", help="up to here")
    of_row(data, "--l-freq", type=float, metavar="HZ", help="high-pass a raw first, which loads all of it")
    of_row(data, "--h-freq", type=float, metavar="HZ", help="low-pass a raw first, which loads all of it")
    how = parser.add_argument_group("estimate")
    of_row(how, "--alpha", type=_number_or("sure", "discrepancy"), default=50.0, metavar="A",
           help="percent of lambda_max, sure or discrepancy (default 50)")
    of_row(how, "--alpha-scope", choices=("recording", "sample"), default="recording",
           help="whose lambda_max (default recording)")
    of_row(how, "--loose", type=_number_or("auto"), default="auto", metavar="L",
           help="orientation: 0 fixed, 1 free, or between; auto is 0.2 for surfaces, 1 for volumes (default)")
    of_row(how, "--depth", type=float, default=0.8, metavar="D", help="exponent of depth weighting (default 0.8)")
    of_row(how, "--rank", choices=("info", "full"), help="rank of the noise (default: estimated)")
    of_row(how, "--pick-ori", choices=("vector",), help="keep the direction of moments (.h5)")
    of_row(how, "--gap", type=float, default=1e-6, metavar="G", help="relative duality gap (default 1e-6)")
    of_row(how, "--random-state", type=int, metavar="SEED", help="of --alpha sure")
    how.add_argument("--device", default="auto", help="auto, cpu or cuda (default auto)")
    how.add_argument("--threads", type=int, metavar="T",
                     help="of the CPU (default: all; of a cohort: of each recording, its share)")
    how.add_argument("--chunk-size", type=int, default=16384, metavar="K", help="time samples in memory at once")
    parser.add_argument("--progress", action="store_true", help="with --data: show how far it is")
    parser.add_argument("--verbose", action="store_true", help="say what MNE-Python does")
    return parser, of_rows


def _check_usage(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """What argparse does not know: which options belong together."""
    mode = next(name for name in ("data", "table", "bids") if getattr(options, name) is not None)
    needed = {"data": ("fwd", "cov", "out"), "table": (), "bids": ("task",)}
    of_cohort = ("workers", "scheduler", "rows", "only", "page", "page_only")
    of_bids = ("task", "kind", "proc")
    wrong = {"data": of_cohort + of_bids, "table": ("fwd", "cov", "out", "progress") + of_bids,
             "bids": ("fwd", "cov", "progress")}
    missing = [_option(name) for name in needed[mode] if getattr(options, name) is None]
    if missing:
        parser.error(f"--{mode}: wanted {', '.join(missing)} with it")
    for name in wrong[mode]:
        if getattr(options, name):
            parser.error(f"{_option(name)}: found it with --{mode}, where it means nothing")
    if options.workers is not None and options.scheduler is not None:
        parser.error("--workers: found it with --scheduler, whose workers are its own")


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError
    return value


_positive.__name__ = "whole number from 1 on"  # argparse names it in its errors


def _number_or(*words: str):
    def convert(text: str) -> float | str:
        return text if text in words else float(text)

    convert.__name__ = " or ".join(("number", *words))
    return convert
