"""One recording of `shrinkwarp-meg`, from its files to its files."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, Iterable

from .. import Interrupted
from ._apply import apply_lasso
from ._arguments import require_mne
from ._estimate import LassoEstimate

DONE, FAILED, UNCONVERGED, INTERRUPTED = 0, 1, 3, 130


class Witness:
    """Who is told what happens to a recording. This one is the terminal."""

    def mine(self) -> set[Path]:
        """Files that may be replaced though nobody said --overwrite."""
        return set()

    def begins(self, read: list[Path], written: list[Path]) -> None:
        """All is read and checked, nothing is written. `read` are the files of the recording alone."""

    def solved(self, title: str, estimate: LassoEstimate) -> None:
        """One condition, or the whole of a raw or of epochs."""

    def wrote(self, path: Path) -> None:
        print(path)

    def warns(self, text: str) -> None:
        print(f"shrinkwarp-meg: {text}", file=sys.stderr)


def estimate_files(options: argparse.Namespace, witness: Witness) -> int:
    """Read, solve and write what the options of the program say.

    Parameters
    ----------
    options : argparse.Namespace
        Of the program's parser, with `fwd`, `data`, `cov` and `out`.
    witness : Witness

    Returns
    -------
    int
        Exit status of the program.
    """
    mne = require_mne()
    with mne.use_log_level("info" if options.verbose else "error"):
        recordings = _read(mne, options)
        forward = mne.read_forward_solution(options.fwd)
        noise_cov = mne.read_cov(options.cov)
        out = _Output(options, forward["src"])
        parts = [len(inst) if isinstance(inst, mne.BaseEpochs) else None for _, inst in recordings]
        titles = [title if len(recordings) > 1 else None for title, _ in recordings]
        names = [out.names(title, count) for title, count in zip(titles, parts)]
        written = out.check([name for group in names for name in group], witness.mine())
        witness.begins(_files_of(recordings, options), written)
        report = None if options.no_report else _new_report(mne, options)
        status = DONE
        for (title, inst), group in zip(recordings, names):
            try:
                estimate, interrupted = _solve(inst, forward, noise_cov, options), False
            except Interrupted as interrupt:
                estimate, interrupted = interrupt.result, True
            out.save(estimate, group, witness)
            if interrupted:
                witness.warns("interrupted; samples that were not reached have no sources")
                return INTERRUPTED
            missed = int((~estimate.converged).sum())
            if missed:
                witness.warns(f"{missed} of {len(estimate.lam)} samples of {title} have a gap over {options.gap:g}")
                status = UNCONVERGED
            witness.solved(title, estimate)
            if report is not None:
                from ._report import add_to_report

                given = dict(loose=options.loose, depth=options.depth, rank=options.rank, gap=options.gap)
                add_to_report(report, title, estimate, noise_cov, forward, given)
        if report is not None:
            report.save(out.report, open_browser=False, overwrite=True)
            witness.wrote(out.report)
    return status


def stem_and_ending(out: str) -> tuple[str, str]:
    """Of --out: what all names of files start with, and the ending that is asked for, or ""."""
    ending = next((ending for ending in ("-stc.h5", ".h5") if out.endswith(ending)), "")
    return out[:-len(ending)] if ending else out[:-4] if out.endswith(".stc") else out, ending


def _solve(inst, forward, noise_cov, options) -> LassoEstimate:
    return apply_lasso(
        inst, forward, noise_cov, alpha=options.alpha, loose=options.loose, depth=options.depth, rank=options.rank,
        pick_ori=options.pick_ori, alpha_scope=options.alpha_scope, gap=options.gap, random_state=options.random_state,
        device=options.device, threads=options.threads, chunk_size=options.chunk_size, progress=options.progress,
    )


def _files_of(recordings: Iterable[tuple[str, Any]], options: argparse.Namespace) -> list[Path]:
    """The files of the recording: a raw may go on in others."""
    found = [Path(options.data)]
    for _, inst in recordings:
        found += [Path(name) for name in getattr(inst, "filenames", ()) or () if name is not None]
    return list(dict.fromkeys(path.resolve() for path in found))


def _read(mne, options) -> list[tuple[str, Any]]:
    """Titles and instances."""
    kind = mne.what(options.data)
    evokeds = mne.read_evokeds(options.data) if kind == "evoked" else []
    if kind == "evoked" and not evokeds:  # what MNE-Python takes a raw with internal active shielding for
        kind = "raw"
    if kind == "raw":
        raw = mne.io.read_raw_fif(options.data, allow_maxshield="yes")
        found = [("raw", raw)]
    elif kind == "epochs":
        found = [("epochs", mne.read_epochs(options.data, preload=False))]
        found[0][1].drop_bad()
    elif kind == "evoked":
        found = [(evoked.comment or f"condition {k}", evoked) for k, evoked in enumerate(evokeds)]
        if options.condition is not None:
            found = [_condition(options.condition, found)]
    else:
        raise ValueError(f"--data: found {options.data} ({kind or 'unknown'}), wanted a file of raw, epochs or evoked")
    if options.condition is not None and kind != "evoked":
        raise ValueError(f"--condition: found {options.condition!r} with {kind}, wanted evoked in --data")
    for _, inst in found:
        if options.tmin is not None or options.tmax is not None:
            inst.crop(inst.times[0] if options.tmin is None else options.tmin, options.tmax)
        if options.l_freq is not None or options.h_freq is not None:
            if kind != "raw":
                raise ValueError(f"--l-freq, --h-freq: found {kind} in --data, wanted raw")
            inst.load_data().filter(options.l_freq, options.h_freq)
    return found


def _condition(name, found):
    for k, (title, evoked) in enumerate(found):
        if name in (title, str(k)):
            return title, evoked
    known = ", ".join(f"{k} ({title})" for k, (title, _) in enumerate(found))
    raise ValueError(f"--condition: found {name!r}, wanted one of {known}")


class _Output:
    """The files that are written."""

    def __init__(self, options: argparse.Namespace, src: Any):
        out = options.out
        self.stem, self.ending = stem_and_ending(out)
        self.report = Path(f"{self.stem}.html")
        self._surface = src.kind == "surface"
        self._overwrite, self._with_report = options.overwrite, not options.no_report
        if self.ending:
            self._need_h5io()
        elif options.pick_ori == "vector" or src.kind == "mixed" or (not self._surface and len(src) > 1):
            what = "--pick-ori vector" if options.pick_ori == "vector" else "several kinds or volumes of sources"
            raise ValueError(f"--out: found {out} with {what}, wanted a name that ends in .h5")

    @staticmethod
    def _need_h5io() -> None:
        try:
            import h5io  # noqa: F401
        except ImportError as error:
            raise ImportError("--out: .h5 needs the package h5io: pip install h5io") from error

    def names(self, title: str | None, epochs: int | None) -> list[str]:
        """Names to save under of a recording, one for each of its epochs where it has them."""
        stem = self.stem
        if title is not None:
            stem += "-" + "".join(letter if letter.isalnum() else "_" for letter in title)
        return [stem] if epochs is None else [f"{stem}-{k}" for k in range(epochs)]

    def _files(self, name: str) -> list[Path]:
        endings = [self.ending] if self.ending else ["-lh.stc", "-rh.stc"] if self._surface else ["-vl.stc"]
        return [Path(name + ending) for ending in endings]

    def check(self, names: list[str], mine: set[Path]) -> list[Path]:
        """The files that will be written.

        Nothing is overwritten that was not meant to be, and two recordings do not share a name.
        """
        files = [path for name in names for path in self._files(name)]
        if self._with_report:
            files.append(self.report)
        twice = [name for k, name in enumerate(names) if name in names[:k]]
        if twice:
            raise ValueError(f"--data: found two conditions for {twice[0]}, wanted --condition with a number")
        if not self.report.parent.is_dir():
            raise ValueError(f"--out: found {self.stem}, wanted a folder that exists")
        taken = [path for path in files if path.exists() and path not in mine]
        if taken and not self._overwrite:
            raise ValueError(f"--out: found the file {taken[0]}, wanted a name that is free, or --overwrite")
        return files

    def save(self, estimate: LassoEstimate, names: list[str], witness: Witness) -> None:
        stcs = estimate.stc if isinstance(estimate.stc, list) else [estimate.stc]
        for name, stc in zip(names, stcs):
            stc.save(name + self.ending, ftype="h5" if self.ending else "stc", overwrite=True)
            for path in self._files(name):
                witness.wrote(path)


def _new_report(mne, options):
    import matplotlib

    matplotlib.use("Agg")
    return mne.Report(title=f"shrinkwarp-meg: {Path(options.data).name}", verbose="error")
