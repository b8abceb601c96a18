"""`cenote info`, the help texts, the version and `cenote train` in a build without torch."""
import json
import os
import subprocess
import unittest

from support import CENOTE, CliTest, npy

COMMANDS = ("info", "pool", "train")


class Info(CliTest):
    def test_text_marks_the_target_in_use(self):
        text = self.expect_fine("info")
        for word in ("cenote", "CPU targets", "threads", "compiler", "OpenMP", "torch"):
            self.assertIn(word, text)
        chosen = json.loads(self.expect_fine("info", "--json"))["cpu_target"]
        self.assertIn(f" {chosen}* ", text)

    def test_json(self):
        info = json.loads(self.expect_fine("info", "--json"))
        self.assertEqual(list(info), ["version", "cpu_target", "cpu_targets", "threads", "compiler", "openmp", "torch"])
        self.assertEqual(info["cpu_targets"][-1], "reference")
        self.assertIn(info["cpu_target"], info["cpu_targets"])
        self.assertGreaterEqual(info["threads"], 1)

    def test_every_listed_target_can_be_forced(self):
        for target in json.loads(self.expect_fine("info", "--json"))["cpu_targets"]:
            forced = json.loads(self.expect_fine("info", "--json", env={"CENOTE_CPU_TARGET": target}))
            self.assertEqual(forced["cpu_target"], target)

    def test_threads_follow_the_environment(self):
        info = json.loads(self.expect_fine("info", "--json", env={"CENOTE_NUM_THREADS": "1"}))
        self.assertEqual(info["threads"], 1)

    def test_pool_runs_on_that_many_threads(self):
        if not json.loads(self.expect_fine("info", "--json"))["openmp"]:
            self.skipTest("a build without OpenMP has one thread")
        self.write("x.npy", npy((1, 64, 256, 256), bytes(2**22), "|u1"))
        for count in (1, 3):
            self.assertEqual(self.most_threads(count), count)

    def most_threads(self, count):
        """The most threads that the program was seen to have while it pooled."""
        env = {**os.environ, "CENOTE_NUM_THREADS": str(count), "OMP_NUM_THREADS": "2"}
        process = subprocess.Popen([CENOTE, "pool", "max_pool2d", "x.npy", "y.npy", "--kernel", "31", "--stride", "1"],
                                   cwd=self.folder, env=env, stdout=subprocess.DEVNULL)
        most = 0
        while process.poll() is None:
            try:
                most = max(most, len(os.listdir(f"/proc/{process.pid}/task")))
            except FileNotFoundError:  # it has just ended
                break
        self.assertEqual(process.wait(timeout=120), 0)
        return most

    def test_ops(self):
        rows = json.loads(self.expect_fine("info", "--ops", "--json"))
        names = [row["name"] for row in rows]
        self.assertEqual(len(names), len(set(names)))
        by_name = {row["name"]: row for row in rows}
        quantization = ["x_scale", "x_zero_point", "y_scale", "y_zero_point"]
        self.assertEqual(by_name["max_pool2d"]["family"], "window")
        self.assertTrue(by_name["max_pool2d"]["indices"])
        self.assertIn("divisor_override", by_name["avg_pool3d"]["options"])
        self.assertEqual(by_name["adaptive_avg_pool1d"]["options"], ["output_size", *quantization])
        self.assertEqual(by_name["global_avg_pool2d"]["options"], quantization)
        self.assertEqual(by_name["global_max_pool2d"]["options"], [])
        self.assertEqual(by_name["adaptive_lp_pool1d"]["options"], ["output_size", "norm_type"])
        self.assertEqual(by_name["lse_pool2d"]["options"][-1], "sharpness")
        self.assertEqual(by_name["global_gem_pool2d"]["options"], ["p", "eps"])
        self.assertTrue(by_name["global_std_pool3d"]["gradient_reads_x"])
        self.assertFalse(by_name["max_pool2d"]["gradient_reads_x"])
        text = self.expect_fine("info", "--ops")
        for name in names:
            self.assertIn(name, text)


class Help(CliTest):
    def test_help_of_the_program(self):
        text = self.expect_fine("--help")
        for word in (*COMMANDS, "Exit codes", "Examples"):
            self.assertIn(word, text)

    def test_help_of_each_command(self):
        for command in COMMANDS:
            self.assertIn("Usage:", self.expect_fine(command, "--help"))
        self.assertIn("Examples:", self.expect_fine("pool", "--help"))

    def test_version(self):
        version = json.loads(self.expect_fine("info", "--json"))["version"]
        self.assertEqual(self.expect_fine("--version"), version + "\n")


class Train(CliTest):
    def test_without_torch_it_says_how_to_get_it(self):
        if json.loads(self.expect_fine("info", "--json"))["torch"] is not None:
            self.skipTest("this build has torch")
        self.expect_failure(2, "this build has no torch", "train", "--data", "fashion-mnist")


if __name__ == "__main__":
    unittest.main()
