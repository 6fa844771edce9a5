"""The group page of a cohort: one file of HTML, without anything from elsewhere."""

from __future__ import annotations

from html import escape
from urllib.parse import quote

MARK = '<meta name="generator" content="shrinkwarp-meg group page">'

_STYLE = """
body { font: 15px/1.4 sans-serif; margin: 2em; color: #222; }
table { border-collapse: collapse; margin-top: 1em; }
th, td { padding: .25em .7em; text-align: right; border-bottom: 1px solid #ddd; vertical-align: top; }
th { border-bottom: 2px solid #888; }
th.text, td.text { text-align: left; }
td.error { text-align: left; color: #a00; max-width: 60em; }
tr.first td { border-top: 1px solid #888; }
.done { color: #060; } .failed { color: #a00; } .missed, .running, .none { color: #960; }
"""

_COLUMNS = (("recording", True), ("state", True), ("time (s)", False), ("condition", True), ("samples", False),
            ("over the gap", False), ("largest gap", False), ("explained (%)", False), ("peak (ms)", False),
            ("moment (nAm)", False), ("where (mm)", False))


def group_page(title: str, rows: list[tuple[str, dict | None, str | None]]) -> str:
    """The page.

    Parameters
    ----------
    title : str
    rows : list of (name, record, report)
        Of each recording; `record` is what is beside its output, `report` the way from the page to its own report.
    """
    counts: dict[str, int] = {}
    for _, record, _ in rows:
        state = _state(record)[1]
        counts[state] = counts.get(state, 0) + 1
    seconds = sum(record.get("seconds", 0) for _, record, _ in rows if record is not None)
    total = ", ".join(f"{count} {state}" for state, count in counts.items())
    head = "".join(f"<th{' class=text' if text else ''}>{name}</th>" for name, text in _COLUMNS)
    body = "".join(_row(*row) for row in rows)
    return (
        f"<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">{MARK}\n"
        f"<title>shrinkwarp-meg: {escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        f"<h1>shrinkwarp-meg: {escape(title)}</h1>\n"
        f"<p>{len(rows)} recordings: {total}; {seconds:.1f} s in all. "
        "The gap is relative, a bound for each time sample. The peak is the largest moment of any source at any time, "
        "and where that source is (head frame).</p>\n"
        f"<table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table>\n</body></html>\n"
    )


def _state(record: dict | None) -> tuple[str, str]:
    """Class and words."""
    if record is None:
        return "none", "not run"
    if record["state"] == "done":
        return ("missed", "done, some over the gap") if record["missed"] else ("done", "done")
    return ("failed", "failed") if record["state"] == "failed" else ("running", "unfinished")


def _row(name: str, record: dict | None, report: str | None) -> str:
    kind, words = _state(record)
    shown = escape(name) if report is None else f"<a href=\"{quote(report)}\">{escape(name)}</a>"
    seconds = "" if record is None or "seconds" not in record else f"{record['seconds']:.1f}"
    start = f"<td class=text>{shown}</td><td class=\"text {kind}\">{words}</td><td>{seconds}</td>"
    if kind not in ("done", "missed"):
        error = "" if record is None else escape(record.get("error", ""))
        return f"<tr class=first>{start}<td class=error colspan={len(_COLUMNS) - 3}>{error}</td></tr>\n"
    lines = []
    for condition in record["conditions"]:
        gap, peak = condition["largest_gap"], condition["peak"]
        cells = [str(condition["samples"]), str(condition["missed"]), "" if gap is None else f"{gap:.1e}",
                 f"{condition['explained_percent']:.1f}"]
        if peak is None:
            cells += ["", "0", "no source in use"]
        else:
            when = f"{1000 * peak['time_s']:.1f}" + (f", epoch {peak['epoch']}" if "epoch" in peak else "")
            cells += [when, f"{peak['moment_nAm']:.2f}", "({:.0f}, {:.0f}, {:.0f})".format(*peak["place_mm"])]
        first = "<tr>" + "<td></td>" * 3 if lines else f"<tr class=first>{start}"
        lines.append(f"{first}<td class=text>{escape(condition['title'])}</td>"
                     + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>\n")
    for warning in record["warnings"]:
        cell = f"<td class=\"text missed\" colspan={len(_COLUMNS) - 3}>{escape(warning)}</td>"
        lines.append(f"<tr><td colspan=3></td>{cell}</tr>\n")
    return "".join(lines)
