"""The program `shrinkwarp-meg`: `apply_lasso` from files to files."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, Sequence

from .. import Interrupted
from ._apply import apply_lasso
from ._arguments import require_mne
from ._estimate import LassoEstimate

_DONE, _FAILED, _UNCONVERGED, _INTERRUPTED = 0, 1, 3, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status, which `--help` explains."""
    options = _parser().parse_args(arguments)
    try:
        return _run(options)
    except KeyboardInterrupt:
        print("shrinkwarp-meg: interrupted", file=sys.stderr)
        return _INTERRUPTED
    except (ImportError, OSError, RuntimeError, TypeError, ValueError) as error:
        print(f"shrinkwarp-meg: {error}", file=sys.stderr)
        return _FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="shrinkwarp-meg",
        description="Lasso estimate of the sources of an MEG or EEG recording, sample by sample, with a report.",
        epilog="Exit status: 0 done, 1 failed, 2 wrong usage, 3 done but some sample missed the gap, 130 interrupted.",
    )
    files = parser.add_argument_group("files")
    files.add_argument("--fwd", required=True, metavar="F", help="forward solution (-fwd.fif)")
    files.add_argument("--data", required=True, metavar="R", help="recording: raw, epochs or evoked (.fif)")
    files.add_argument("--cov", required=True, metavar="C", help="noise covariance (-cov.fif)")
    files.add_argument("--out", required=True, metavar="S",
                       help="source estimates: S-lh.stc and S-rh.stc (volumes: S-vl.stc), or one file where S ends in "
                       ".h5; each condition and epoch has its own; S.html is the report")
    files.add_argument("--no-report", action="store_true", help="write no report")
    files.add_argument("--overwrite", action="store_true", help="replace files that exist")
    data = parser.add_argument_group("recording")
    data.add_argument("--condition", metavar="NAME", help="of an evoked file, by name or number (default: all)")
    data.add_argument("--tmin", type=float, metavar="SECONDS", help="from here on")
    data.add_argument("--tmax", type=float, metavar="SECONDS", help="up to here")
    data.add_argument("--l-freq", type=float, metavar="HZ", help="high-pass a raw first, which loads all of it")
    data.add_argument("--h-freq", type=float, metavar="HZ", help="low-pass a raw first, which loads all of it")
    how = parser.add_argument_group("estimate")
    how.add_argument("--alpha", type=_number_or("sure", "discrepancy"), default=50.0, metavar="A",
                     help="percent of lambda_max, sure or discrepancy (default 50)")
    how.add_argument("--alpha-scope", choices=("recording", "sample"), default="recording",
                     help="whose lambda_max (default recording)")
    how.add_argument("--loose", type=_number_or("auto"), default="auto", metavar="L",
                     help="orientation: 0 fixed, 1 free, or between; auto is 0.2 for surfaces, 1 for volumes (default)")
    how.add_argument("--depth", type=float, default=0.8, metavar="D", help="exponent of depth weighting (default 0.8)")
    how.add_argument("--rank", choices=("info", "full"), help="rank of the noise (default: estimated)")
    how.add_argument("--pick-ori", choices=("vector",), help="keep the direction of moments (.h5)")
    how.add_argument("--gap", type=float, default=1e-6, metavar="G", help="relative duality gap (default 1e-6)")
    how.add_argument("--random-state", type=int, metavar="SEED", help="of --alpha sure")
    how.add_argument("--device", default="auto", help="auto, cpu or cuda (default auto)")
    how.add_argument("--threads", type=int, metavar="T", help="of the CPU (default: all)")
    how.add_argument("--chunk-size", type=int, default=16384, metavar="K", help="time samples in memory at once")
    parser.add_argument("--progress", action="store_true", help="show how far it is")
    parser.add_argument("--verbose", action="store_true", help="say what MNE-Python does")
    return parser


def _number_or(*words: str):
    def convert(text: str) -> float | str:
        return text if text in words else float(text)

    convert.__name__ = " or ".join(("number", *words))  # argparse names it in its errors
    return convert


