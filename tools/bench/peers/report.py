"""The table of a run, from its JSON lines: ratios first, then everybody's figures."""

from .measure import MISSED, MISSING, REACHED

NONE = "-"
CROWDED = 0.05  # a figure is marked where something waited for a processor for more than this share of its time


def number(value):
    """12,345, 12.3, 0.0123."""
    if value is None:
        return NONE
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def duration(seconds):
    if seconds is None:
        return NONE
    if seconds < 1e-6:
        return "0 s"
    for unit, size in (("s", 1), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} us"


def speed(line):
    """What is compared: problems a second, set-up included, or calls a second for one problem."""
    if line["status"] != REACHED:
        return None
    return 1 / line["median_seconds"] if line["problems"] == 1 else line["problems_per_second"]


def best(lines):
    fast = [line for line in lines if speed(line) is not None]
    return max(fast, key=speed, default=None)


def ratio(lines):
    """The best of ours over the best peer; None where either is missing."""
    ours, peers = best([line for line in lines if line["ours"]]), best([line for line in lines if not line["ours"]])
    return speed(ours) / speed(peers) if ours and peers else None


def grouped(lines, *keys):
    """{(values of the keys): lines}, in the order of the lines."""
    groups = {}
    for line in lines:
        groups.setdefault(tuple(line[key] for key in keys), []).append(line)
    return groups


def render(lines):
    if not lines:
        return "nothing was measured\n"
    first = lines[0]
    head = [f"{first['cpu']}, OpenBLAS with {first['openblas']} kernels, commit {first['commit']}",
            f"$ {first['command']}", ""]
    return "\n".join([*head, *ratios(lines), *details(lines)]) + "\n"


def ratios(lines):
    """A row a case, number of problems and number of threads; a column a lambda."""
    out = ["ours / best peer", ""]
    for (problems, threads), some in grouped(lines, "problems", "threads").items():
        labels = list(grouped(some, "lambda_rule"))
        out.append(f"{counted(problems)}, {counted_threads(threads)}" + (" (latency)" if problems == 1 else ""))
        for (case,), of_case in grouped(some, "case").items():
            by_label = grouped(of_case, "lambda_rule")
            cells = [f"{label[0]}: {times(ratio(by_label[label]))}" for label in labels if label in by_label]
            out.append(f"  {case:18}{'  '.join(f'{cell:24}' for cell in cells)}".rstrip())
        out.append("")
    return out


def times(value):
    return NONE if value is None else number(value)


def counted(problems):
    return f"N = {problems:,}"


def counted_threads(threads):
    return f"{threads} thread" + "s" * (threads > 1)


def details(lines):
    out = []
    for (case, problems, threads, rule), some in grouped(lines, "case", "problems", "threads", "lambda_rule").items():
        one = some[0]
        out.append(f"{case} {one['rows']} x {one['atoms']} ({one['origin']}), {counted(problems)}, "
                   f"{counted_threads(threads)}, lambda {rule}: ours / best peer {times(ratio(some))}")
        if problems == 1:
            out.append(f"  {'median':>10}  {'99 %':>10}  {'calls':>7}  {'worst gap':>9}")
        else:
            out.append(f"  {'problems/s':>10}  {'prepared':>10}  {'set-up':>8}  {'measured':>8}  {'worst gap':>9}")
        out += [row(line) for line in sorted(some, key=lambda line: -(speed(line) or 0))]
        out.append("")
    if any(line["status"] == REACHED and line["problems"] > line["solved"] for line in lines if line["problems"] > 1):
        out.append("measured: how many were solved; the time of all is extrapolated from them, the set-up made once")
    if any(is_crowded(line) for line in lines):
        out.append(f"!: for over {CROWDED:.0%} of its time something waited for a processor; for one's own use")
    batches = sorted({line["peer"] for line in lines if "batch" in line["stops"]})
    if batches:
        out.append(f"all problems of a batch go on until its worst has the gap: {', '.join(batches)}")
    return out


def is_crowded(line):
    return line["crowded"] is not None and line["crowded"] > CROWDED


def row(line):
    way = ", ".join(part for part in (line["variant"], line["setting"]) if part)
    name = line["peer"] + (f" ({way})" if way else "") + (" !" if is_crowded(line) else "")
    gap = NONE if line["worst_gap"] is None else f"{line['worst_gap']:.1e}"
    if line["status"] == MISSING:
        return f"  {'missing':>10}  {name}: {line['reason']}"
    if line["status"] == MISSED:
        return f"  {'missed':>10}  {name}: gap {gap}; {line['reason']}"
    if line["problems"] == 1:
        return (f"  {duration(line['median_seconds']):>10}  {duration(line['p99_seconds']):>10}  {line['calls']:>7,}  "
                f"{gap:>9}  {name}")
    return (f"  {number(line['problems_per_second']):>10}  {number(line['problems_per_second_prepared']):>10}  "
            f"{duration(line['setup_seconds']):>8}  {line['solved']:>8,}  {gap:>9}  {name}")
