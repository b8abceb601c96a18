#!/usr/bin/env python3
"""Makes benchmarks.md, charts and one page index.html from the compare.json of cenote_compare.

Usage: report.py FOLDER, which holds compare.json and gets the rest. Needs Python's standard library, and gnuplot
for the charts.
"""
import base64
import html
import sys
from pathlib import Path

import charts
from reasons import reason
from results import CENOTE, COPY, COPY_PAST, INTO, Results, geometric_mean

METHOD = """\
Times are medians of interleaved turns in milliseconds, of several calls where one is too short for the clock; the
spread is the 10th and the 90th percentile. `cenote` and `torch` allocate what they return and are compared with each
other; `into` is cenote writing to memory that is there, as the other libraries do, and is compared with them. A ratio is
the other's time divided by cenote's: above 1, cenote is faster. `copy` reads half and writes half of the bytes that the
op must move: inputs, outputs, for a backward also the compact record, or x where the gradient depends on it; it is a
`memcpy` per thread, and `copy past caches` is the same by stores past the caches, on x86-64. All outputs
were compared before anything was timed. Successive calls walk through buffers that no cache holds, but in rows marked
`cached`, which use the same ones again. *blocked* is a library's own layout, in which its data lay before: reordering is
not timed. An op that torch has no kernel for meets an expression of its other ops; there the backward of both is
autograd's, of a recorded forward, and `autograd` is forward and backward through autograd. oneDNN of PyPI runs by way of
SYCL, which costs some microseconds per call. Pools of threads take turns: before another one works, the last one
sleeps."""


def write_atomically(path, text):
    unfinished = path.with_name(path.name + ".new")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)


# ---- tables: a title, a header, and rows of text ----------------------------------------------------


def facts_table(results):
    facts = {**results.run, **results.machine}
    return "", ["", ""], [[name, str(value)] for name, value in facts.items()]


def ratio_text(value):
    return "" if value is None else f"{value:.2f}"


def slower_table(results):
    found = results.slower()
    beyond = sum(row.beyond_spread(peer) for _, peer, row in found)
    rows = [[f"{ratio:.2f}", "" if row.beyond_spread(peer) else "within", peer, row.name,
             reason(row, peer) if row.beyond_spread(peer) else ""] for ratio, peer, row in found]
    return (f"Where cenote is slower ({len(found)}, beyond the spread {beyond})",
            ["ratio", "spread", "than", "row", "why"], rows)


def headline_table(results):
    body = []
    for layout in ("channels-first", "channels-last"):
        for run in ("forward", "backward", "autograd"):
            rows = results.chosen(group="headline", layout=layout, **{"pass": run})
            if rows:
                body.append([f"{layout}, {run}", str(len(rows)), ratio_text(
                    geometric_mean(row.copy_percent(row.best) for row in rows))] +
                            [ratio_text(geometric_mean(row.ratio(peer) for row in rows if row.has(peer)))
                             for peer in results.peers])
    return ("oneDNN's own benchmark shapes: geometric means of the ratios",
            ["rows", "shapes", "% of copy", *results.peers], body)


