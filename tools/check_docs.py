#!/usr/bin/env python3
"""Checks that the documents and the program agree, and runs the examples of the README as pasted.

  check_docs.py ops CENOTE        every op and option of the registry is named on its family's page, which has
                                  the fixed headings
  check_docs.py links             every relative link of the documents leads to a file
  check_docs.py readme BUILD_DIR  each ```sh block that follows <!-- tested --> runs, in a scratch copy whose
                                  build/release is BUILD_DIR, and those after <!-- tested: torch --> where
                                  the build has torch; each ```cpp line stands in examples/

Exit code 1 when something is wrong. Needs Python's standard library only.
"""
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEADINGS = ["Meaning", "Formula", "Arguments", "Shapes", "Backward", "Edge cases", "Where runtimes differ", "Cost",
            "Source"]


def check_ops(cenote):
    listing = subprocess.run([cenote, "info", "--ops", "--json"], capture_output=True, text=True, check=True)
    ops = json.loads(listing.stdout)
    pages = {}
    for family in sorted({op["family"] for op in ops}):
        path = ROOT / "docs/ops" / f"{family}.md"
        pages[family] = path.read_text() if path.is_file() else ""
        headings = re.findall(r"^## (.+)$", pages[family], re.MULTILINE)
        if headings != HEADINGS:
            yield f"docs/ops/{family}.md: the headings must be {', '.join(HEADINGS)}; got {', '.join(headings)}"
    for op in ops:
        for word in [op["name"], *op["options"]]:
            if not re.search(rf"`{re.escape(word)}\b", pages[op["family"]]):
                yield f"docs/ops/{op['family']}.md: `{word}` of {op['name']} is missing"


def documents():
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def check_links():
    for document in documents():
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", document.read_text()):
            if "://" not in target and not (document.parent / target).exists():
                yield f"{document.relative_to(ROOT)}: the link to {target} leads nowhere"


def scratch_tree(folder, build):
    """Looks like the source tree to a reader of the README, but takes the files that the examples write."""
    for entry in ROOT.iterdir():
        if entry.name not in {".git", "build", "runs"}:
            (folder / entry.name).symlink_to(entry)
    (folder / "build").mkdir()
    (folder / "build/release").symlink_to(Path(build).resolve())


def check_readme(build):
    text = (ROOT / "README.md").read_text()
    blocks = re.findall(r"^<!-- tested(: torch)? -->\n+```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    has_torch = Path(build, "lib/libcenote_torch.so").exists()
    if not blocks:
        yield "README.md: no tested example"
    with tempfile.TemporaryDirectory(prefix="cenote-readme-") as name:
        scratch_tree(Path(name), build)
        for needs_torch, block in blocks:
            if needs_torch and not has_torch:
                continue
            result = subprocess.run(["bash", "-euo", "pipefail", "-c", block], cwd=name, capture_output=True, text=True,
                                    stdin=subprocess.DEVNULL, check=False)
            if result.returncode != 0:
                yield f"README.md: this example ends with {result.returncode}:\n{block}{result.stdout}{result.stderr}"
    examples = "\n".join(path.read_text() for path in sorted((ROOT / "examples").glob("*.cc")))
    for document in documents():
        for block in re.findall(r"^```cpp\n(.*?)^```$", document.read_text(), re.MULTILINE | re.DOTALL):
            for line in filter(None, map(str.strip, block.splitlines())):
                if line not in examples:
                    yield f"{document.relative_to(ROOT)}: this line of C++ is in no example: {line}"


def main():
    checks = {"ops": check_ops, "links": check_links, "readme": check_readme}
    if len(sys.argv) < 2 or sys.argv[1] not in checks:
        sys.exit(__doc__)
    found = list(checks[sys.argv[1]](*sys.argv[2:]))
    print("\n".join(found) if found else f"docs: {sys.argv[1]} fine")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
