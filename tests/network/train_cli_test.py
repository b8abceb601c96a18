"""`cenote train` from outside: options, exit codes, Ctrl-C and continuing."""
import json
import os
import pathlib
import pty
import re
import select
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

CENOTE = os.environ["CENOTE"]
SUBSET = os.path.join(os.environ["CENOTE_TEST_DATA"], "fashion-mnist-subset")
SMALL = ["--data-dir", SUBSET, "--limit", "64", "--epochs", "1", "--threads", "1"]
EPOCH_LINE = re.compile(r"^Epoch \[1/1\], Training Loss: \d+\.\d{4}, Validation Loss: \d+\.\d{4}, "
                        r"Validation Accuracy: \d+\.\d{2}%$", re.M)


class Train(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="cenote-train-"))
        self.addCleanup(shutil.rmtree, self.folder)

    def train(self, *args, **options):
        return subprocess.run([CENOTE, "train", *args], cwd=self.folder, capture_output=True, text=True,
                              timeout=120, **options)

    def expect_failure(self, code, text, *args, **options):
        result = self.train(*args, **options)
        self.assertEqual(result.returncode, code, result.stdout + result.stderr)
        self.assertIn(text, result.stderr)

    def start(self, *args, **options):
        process = subprocess.Popen([CENOTE, "train", *args], cwd=self.folder, text=True, **options)
        self.addCleanup(lambda: process.poll() is None and process.kill())
        return process

    def test_default_folder_and_epoch_line(self):
        for number in (1, 2):
            result = self.train(*SMALL)
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertRegex(result.stdout, EPOCH_LINE)
            run = self.folder / f"runs/fashion-mnist-{number}"
            self.assertIn(f"Report: runs/fashion-mnist-{number}/index.html", result.stdout)
            for name in ("checkpoint.pt", "metrics.csv", "index.html"):
                self.assertTrue((run / name).is_file(), name)

    def test_every_network(self):
        networks = (["--downsample", "max"], ["--downsample", "avg", "--head", "flatten"], ["--baseline", "torch"])
        for args in networks:
            result = self.train(*SMALL, *args)
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertRegex(result.stdout, EPOCH_LINE)
        self.assertRegex(result.stdout, r"Speed: \d+ images/s with cenote, \d+ images/s in plain torch")

    def test_info_names_the_torch(self):
        info = subprocess.run([CENOTE, "info", "--json"], capture_output=True, text=True, timeout=60)
        self.assertRegex(json.loads(info.stdout)["torch"], r"^\d+\.\d+")

    def test_bad_usage(self):
        self.expect_failure(2, "unknown data set 'imagenet'; known are", "--data", "imagenet")
        self.expect_failure(2, "--batch-size must be from 1", *SMALL, "--batch-size", "0")
        self.expect_failure(2, "--lr must be a positive number", *SMALL, "--lr", "-1")
        self.expect_failure(2, "--head", *SMALL, "--head", "none")
        self.expect_failure(2, "--out must not be empty", *SMALL, "--out", "")
        self.expect_failure(2, "--data-dir must not be empty", "--data-dir", "")
        self.expect_failure(2, "no such run folder", "--resume", "nowhere")
        self.expect_failure(2, "--resume needs the folder", "--resume")
        self.expect_failure(2, "no file data_batch_1.bin", "--data", "cifar10", "--data-dir", ".")
        self.assertEqual(os.listdir(self.folder), [], "a failed start leaves nothing behind")

    def test_does_not_overwrite(self):
        self.assertEqual(self.train(*SMALL, "--out", "run").returncode, 0)
        self.expect_failure(2, "is not empty", *SMALL, "--out", "run")

    def test_read_only_folder(self):
        if os.geteuid() == 0:
            target = "/proc/cenote-run"  # even root cannot create this
        else:
            target = str(self.folder / "locked/run")
            (self.folder / "locked").mkdir(mode=0o500)
        self.expect_failure(1, "cannot create the folder", *SMALL, "--out", target)

    def test_interrupt_then_resume(self):
        for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
            out = f"run {code}"  # needs quoting
            process = self.start("--data-dir", SUBSET, "--epochs", "50", "--out", out, "--threads", "1",
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            self.wait_for_line(process, "Run folder")
            process.send_signal(number)
            text, errors = process.communicate(timeout=60)
            self.assertEqual(process.returncode, code, errors)
            self.assertIn(f"cenote train --resume 'run {code}'", text)
            self.expect_failure(2, "--lr 0.5 (the run has 0.01)", "--resume", out, "--lr", "0.5")
        result = self.train("--out", out, "--resume", "--epochs", "1")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("Epoch [1/1]", result.stdout)
        again = self.train("--resume", out, "--epochs", "1")
        self.assertEqual(again.returncode, 0, "nothing left to do is fine")

    def test_fewer_epochs_than_done(self):
        self.assertEqual(self.train("--data-dir", SUBSET, "--limit", "64", "--out", "run").returncode, 0)
        self.expect_failure(2, "--epochs 1 is less than the 2 that checkpoint run/checkpoint.pt has begun",
                            "--resume", "run", "--epochs", "1")

    def test_damaged_checkpoint(self):
        self.assertEqual(self.train("--data-dir", SUBSET, "--limit", "64", "--out", "run").returncode, 0)
        run = self.folder / "run"
        data = bytearray((run / "checkpoint.pt").read_bytes())
        data[len(data) // 2] ^= 1
        (run / "checkpoint.pt").write_bytes(data)
        self.expect_failure(2, "continue from it with --resume run/checkpoint.prev.pt", "--resume", "run")
        result = self.train("--resume", "run/checkpoint.prev.pt")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("Epoch [2/2]", result.stdout)
        self.assertEqual(self.train("--resume", "run").returncode, 0)

    def test_progress_bar_on_a_terminal(self):
        reader, writer = pty.openpty()
        process = self.start("--data-dir", SUBSET, "--epochs", "1", "--limit", "500",
                             stdout=subprocess.DEVNULL, stderr=writer)
        os.close(writer)
        text = b""
        deadline = time.monotonic() + 100
        while time.monotonic() < deadline:
            if select.select([reader], [], [], 0.2)[0]:
                try:
                    text += os.read(reader, 4096)
                except OSError:  # the other end is closed
                    break
        self.assertEqual(process.wait(timeout=30), 0)
        os.close(reader)
        self.assertRegex(text, rb"\r\x1b\[KEpoch \[1/1\] \[#+\.*\] +\d+%  \d+ images/s  ETA 0:\d\d")

    def wait_for_line(self, process, text):
        while True:
            line = process.stdout.readline()
            self.assertTrue(line, "the program ended too early")
            if text in line:
                return


if __name__ == "__main__":
    unittest.main()
