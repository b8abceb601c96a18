#!/usr/bin/env bash
# Runs clang-tidy over our sources. Usage: tools/lint.sh BUILD_DIR [FILE...] (default: every compiled file).
set -euo pipefail
cd "$(dirname "$0")/.."

build=${1:?usage: tools/lint.sh BUILD_DIR [FILE...]}
shift
clang_tidy=$(command -v clang-tidy-19 || command -v clang-tidy) ||
  { echo "lint: clang-tidy is missing, run tools/setup.sh lint" >&2; exit 1; }
[ -f "$build/compile_commands.json" ] ||
  { echo "lint: $build has no compile_commands.json, run make build" >&2; exit 1; }

list_sources() {
  python3 - "$build/compile_commands.json" <<'PYTHON'
import json, sys
print(*sorted({entry["file"] for entry in json.load(open(sys.argv[1]))}), sep="\n")
PYTHON
}
if [ "$#" -gt 0 ]; then sources=("$@"); else mapfile -t sources < <(list_sources); fi
printf '%s\0' "${sources[@]}" | xargs -0 -P "$(nproc)" -n 1 "$clang_tidy" --quiet -p "$build"