def _run(options: argparse.Namespace) -> int:
    mne = require_mne()
    with mne.use_log_level("info" if options.verbose else "error"):
        recordings = _read(mne, options)
        forward = mne.read_forward_solution(options.fwd)
        noise_cov = mne.read_cov(options.cov)
        out = _Output(options, forward["src"])
        parts = [len(inst) if isinstance(inst, mne.BaseEpochs) else None for _, inst in recordings]
        titles = [title if len(recordings) > 1 else None for title, _ in recordings]
        names = [out.names(title, count) for title, count in zip(titles, parts)]
        out.check([name for group in names for name in group])
        report = None if options.no_report else _new_report(mne, options)
        status = _DONE
        for (title, inst), group in zip(recordings, names):
            try:
                estimate, interrupted = _solve(inst, forward, noise_cov, options), False
            except Interrupted as interrupt:
                estimate, interrupted = interrupt.result, True
            out.save(estimate, group)
            if interrupted:
                print("shrinkwarp-meg: interrupted; samples that were not reached have no sources", file=sys.stderr)
                return _INTERRUPTED
            missed = int((~estimate.converged).sum())
            if missed:
                text = f"{missed} of {len(estimate.lam)} samples of {title} have a gap over {options.gap:g}"
                print(f"shrinkwarp-meg: {text}", file=sys.stderr)
                status = _UNCONVERGED
            if report is not None:
                from ._report import add_to_report

                given = dict(loose=options.loose, depth=options.depth, rank=options.rank, gap=options.gap)
                add_to_report(report, title, estimate, noise_cov, forward, given)
        if report is not None:
            report.save(out.report, open_browser=False, overwrite=True)
            print(out.report)
    return status


def _solve(inst, forward, noise_cov, options) -> LassoEstimate:
    return apply_lasso(
        inst, forward, noise_cov, alpha=options.alpha, loose=options.loose, depth=options.depth, rank=options.rank,
        pick_ori=options.pick_ori, alpha_scope=options.alpha_scope, gap=options.gap, random_state=options.random_state,
        device=options.device, threads=options.threads, chunk_size=options.chunk_size, progress=options.progress,
    )


def _read(mne, options) -> list[tuple[str, Any]]:
    """Titles and instances."""
    kind = mne.what(options.data)
    if kind == "raw":
        raw = mne.io.read_raw_fif(options.data, allow_maxshield="yes")
        found = [("raw", raw)]
    elif kind == "epochs":
        found = [("epochs", mne.read_epochs(options.data, preload=False))]
        found[0][1].drop_bad()
    elif kind == "evoked":
        evokeds = mne.read_evokeds(options.data)
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
        self.ending = next((ending for ending in ("-stc.h5", ".h5") if out.endswith(ending)), "")
        self.stem = out[:-len(self.ending)] if self.ending else out[:-4] if out.endswith(".stc") else out
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

    def check(self, names: list[str]) -> None:
        """Nothing is overwritten that was not meant to be, and two recordings do not share a name."""
        files = [path for name in names for path in self._files(name)]
        if self._with_report:
            files.append(self.report)
        twice = [name for k, name in enumerate(names) if name in names[:k]]
        if twice:
            raise ValueError(f"--data: found two conditions for {twice[0]}, wanted --condition with a number")
        if not self.report.parent.is_dir():
            raise ValueError(f"--out: found {self.stem}, wanted a folder that exists")
        taken = [path for path in files if path.exists()]
        if taken and not self._overwrite:
            raise ValueError(f"--out: found the file {taken[0]}, wanted a name that is free, or --overwrite")

    def save(self, estimate: LassoEstimate, names: list[str]) -> None:
        stcs = estimate.stc if isinstance(estimate.stc, list) else [estimate.stc]
        for name, stc in zip(names, stcs):
            stc.save(name + self.ending, ftype="h5" if self.ending else "stc", overwrite=True)
            for path in self._files(name):
                print(path)


def _new_report(mne, options):
    import matplotlib

    matplotlib.use("Agg")
    return mne.Report(title=f"shrinkwarp-meg: {Path(options.data).name}", verbose="error")
