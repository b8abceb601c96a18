"""The charts, drawn by gnuplot (docs/decisions/0007-charts.md) as SVG and PNG.

Each chart is a name, a title, and a gnuplot script with its data; the script reads no file.
"""
import math
import shutil
import subprocess
from pathlib import Path

from results import CENOTE, COPY, INTO, TORCH

COLOURS = {INTO: "#0b5fa5", CENOTE: "#7fb2dd", TORCH: "#e8731a", COPY: "#777777"}
PEER_COLOURS = ["#1b8a3a", "#8fce9f", "#7a4fa3", "#c3a6dd", "#b3202c", "#b58900", "#4d4d4d"]


def colours(results):
    others = [peer for peer in results.peers if peer != TORCH]
    return {**COLOURS, **{peer: PEER_COLOURS[i % len(PEER_COLOURS)] for i, peer in enumerate(others)}}


def quoted(text):
    return "'" + str(text).replace("'", "''") + "'"


def number(value):
    return "NaN" if value is None or math.isnan(value) else f"{value:.6g}"


class Chart:
    def __init__(self, name, title, size=(1000, 480)):
        self.name, self.title, self.size = name, title, size
        self.lines = ["set datafile missing 'NaN'", "set key outside top center horizontal", "set grid ytics",
                      f"set title {quoted(title)} noenhanced", "set xtics noenhanced", "set key noenhanced"]

    def add(self, *lines):
        self.lines += lines

    def data(self, name, rows):
        self.add(f"${name} << EOD", *(" ".join(row) for row in rows), "EOD")

    def script(self, terminal, path):
        font = "font 'sans-serif,11'"
        width, height = self.size
        head = [f"set terminal {terminal} size {width},{height} background rgb 'white' {font}", f"set output {quoted(path)}"]
        return "\n".join(head + self.lines) + "\n"


def label(row):
    shape = "x".join(map(str, row.shape))
    return f"{row.label or row.op} {shape}"


def bars(results, name, title, rows, value, y_label, contenders):
    """Bars of all contenders for each row."""
    shown = [c for c in contenders if any(row.has(c) for row in rows)]
    chart = Chart(name, title, (max(1000, 70 + 45 * len(rows)), 680))
    chart.data("bars", (['"' + label(row) + '"'] +
                        [number(value(row, c) if row.has(c) else None) for c in shown] for row in rows))
    chart.add("set style data histogram", "set style histogram clustered gap 1", "set style fill solid",
              "set xtics rotate by 40 right noenhanced", "set bmargin 14", f"set ylabel {quoted(y_label)}")
    palette = colours(results)
    chart.add("plot " + ", ".join(f"$bars using {i + 2}:xtic(1) title {quoted(c)} linecolor rgb '{palette[c]}'"
                                  for i, c in enumerate(shown)))
    return chart


def lines(results, chart, x_label, y_label, series):
    """`series` is a list of (contender, dash, title, points)."""
    palette = colours(results)
    chart.add(f"set xlabel {quoted(x_label)}", f"set ylabel {quoted(y_label)}", "set grid xtics")
    plots = []
    for i, (contender, dash, title, points) in enumerate(series):
        chart.data(f"line{i}", ([number(x), number(y)] for x, y in sorted(points)))
        width = 3 if contender in (INTO, CENOTE) else 1.5
        plots.append(f"$line{i} with linespoints linewidth {width} dashtype {dash} pointtype 7 pointsize 0.5 "
                     f"linecolor rgb '{palette[contender]}' title {quoted(title)}")
    chart.add("plot " + ", ".join(plots))
    return chart


def series_of(results, rows, x, y):
    """One line per contender and op."""
    ops = list(dict.fromkeys(row.op.split()[0] for row in rows))
    found = []
    for i, op in enumerate(ops):
        for contender in [INTO, *results.peers, COPY]:
            points = [(x(row), y(row, contender)) for row in rows if row.op.split()[0] == op and row.has(contender)]
            if points:
                found.append((contender, i + 1, contender if len(ops) == 1 else f"{contender}, {op}", points))
    return found


def headline_charts(results):
    contenders = [INTO, *results.peers]
    for layout in ("channels-first", "channels-last"):
        for run in ("forward", "backward"):
            rows = results.chosen(group="headline", layout=layout, **{"pass": run})
            if rows:
                yield bars(results, f"headline-{layout}-{run}", f"Speed relative to a copy of the same bytes: {run}, {layout}",
                           rows, lambda row, c: row.copy_percent(c), "% of the speed of a copy", contenders)