def peer_table(results):
    body = []
    for peer in results.peers:
        rows = [row for row in results.rows if row.has(peer)]
        ratios = sorted(row.ratio(peer) for row in rows)
        body.append([peer, str(len(rows)), ratio_text(geometric_mean(ratios)), ratio_text(ratios[0]),
                     ratio_text(ratios[len(ratios) // 2]), ratio_text(ratios[-1]),
                     str(sum(ratio < 1 for ratio in ratios))])
    return "All rows", ["peer", "rows", "geometric mean", "least", "median", "most", "cenote slower"], body


def group_table(results):
    body = []
    for group in results.groups():
        rows = results.chosen(group=group)
        memory = [row for row in rows if row.from_memory]
        body.append([group, str(len(rows)), ratio_text(geometric_mean(row.copy_percent(row.best) for row in memory))] +
                    [ratio_text(geometric_mean(row.ratio(peer) for row in rows if row.has(peer)))
                     for peer in results.peers])
    return "By group: geometric means", ["group", "rows", "% of copy", *results.peers], body


def times_table(results, title, pairs):
    """pairs: (text, row, the row that its times are divided by)"""
    contenders = [CENOTE, INTO, *results.peers]

    def cell(row, base, contender):
        return ratio_text(row.ms(contender) / base.ms(contender)) if row.has(contender) and base.has(contender) else ""

    return title, ["rows", *contenders], [[text] + [cell(row, base, c) for c in contenders] for text, row, base in pairs]


def kernels_table(results):
    pairs = []
    for group, small, large in (("kernels", 3, 13), ("1-D kernels", 8, 1024)):
        for row in results.chosen(group=group, kernel=[large]):
            for base in results.chosen(group=group, kernel=[small], layout=row.layout):
                if base.op.split()[0] == row.op.split()[0]:
                    pairs.append((f"{row.name.removeprefix(group + ' ')} / {base.op}", row, base))
    return times_table(results, "Times of large windows over those of small ones", pairs)


def threads_table(results):
    most = max((row.threads for row in results.chosen(group="threads")), default=1)
    pairs = []
    for row in results.chosen(group="threads", threads=1):
        for base in results.chosen(group="threads", threads=most):
            if most > 1 and base.name == row.name.replace(" t1", f" t{most}"):
                pairs.append((row.name.removeprefix("threads ").replace(" t1", ""), row, base))
    return times_table(results, f"Times of one thread over those of {most}", pairs)


def memory_table(results):
    """One row per op and pass: the largest that was measured."""
    largest = {}
    for row in results.rows:
        key = (row.op, row.layout, row.data["pass"])
        if key not in largest or row.bytes_moved > largest[key].bytes_moved:
            largest[key] = row
    contenders = [CENOTE, INTO, *results.peers]

    def cell(row, contender):
        extra = row.contenders.get(contender, {}).get("extra_bytes")
        return "" if extra is None else f"{extra / 1024:.0f}"

    return ("Heap beside the result, KiB (including what a library makes beforehand; `into` returns nothing)",
            ["op", "layout", "pass", "moved MiB", *contenders],
            [[*key, f"{row.bytes_moved / 2**20:.1f}"] + [cell(row, c) for c in contenders]
             for key, row in largest.items()])


def rows_table(results, group):
    header = ["row", "moved MiB", "cenote ms", "into ms", "p10..p90", "copy ms", "% of copy", "GB/s", "copy past caches ms",
              *(f"{peer} ms (ratio)" for peer in results.peers)]
    body = []
    for row in results.chosen(group=group):
        best = row.contenders[row.best]
        peers = [f"{row.ms(peer):.4g} ({row.ratio(peer):.2f})" if row.has(peer) else "" for peer in results.peers]
        body.append([row.name.removeprefix(group + " "), f"{row.bytes_moved / 2**20:.4g}", f"{row.ms(CENOTE):.4g}",
                     f"{row.ms(INTO):.4g}" if row.has(INTO) else "", f"{best['p10_ms']:.4g}..{best['p90_ms']:.4g}",
                     f"{row.ms(COPY):.4g}", f"{row.copy_percent(row.best):.0f}",
                     f"{row.gigabytes_per_second(row.best):.1f}",
                     f"{row.ms(COPY_PAST):.4g}" if row.has(COPY_PAST) else "", *peers])
    return group, header, body


def left_out_table(results):
    found = {}
    for row in results.rows:
        for peer, reason in row.left_out.items():
            found[peer, reason] = found.get((peer, reason), 0) + 1
    return "Left out", ["peer", "rows", "reason"], [[peer, str(count), reason] for (peer, reason), count in found.items()]


def tables(results):
    return [headline_table(results), peer_table(results), slower_table(results), group_table(results),
            kernels_table(results), threads_table(results), memory_table(results), left_out_table(results), *(rows_table(results, group) for group in results.groups())]


# ---- pages ------------------------------------------------------------------------------------------


def markdown_table(header, body):
    def line(cells):
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    return "\n".join([line(header), "|" + "---|" * len(header), *map(line, body)])


def markdown(results):
    parts = ["# cenote against other libraries", markdown_table(*facts_table(results)[1:]), METHOD]
    for title, header, body in tables(results):
        parts += [f"## {title}", markdown_table(header, body) if body else "None."]
    return "\n\n".join(parts) + "\n"


STYLE = """\
body { font: 15px/1.5 sans-serif; max-width: 1200px; margin: 2em auto; padding: 0 1em; color: #222; background: #fff }
table { border-collapse: collapse; font-size: 13px; margin: 1em 0; display: block; overflow-x: auto }
td, th { border: 1px solid #ccc; padding: 2px 8px; text-align: left; white-space: nowrap }
th { background: #f0f3f6; position: sticky; top: 0 } tr:nth-child(even) td { background: #fafbfc }
img { max-width: 100%; height: auto; margin: 1em 0; border: 1px solid #ddd }
"""


def html_table(header, body):
    def line(cells, tag):
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    head = f"<thead>{line(header, 'th')}</thead>" if any(header) else ""
    return "<table>" + head + "<tbody>" + "\n".join(line(cells, "td") for cells in body) + "</tbody></table>"


def picture(folder, name, title):
    data = base64.b64encode((folder / f"{name}.svg").read_bytes()).decode()
    return f'<img alt="{html.escape(title)}" src="data:image/svg+xml;base64,{data}">'


def page(results, folder, drawn, no_charts):
    all_tables = tables(results)
    parts = ["<!doctype html>", '<html lang="en"><head><meta charset="utf-8">',
             f"<title>cenote against other libraries</title><style>{STYLE}</style></head><body>",
             "<h1>cenote against other libraries</h1>", html_table(*facts_table(results)[1:]),
             f"<p>{html.escape(METHOD)}</p>"]
    for i, (title, header, body) in enumerate(all_tables):
        parts.append(f"<h2>{html.escape(title)}</h2>")
        parts.append(html_table(header, body) if body else "<p>None.</p>")
        if i == 2:  # after what matters most
            parts.append("<h2>Charts</h2>")
            parts += [picture(folder, name, chart) for name, chart in drawn]
            parts += [f"<p>{html.escape(no_charts)}</p>"] if no_charts else []
    return "\n".join(parts) + "\n</body></html>\n"


def main():
    if len(sys.argv) != 2:
        print("usage: report.py FOLDER", file=sys.stderr)
        return 2
    folder = Path(sys.argv[1])
    try:
        results = Results(folder / "compare.json")
    except (OSError, ValueError, KeyError) as error:
        print(f"report: cannot read {folder / 'compare.json'}: {error}", file=sys.stderr)
        return 1
    drawn, no_charts = charts.draw(results, folder / "charts")
    if no_charts:
        print(f"report: {no_charts}", file=sys.stderr)
    write_atomically(folder / "benchmarks.md", markdown(results))
    write_atomically(folder / "index.html", page(results, folder / "charts", drawn, no_charts))
    print(f"written: {folder / 'benchmarks.md'}, {folder / 'index.html'} and {len(drawn)} charts")
    return 0


if __name__ == "__main__":
    sys.exit(main())
