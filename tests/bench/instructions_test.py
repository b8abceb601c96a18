"""The program whose calls are counted, and the script that counts them."""
import os
import subprocess
import sys
import unittest

PROGRAM = os.environ["CENOTE_REPEAT_CALLS"]
SCRIPT = os.path.join(os.environ["CENOTE_SOURCE"], "bench", "instructions.py")


def run(*command, **options):
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **options)


class Instructions(unittest.TestCase):
    def test_every_listed_call_runs(self):
        lines = run(PROGRAM).stdout.splitlines()
        self.assertGreaterEqual(len(lines), 3)
        for line in lines:
            name, written = line.split("\t")
            self.assertGreater(int(written), 0)
            self.assertEqual(run(PROGRAM, name, "1").returncode, 0, name)

    def test_unknown_call(self):
        result = run(PROGRAM, "max 3x3", "1")
        self.assertEqual(result.returncode, 2)
        self.assertIn("usage: cenote_repeat_calls", result.stderr)

    def test_without_valgrind_it_says_what_to_do(self):
        result = run(sys.executable, SCRIPT, PROGRAM, env=os.environ | {"PATH": ""})
        self.assertEqual(result.returncode, 1)
        self.assertIn("install valgrind", result.stderr)


if __name__ == "__main__":
    unittest.main()
