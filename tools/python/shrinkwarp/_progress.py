"""Progress of a solve, in terminals and notebooks."""

from __future__ import annotations

import contextlib
import sys

import numpy as np

from ._arguments import of_type, refuse


@contextlib.contextmanager
def reporter(call, progress):
    """What is called with (done, total), or None.

    `progress` is False, True (a bar of tqdm's where it is installed, else a line on standard error), or a function.
    """
    if callable(progress):
        yield progress
    elif isinstance(progress, (bool, np.bool_)) and progress:
        try:
            from tqdm.auto import tqdm
        except ImportError:
            with _line() as report:
                yield report
        else:
            with tqdm(unit=" problems") as bar:

                def report(done, total):
                    bar.total = total
                    bar.update(done - bar.n)

                yield report
    elif isinstance(progress, (bool, np.bool_)) or progress is None:
        yield None
    else:
        raise refuse(TypeError, call, "progress", of_type(progress), "True, False or a function of (done, total)")


@contextlib.contextmanager
def _line():
    written = False

    def report(done, total):
        nonlocal written
        written = True
        sys.stderr.write(f"\r{done} of {total} problems")
        sys.stderr.flush()

    try:
        yield report
    finally:
        if written:
            sys.stderr.write("\n")
