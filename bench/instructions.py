#!/usr/bin/env python3
"""Prints how many instructions some calls of cenote take, as a Markdown table.

Usage: instructions.py PROGRAM, the program being cenote_repeat_calls. Needs valgrind, which shows programs an AVX2
machine whatever the processor; instructions do not depend on what else runs. A call is a quarter of the difference
between a process of six and one of two.
"""
import os
import re
import subprocess
import sys


def instructions(program, name, calls):
    """Of a whole process."""
    environment = os.environ | {"CENOTE_CPU_TARGET": "avx2"}
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", program, name, str(calls)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    found = re.search(r"Collected\s*:\s*(\d+)", run.stderr)
    if run.returncode != 0 or not found:
        sys.exit(f"instructions: {' '.join(command)} failed:\n{run.stderr.strip()}")
    return int(found[1])


def main(program):
    try:
        listed = subprocess.run([program], capture_output=True, text=True, check=True).stdout
        version = subprocess.run(["valgrind", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"instructions: {error}; build the program and install valgrind (tools/setup.sh bench does)")
    print(f"{version}, CPU target avx2, one thread, [1, 64, 112, 112] f32\n")
    print("| call | instructions | per element written |\n|---|---|---|")
    for line in listed.splitlines():
        name, written = line.split("\t")
        # The same process was seen to take 600,000 instructions more or less from run to run.
        each = (instructions(program, name, 102) - instructions(program, name, 2)) / 100
        print(f"| {name} | {each:,.0f} | {each / int(written):,.2f} |", flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    main(sys.argv[1])
