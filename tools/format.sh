#!/usr/bin/env bash
# Formats the C++ sources in place; with --check it only says what differs, and fails.
set -euo pipefail
cd "$(dirname "$0")/.."

clang_format=$(command -v clang-format-19 || command -v clang-format) ||
  { echo "format: clang-format is missing, run tools/setup.sh lint" >&2; exit 1; }
mode=-i
if [ "${1-}" = --check ]; then
  mode='--dry-run -Werror'
fi
# shellcheck disable=SC2086  # the mode may be two words
find include src bindings network cli bench examples tests -type f \( -name '*.h' -o -name '*.cc' \) -print0 |
  sort -z | xargs -0 "$clang_format" $mode