def latency_charts(results):
    for layout in ("channels-first", "channels-last"):
        rows = results.chosen(group="latency", layout=layout)
        if rows:
            chart = bars(results, f"latency-{layout}", f"Tiny tensors in the cache: {layout}", rows,
                         lambda row, c: 1e3 * row.ms(c), "microseconds per call", [INTO, CENOTE, *results.peers])
            chart.lines.insert(0, "set logscale y")
            yield chart


def sweep_charts(results):
    kernel = ("kernel (elements along an axis)", "milliseconds per call")
    for group, layout, name in (("1-D kernels", "channels-first", "1d"), ("kernels", "channels-first", "2d-first"),
                                ("kernels", "channels-last", "2d-last")):
        for op in ("max", "avg"):
            rows = [row for row in results.chosen(group=group, layout=layout) if row.op.startswith(op)]
            if len(rows) > 1:
                chart = Chart(f"kernel-{name}-{op}", f"Time against the kernel: {op}, {group}, {layout}")
                chart.add("set logscale xy")
                yield lines(results, chart, *kernel,
                            series_of(results, rows, lambda row: row.kernel[0], lambda row, c: row.ms(c)))
    for layout in ("channels-first", "channels-last"):
        rows = results.chosen(group="batch", layout=layout)
        if len(rows) > 1:
            chart = Chart(f"batch-{layout}", f"Bytes per second against the batch: {rows[0].op} [n,64,112,112], {layout}")
            chart.add("set logscale x 2", "set yrange [0:*]")
            yield lines(results, chart, "batch", "GB/s",
                        series_of(results, rows, lambda row: row.shape[0], lambda row, c: row.gigabytes_per_second(c)))
        for run in ("forward", "backward"):
            rows = [row for row in results.chosen(group="threads", layout=layout, **{"pass": run})
                    if row.op.startswith("max") and row.from_memory]
            if len(rows) > 1:
                chart = Chart(f"threads-{layout}-{run}", f"Bytes per second against threads: {rows[0].op}, {run}, {layout}")
                chart.add("set yrange [0:*]", "set xtics 1")
                yield lines(results, chart, "threads", "GB/s",
                            series_of(results, rows, lambda row: row.threads, lambda row, c: row.gigabytes_per_second(c)))


def copy_chart(results):
    rows = [row for row in results.rows if row.from_memory and row.dtype == "f32"]
    chart = Chart("against-copy", "Bytes per second against those of a copy: f32, data beyond the caches", (760, 640))
    palette = colours(results)
    chart.add("set xlabel 'GB/s of a copy of the same bytes'", "set ylabel 'GB/s'", "set logscale xy",
              "set format xy '%g'")
    plots = ["x with lines linecolor rgb '#777777' title 'as fast as the copy'"]
    for i, contender in enumerate([*results.peers, INTO]):
        points = [[number(row.gigabytes_per_second(COPY)), number(row.gigabytes_per_second(contender))]
                  for row in rows if row.has(contender)]
        if points:
            chart.data(f"points{i}", points)
            plots.append(f"$points{i} with points pointtype 7 pointsize 0.4 linecolor rgb '{palette[contender]}' "
                         f"title {quoted(contender)}")
    chart.add("plot " + ", ".join(plots))
    return [chart] if len(rows) > 1 else []


def all_charts(results):
    return [*headline_charts(results), *copy_chart(results), *sweep_charts(results), *latency_charts(results)]


def draw(results, folder):
    """Writes NAME.svg and NAME.png into `folder`; returns (name, title) of each, or the reason why there is none."""
    if not shutil.which("gnuplot"):
        return [], "gnuplot is not installed: no charts (apt-get install gnuplot-nox)"
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    for chart in all_charts(results):
        for terminal, suffix in (("svg", "svg"), ("pngcairo", "png")):
            unfinished = f"{chart.name}.new.{suffix}"
            done = subprocess.run(["gnuplot", "-d"], input=chart.script(terminal, unfinished), cwd=folder, text=True,
                                  capture_output=True, check=False)
            if done.returncode != 0:
                return drawn, f"gnuplot failed on {chart.name}: {done.stderr.strip()}"
            (folder / unfinished).replace(folder / f"{chart.name}.{suffix}")
        drawn.append((chart.name, chart.title))
    return drawn, ""
