"""bench/report.py on a file with known figures, and on what the program writes."""
import base64
import html.parser
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree
from pathlib import Path

COMPARE = os.environ["CENOTE_COMPARE"]
REPORT = Path(os.environ["CENOTE_SOURCE"], "bench/report.py")
VOID = {"meta", "img", "br"}


def timing(ms, extra=None):
    found = {"median_ms": ms, "min_ms": ms * 0.9, "p10_ms": ms * 0.95, "p90_ms": ms * 1.1, "samples": 11,
             "calls_per_sample": 1}
    return found if extra is None else {**found, "extra_bytes": extra}


def row(name, shape, cenote, into, torch, peer, **changes):
    contenders = {"cenote": timing(cenote, 2048), "cenote into": timing(into, 0), "torch": timing(torch, 4096),
                  "copy": timing(1.0)}
    if peer is not None:
        contenders["other | lib"] = timing(peer, 1024)
    return {"name": name, "group": "headline", "label": name, "op": "max 3x3 s2", "kernel": [3, 3], "shape": shape,
            "dtype": "f32", "layout": "channels-first", "pass": "forward", "threads": 2, "data": "memory",
            "bytes_moved": 1_000_000, "working_set_bytes": 3_000_000, "contenders": contenders, "left_out": {}, **changes}


class Page(html.parser.HTMLParser):
    """Checks that elements close in order, and collects what the page loads."""

    def __init__(self):
        super().__init__()
        self.open, self.sources, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag):
        if self.open.pop() != tag:
            raise AssertionError(f"</{tag}> closes something else")

    def handle_data(self, data):
        self.text.append(data)


class Report(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="cenote-report-"))
        self.addCleanup(shutil.rmtree, self.folder)

    def write(self, rows):
        document = {"machine": {"processor": "a <b> & c", "threads": "2"}, "run": {"command": "x"}, "rows": rows}
        (self.folder / "compare.json").write_text(json.dumps(document), encoding="utf-8")

    def report(self, code=0):
        result = subprocess.run([sys.executable, REPORT, self.folder], capture_output=True, text=True, timeout=300)
        self.assertEqual(result.returncode, code, result.stdout + result.stderr)
        return result.stderr

    def markdown(self):
        """Section title to its table, a list of rows of cells; every table has straight columns."""
        sections = {}
        for section in (self.folder / "benchmarks.md").read_text(encoding="utf-8").split("\n## ")[1:]:
            title, _, text = section.partition("\n")
            table = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line.startswith("|")]
            self.assertEqual(len({len(cells) for cells in table}), min(len(table), 1), title)
            sections[title] = [[cell.strip().replace("\\|", "|") for cell in cells] for cells in table]
        return sections

    def check_page(self):
        page = Page()
        page.feed((self.folder / "index.html").read_text(encoding="utf-8"))
        self.assertEqual(page.open, [])
        for source in page.sources:
            self.assertTrue(source.startswith("data:image/svg+xml;base64,"), source[:80])
            xml.etree.ElementTree.fromstring(base64.b64decode(source.partition(",")[2]))
        if shutil.which("gnuplot"):
            self.assertEqual(len(page.sources), len(list((self.folder / "charts").glob("*.svg"))))
            self.assertGreater(len(page.sources), 0)
        return "".join(page.text)

    def test_known_figures(self):
        self.write([row("one", [1, 2, 3, 3], 2.0, 1.0, 8.0, 2.0), row("two", [2, 2, 3, 3], 2.0, 1.0, 2.0, 0.5)])
        self.assertEqual(self.report(), "")
        sections = self.markdown()
        means = next(table for title, table in sections.items() if title.startswith("oneDNN's own"))
        self.assertEqual(means[0], ["rows", "shapes", "% of copy", "torch", "other | lib"])
        self.assertEqual(means[2], ["channels-first, forward", "2", "100.00", "2.00", "1.00"])
        slower = sections["Where cenote is slower (1, beyond the spread 1)"][2]
        self.assertEqual(slower, ["0.50", "", "other | lib", "two", "not known"])
        self.assertEqual(sections["All rows"][2][:4], ["torch", "2", "2.00", "1.00"])
        text = self.check_page()
        for words in ("a <b> & c", "Where cenote is slower (1, beyond the spread 1)", "other | lib"):
            self.assertIn(words, text)

    def test_costs_of_size_and_threads(self):
        def large(name, kernel, ms, peer):
            return row(name, [4, 64, 56, 56], 2 * ms, ms, 9.0, peer, group="kernels", op=f"max {kernel}x{kernel} s1",
                       kernel=[kernel])

        def many(name, threads, ms):
            return row(name, [1, 2, 3, 3], 2 * ms, ms, 9.0, None, group="threads", threads=threads)

        self.write([large("kernels max 3x3 s1", 3, 1.0, 2.0), large("kernels max 13x13 s1", 13, 1.5, 8.0),
                    many("threads max [1,2,3,3] t1 cached", 1, 3.0), many("threads max [1,2,3,3] t2 cached", 2, 2.0)])
        self.report()
        sections = self.markdown()
        kernels = sections["Times of large windows over those of small ones"]
        self.assertEqual(kernels[0], ["rows", "cenote", "cenote into", "torch", "other | lib"])
        self.assertEqual(kernels[2:], [["max 13x13 s1 / max 3x3 s1", "1.50", "1.50", "1.00", "4.00"]])
        threads = sections["Times of one thread over those of 2"]
        self.assertEqual(threads[2:], [["max [1,2,3,3] cached", "1.50", "1.50", "1.00", ""]])

    def test_nobody_is_faster(self):
        self.write([row("one", [1, 2, 3, 3], 2.0, 1.0, 8.0, None)])
        self.report()
        self.assertEqual(self.markdown()["Where cenote is slower (0, beyond the spread 0)"], [])
        self.check_page()

    def test_reasons(self):
        tiny = {"data": "cache", "bytes_moved": 5000, "group": "latency"}
        self.write([row("close", [1, 2, 3, 3], 2.0, 1.0, 8.0, 0.98), row("tiny", [1, 2, 3, 3], 2.0, 1.0, 1.0, 0.5, **tiny)])
        self.report()
        table = self.markdown()["Where cenote is slower (3, beyond the spread 2)"]
        found = {(cells[2], cells[3]): (cells[1], cells[4]) for cells in table[2:]}
        self.assertEqual(found["other | lib", "close"], ("within", ""))
        self.assertIn("other | lib did so beforehand", found["other | lib", "tiny"][1])
        self.assertTrue(found["torch", "tiny"][1].endswith("sets up rows"))

    def test_what_the_program_writes(self):
        subprocess.run([COMPARE, "--smoke", "--filter", "(max|avg|latency)", "--out-dir", self.folder], check=True,
                       capture_output=True, timeout=500)
        self.report()
        sections = self.markdown()
        for title in ("All rows", "ops", "latency", "dtypes", "1-D", "3-D"):
            self.assertGreater(len(sections[title]), 2, title)
        self.check_page()

    def test_bad_files(self):
        self.assertIn("cannot read", self.report(code=1))
        (self.folder / "compare.json").write_text("{", encoding="utf-8")
        self.assertIn("cannot read", self.report(code=1))


if __name__ == "__main__":
    unittest.main()
