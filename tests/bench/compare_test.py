"""The benchmark program on small shapes: the table, compare.json, resuming, Ctrl-C and bad arguments."""
import json
import os
import shutil
import signal
import subprocess
import tempfile
import unittest
from pathlib import Path

COMPARE = os.environ["CENOTE_COMPARE"]
PEERS = ["oneDNN 2", "oneDNN 3", "XNNPACK", "ONNX Runtime"]
OURS = {"cenote", "cenote into", "copy", "copy past caches"}
TIMING = ["median_ms", "min_ms", "p10_ms", "p90_ms", "samples", "calls_per_sample"]


class BenchTest(unittest.TestCase):
    """Runs each test in a folder of its own."""

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="cenote-bench-")
        self.addCleanup(shutil.rmtree, self.folder)

    def run_compare(self, *args, code=0):
        result = subprocess.run([COMPARE, "--out-dir", self.folder, *args], capture_output=True, text=True, timeout=500)
        self.assertEqual(result.returncode, code, result.stdout + result.stderr)
        return result.stderr if code else result.stdout

    def document(self):
        with open(os.path.join(self.folder, "compare.json"), encoding="utf-8") as file:
            return json.load(file)


class Compare(BenchTest):
    def check_timing(self, timing):
        self.assertEqual(list(timing)[:len(TIMING)], TIMING)
        self.assertGreater(timing["min_ms"], 0)
        self.assertLessEqual(timing["min_ms"], timing["p10_ms"])
        self.assertLessEqual(timing["p10_ms"], timing["median_ms"])
        self.assertLessEqual(timing["median_ms"], timing["p90_ms"])
        self.assertGreaterEqual(timing["samples"], 1)

    def check_row(self, row):
        contenders = row["contenders"]
        for name in ("cenote", "torch", "copy"):
            self.assertNotEqual(name in contenders, name in row["left_out"])
        self.assertEqual("cenote into" in contenders, row["pass"] != "autograd")
        for timing in contenders.values():
            self.check_timing(timing)
        self.assertGreater(row["bytes_moved"], 0)
        self.assertEqual(row["working_set_bytes"] % row["bytes_moved"], 0)
        self.assertIn(row["layout"], ("channels-first", "channels-last"))
        self.assertGreaterEqual(contenders["cenote"]["extra_bytes"], 0)

    def test_every_kind_of_row(self):
        table = self.run_compare("--smoke")
        document = self.document()
        for fact in ("processor", "caches", "compiler", "threads", "cenote", "torch"):
            self.assertIn(fact, document["machine"])
        names = [row["name"] for row in document["rows"]]
        self.assertEqual(len(names), len(set(names)))
        self.assertGreater(len(names), 60)
        for row in document["rows"]:
            self.check_row(row)
            self.assertIn(f"\n{row['name']} ", table)
        self.assertEqual({row["dtype"] for row in document["rows"]}, {"f32", "f64", "f16", "bf16", "u8"})
        self.assertEqual({row["pass"] for row in document["rows"]}, {"forward", "forward+indices", "backward", "autograd"})
        self.assertIn(f"{len(names)} rows, ", table)
        refused = [row["name"] for row in document["rows"] if "torch" in row["left_out"]]
        self.assertEqual(refused, ["dtypes max 2x2 s2 [1,16,14,14] u8 channels-last forward"])
        reasons = {reason for row in document["rows"] for reason in row["left_out"].values()}
        self.assertNotIn("its output differs from torch's", reasons)

    def test_check_compares_and_writes_nothing(self):
        text = self.run_compare("--smoke", "--check", "--filter", "^(ops max|dtypes)")
        self.assertIn(" rows, 0 outputs of peers differ", text)
        self.assertEqual(os.listdir(self.folder), [])

    def test_torch_compile_on_request(self):
        self.run_compare("--smoke", "--torch-compile", "--filter", "^latency .*channels-last forward")
        [row] = self.document()["rows"]
        compiled = row["contenders"].get("torch.compile")
        if compiled is None:  # it wants a compiler and Python's headers; without them it is named
            self.assertIn("torch.compile", row["left_out"])
            self.assertNotEqual(row["left_out"]["torch.compile"], "its output differs from torch's")
        else:
            self.check_timing(compiled)

    def test_known_bytes(self):
        self.run_compare("--smoke", "--filter", r"^ops max 2x2 s2 .*channels-first")
        plane, outputs = 2 * 20 * 14 * 14, 2 * 20 * 7 * 7
        expected = {"forward": 4 * plane + 4 * outputs,
                    "forward+indices": 4 * plane + (4 + 8) * outputs,
                    "backward": 4 * plane + (4 + 1) * outputs}
        self.assertEqual({row["pass"]: row["bytes_moved"] for row in self.document()["rows"]}, expected)

    def test_resume_keeps_rows_and_adds_the_others(self):
        self.run_compare("--smoke", "--filter", "^ops GAP .*channels-first")
        first = self.document()["rows"]
        self.run_compare("--smoke", "--filter", "^ops GAP", "--resume")
        both = self.document()["rows"]
        self.assertEqual(both[:len(first)], first)
        self.assertEqual(len(both), 2 * len(first))

    def test_resume_refuses_the_figures_of_another_machine(self):
        self.run_compare("--smoke", "--filter", "^ops GAP .*channels-first forward")
        document = self.document()
        document["machine"]["processor"] = "another"
        with open(os.path.join(self.folder, "compare.json"), "w", encoding="utf-8") as file:
            json.dump(document, file)
        self.assertIn("another machine", self.run_compare("--smoke", "--resume", code=1))

    def test_interrupt_leaves_what_was_measured(self):
        command = [COMPARE, "--out-dir", self.folder, "--filter", "^latency", "--min-time", "0.2"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            line = ""
            while not line.startswith("latency"):
                line = process.stdout.readline()
                self.assertTrue(line, "the program ended before its first row")
            process.send_signal(signal.SIGINT)
            rest = process.stdout.read()
        self.assertEqual(process.returncode, 128 + signal.SIGINT)
        self.assertIn("--resume goes on", rest)
        rows = self.document()["rows"]
        self.assertGreaterEqual(len(rows), 1)
        for row in rows:
            self.check_row(row)

    def test_peers_can_be_left_out(self):
        without = [word for name in PEERS for word in ("--without", name)]
        self.run_compare("--smoke", "--filter", "^ops max 2x2 s2 .* forward$", *without)
        document = self.document()
        for name in PEERS:
            self.assertEqual(document["machine"][name], "not measured: left out by --without")
        for row in document["rows"]:
            self.assertEqual(set(row["contenders"]) - OURS, {"torch"})

    def test_instruction_set_is_limited(self):
        self.run_compare("--smoke", "--isa", "sse9", code=2)
        if " avx2 " not in Path("/proc/cpuinfo").read_text(encoding="utf-8"):
            self.skipTest("this processor has no AVX2")
        self.run_compare("--smoke", "--isa", "avx2", "--filter", "^latency max 2x2 s2 .* channels-first")
        document = self.document()
        self.assertTrue(document["machine"]["cenote"].endswith("CPU target avx2"))
        self.assertTrue(document["machine"]["torch"].endswith("AVX2"))
        self.assertIn("avx2", document["run"]["instruction set"])

    def test_peers_that_are_found_are_compared(self):
        self.run_compare("--smoke", "--filter", "^ops max 2x2 s2 .* forward$")
        document = self.document()
        versions = [name for name in document["machine"] if name.startswith(tuple(PEERS))]
        self.assertGreaterEqual(len(versions), len(PEERS))
        found = {name for name in versions if not document["machine"][name].startswith("not measured: ")}
        compared = {name.removesuffix(" blocked") for row in document["rows"] for name in row["contenders"]}
        self.assertEqual(found, compared - OURS - {"torch"})

    def test_names_of_rows_are_unique(self):
        quick = self.run_compare("--list", "--quick").splitlines()
        full = self.run_compare("--list").splitlines()
        self.assertEqual(len(full), len(set(full)))
        self.assertLessEqual(set(quick), set(full))
        self.assertEqual(len(quick), len(set(quick)))

    def test_the_headline_has_33_shapes(self):
        names = self.run_compare("--list", "--filter", "^headline .*channels-first forward").splitlines()
        self.assertEqual(len(names), 33)

    def test_bad_arguments(self):
        for bad in (["--filter", "("], ["--threads", "0"], ["--min-time", "-1"], ["--no-such-option"]):
            self.run_compare(*bad, code=2)


if __name__ == "__main__":
    unittest.main()
