"""Helpers of the command-line tests: run the program, and write and read its files by hand.

The files are built with struct and zlib, not with NumPy or an image library, so that the tests decide every
byte and need Python's standard library only. CENOTE names the program.
"""
import ast
import os
import shutil
import struct
import subprocess
import tempfile
import unittest
import zlib

CENOTE = os.environ["CENOTE"]
SANITIZED = bool(os.environ.get("CENOTE_SANITIZE"))


class CliTest(unittest.TestCase):
    """Runs each test in a folder of its own."""

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="cenote-cli-")
        self.addCleanup(shutil.rmtree, self.folder)

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, data):
        with open(self.path(name), "wb") as file:
            file.write(data)

    def read(self, name):
        with open(self.path(name), "rb") as file:
            return file.read()

    def run_cenote(self, *args, env=None, **options):
        return subprocess.run([CENOTE, *args], cwd=self.folder, capture_output=True, text=True, timeout=120,
                              env={**os.environ, **(env or {})}, **options)

    def expect_fine(self, *args, **options):
        result = self.run_cenote(*args, **options)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout

    def expect_failure(self, code, text, *args, **options):
        """The program must end with this code, say this on one line, and not crash."""
        result = self.run_cenote(*args, **options)
        self.assertEqual(result.returncode, code, f"stdout: {result.stdout}\nstderr: {result.stderr}")
        self.assertIn(text, result.stderr)
        return result.stderr


def npy_header(text, version=(1, 0)):
    length = struct.pack("<H" if version[0] == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + length + text.encode("latin-1")


NPY_CODES = {"<f4": "f", "<f8": "d", "<f2": "e", "|i1": "b", "|u1": "B", "<i4": "i", "<i8": "q"}


def npy(shape, values, descr="<f4", fortran=False, version=(1, 0)):
    """A .npy file; `values` are in the order in which they are stored."""
    code = NPY_CODES[descr]
    text = f"{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {tuple(shape)}, }}\n"
    return npy_header(text, version) + struct.pack(f"<{len(values)}{code}", *values)


def parse_npy(data):
    """(descr, shape, values) of a file in C order, as NumPy would write it."""
    assert data[:8] == b"\x93NUMPY\x01\x00", data[:8]
    (length,) = struct.unpack("<H", data[8:10])
    assert (10 + length) % 64 == 0 and data[9 + length : 10 + length] == b"\n"
    header = ast.literal_eval(data[10 : 10 + length].decode())
    assert header["fortran_order"] is False
    code = NPY_CODES[header["descr"]]
    count = (len(data) - 10 - length) // struct.calcsize(code)
    return header["descr"], header["shape"], list(struct.unpack(f"<{count}{code}", data[10 + length :]))


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_COLOUR_TYPES = {"gray": 0, "rgb": 2, "palette": 3, "gray_alpha": 4, "rgba": 6}


def png(width, rows, kind="gray", depth=8, extra=b""):
    """A PNG file; `rows` are the bytes of each line, `extra` holds chunks before the data."""
    header = struct.pack(">IIBBBBB", width, len(rows), depth, PNG_COLOUR_TYPES[kind], 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + bytes(row) for row in rows))
    return (PNG_SIGNATURE + png_chunk(b"IHDR", header) + extra + png_chunk(b"IDAT", body) + png_chunk(b"IEND", b""))
