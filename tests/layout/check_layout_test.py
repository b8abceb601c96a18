"""The layout check catches each kind of violation, and finds none in a tree that follows the rules."""
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

CHECK = Path(__file__).parents[2] / "tools/check_layout.py"

GOOD_TREE = {
    "cmake/families.cmake": "# The list.\nset(CENOTE_FAMILIES blur)\n",
    "include/cenote/blur.h": "// Blur.\n",
    "include/cenote/tensor.h": "// Tensors.\n",
    "src/backend.h": '// The table.\n#include "cenote/blur.h"\n#include "core/check.h"\n',
    "src/core/check.h": '// Checks.\n#include "cenote/tensor.h"\n',
    "src/ops/blur.cc": '// Checks the arguments.\n#include "backend.h"\n#include "core/check.h"\n',
    "src/reference/blur.cc": '// Plain loops.\n#include "backend.h"\n',
    "src/cpu/blur.cc": '// Kernels.\n#include "backend.h"\n#include "hwy/highway.h"\n',
    "bindings/torch/blur.cc": '// Operators.\n#include <torch/library.h>\n#include "cenote/blur.h"\n',
    "bindings/torch/include/cenote/torch/nn.h": "// Modules.\n",
    "network/train.h": '// Training.\n#include "cenote/torch/nn.h"\n',
    "cli/main.cc": '// The program.\n#include "network/train.h"\n',
    "docs/ops/blur.md": "# blur\n",
    "tests/unit/blur_test.cc": '// Tests.\n#include "backend.h"\n#include "cpu/blur.cc"\n',
}


class CheckLayout(unittest.TestCase):
    def setUp(self):
        self.root = Path(tempfile.mkdtemp(prefix="cenote-layout-"))
        self.addCleanup(shutil.rmtree, self.root)
        for path, text in GOOD_TREE.items():
            self.write(path, text)

    def write(self, path, text):
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def check(self):
        result = subprocess.run([sys.executable, CHECK, self.root], capture_output=True, text=True, check=False)
        return result.returncode, result.stdout

    def expect(self, violation):
        code, output = self.check()
        self.assertEqual(code, 1)
        self.assertIn(violation, output)
        self.assertEqual(len(output.splitlines()), 1, output)

    def test_good_tree(self):
        self.assertEqual(self.check(), (0, "layout: no violation\n"))

    def test_arrows(self):
        cases = [
            ("src/core/check.h", "backend.h", "core must not include backend"),
            ("src/core/check.h", "ops/blur.cc", "core must not include ops"),
            ("src/ops/blur.cc", "cpu/blur.cc", "ops must not include cpu"),
            ("src/cpu/blur.cc", "reference/blur.cc", "cpu must not include reference"),
            ("src/reference/blur.cc", "cpu/blur.cc", "reference must not include cpu"),
            ("include/cenote/blur.h", "backend.h", "include must not include backend"),
            ("cli/main.cc", "core/check.h", "cli must not include core"),
            ("network/train.h", "core/check.h", "network must not include core"),
            ("network/train.h", "../bindings/torch/blur.cc", "network must not include torch-inside"),
            ("bindings/torch/blur.cc", "backend.h", "torch-inside must not include backend"),
            ("src/ops/blur.cc", "hwy/highway.h", "ops must not include Highway"),
            ("src/core/check.h", "ATen/ATen.h", "core must not include torch"),
        ]
        for path, header, violation in cases:
            with self.subTest(path=path, header=header):
                self.write(path, f'// Text.\n#include "{header}"\n')
                self.expect(f"{path}:2: {violation}")
                self.write(path, GOOD_TREE[path])

    def test_missing_file_of_a_family(self):
        for path in ("src/cpu/blur.cc", "docs/ops/blur.md", "bindings/torch/blur.cc"):
            with self.subTest(path=path):
                (self.root / path).unlink()
                self.write("tests/unit/blur_test.cc", "// Tests.\n")
                self.expect(f"{path}:1: missing; the family blur")
                self.write(path, GOOD_TREE[path])

    def test_sizes(self):
        self.write("src/core/long.cc", "// Long.\n" * 601)
        self.expect("src/core/long.cc:601: 601 lines, the limit is 600")
        (self.root / "src/core/long.cc").unlink()
        self.write("tests/unit/long_test.cc", "// Long.\n" * 801)
        self.expect("tests/unit/long_test.cc:801: 801 lines, the limit is 800")

    def test_opening_comment(self):
        self.write("src/core/bare.cc", "int x;\n")
        self.expect("src/core/bare.cc:1: a source file opens with a comment")

    def test_home_folder(self):
        self.write("docs/guide.md", "Look into " + "/".join(["", "home", "someone", "cenote"]) + "\n")
        self.expect("docs/guide.md:1: names somebody's home folder")


if __name__ == "__main__":
    unittest.main()
