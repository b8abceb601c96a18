#!/usr/bin/env python3
"""Checks the layout of the source tree and prints every violation as file:line: text.

Four rules: #include follows the arrows of dependency, a pooling family has the same file name in every
layer, files stay small and open with a comment, and no file names somebody's home folder.
Usage: check_layout.py [ROOT]; exit code 1 when something is wrong. Needs Python's standard library only.
"""
import os
import re
import sys
from pathlib import Path

# Each area, the most specific first: its folder (or file stem), and the areas that it may include.
AREAS = [
    ("include", "include/", {"include"}),
    ("core", "src/core/", {"include", "core"}),
    ("ops", "src/ops/", {"include", "core", "backend", "ops"}),
    ("reference", "src/reference/", {"include", "core", "backend", "reference"}),
    ("cpu", "src/cpu/", {"include", "core", "backend", "cpu"}),
    ("dispatch", "src/backend.cc", {"include", "core", "backend", "cpu"}),
    ("backend", "src/backend.h", {"include", "core"}),
    ("torch", "bindings/torch/include/", {"include", "torch"}),
    ("torch-inside", "bindings/torch/", {"include", "torch", "torch-inside"}),
    ("network", "network/", {"include", "torch", "network"}),
    ("cli", "cli/", {"include", "network", "cli"}),
    ("examples", "examples/", {"include", "torch"}),
    ("bench", "bench/", {"include", "torch", "network", "bench"}),
    ("tests", "tests/", None),
]
INCLUDE_ROOTS = ["include", "src", "bindings/torch/include", "bindings/torch", "."]

# Headers of others that only some areas may see: (prefix, areas, what it is).
FOREIGN = [
    ("hwy/", {"cpu", "tests"}, "Highway"),
    (("torch/", "ATen/", "c10/"), {"torch", "torch-inside", "network", "cli", "examples", "bench", "tests"}, "torch"),
    (("onnx/", "google/protobuf/"), {"network", "tests"}, "ONNX's protobuf"),
]

FAMILY_FILES = [
    "include/cenote/{}.h", "src/ops/{}.cc", "src/reference/{}.cc", "src/cpu/{}.cc", "bindings/torch/{}.cc",
    "docs/ops/{}.md", "tests/unit/{}_test.cc",
]

CODE_SUFFIXES = {".h", ".cc", ".py", ".sh", ".cmake"}
TEXT_SUFFIXES = CODE_SUFFIXES | {".md", ".txt", ".json", ".in", ""}
SKIPPED_FOLDERS = {".git", ".venv", "build", "runs", "__pycache__"}
MAX_LINES = 600
MAX_TEST_LINES = 800

INCLUDE = re.compile(r'\s*#\s*include\s*[<"]([^">]+)[">]')
HOME_PATH = re.compile(r"(?<![\w.])/(?:home|root|Users)/\w")


def area_of(path):
    return next((area for area in AREAS if path.startswith(area[1])), None)


def source_files(root):
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(set(folders) - SKIPPED_FOLDERS)
        for name in sorted(names):
            path = Path(folder, name)
            if path.suffix in TEXT_SUFFIXES and not path.is_symlink():
                yield path.relative_to(root).as_posix()


def resolve(root, path, name):
    """The project file that an #include means, or None when it belongs to somebody else."""
    for folder in [os.path.dirname(path), *INCLUDE_ROOTS]:
        candidate = os.path.normpath(os.path.join(folder, name))
        if not candidate.startswith("..") and (root / candidate).is_file():
            return candidate
    return None


def check_include(root, path, name):
    area = area_of(path)
    if area is None:
        return
    for prefix, areas, owner in FOREIGN:
        if name.startswith(prefix) and area[0] not in areas:
            yield f"{area[0]} must not include {owner} ({name})"
    target = resolve(root, path, name)
    target_area = area_of(target) if target else None
    if target_area and area[2] is not None and target_area[0] not in area[2]:
        yield f"{area[0]} must not include {target_area[0]} ({name})"


def check_file(root, path):
    lines = (root / path).read_text(encoding="utf-8", errors="replace").splitlines()
    suffix = Path(path).suffix
    limit = MAX_TEST_LINES if path.startswith("tests/") else MAX_LINES
    if suffix in CODE_SUFFIXES and len(lines) > limit:
        yield len(lines), f"{len(lines)} lines, the limit is {limit}"
    if suffix in {".h", ".cc"} and not (lines and lines[0].startswith("//")):
        yield 1, "a source file opens with a comment that says what it does"
    for number, line in enumerate(lines, 1):
        if HOME_PATH.search(line):
            yield number, "names somebody's home folder"
        include = INCLUDE.match(line) if suffix in {".h", ".cc"} else None
        if include:
            for text in check_include(root, path, include.group(1)):
                yield number, text


def check_families(root):
    listing = root / "cmake/families.cmake"
    found = re.search(r"set\(CENOTE_FAMILIES ([^)]*)\)", listing.read_text()) if listing.is_file() else None
    if not found:
        yield "cmake/families.cmake", 1, "no list CENOTE_FAMILIES"
        return
    for family in found.group(1).split():
        for pattern in FAMILY_FILES:
            path = pattern.format(family)
            if not (root / path).is_file():
                yield path, 1, f"missing; the family {family} has a file here in every layer"


def violations(root):
    for path in source_files(root):
        for number, text in check_file(root, path):
            yield path, number, text
    yield from check_families(root)


def main():
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent).resolve()
    found = [f"{path}:{number}: {text}" for path, number, text in violations(root)]
    print("\n".join(found) if found else "layout: no violation")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
