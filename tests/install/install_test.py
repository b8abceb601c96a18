"""cenote as others consume it: each consumer is configured, built and run in a folder of its own.

The build under test is installed into a fresh prefix for find_package and pkg-config; add_subdirectory takes
the source tree. CENOTE_SOURCE, CENOTE_BUILD, CENOTE_CMAKE, CENOTE_SANITIZE, CENOTE_TORCH_PREFIX (where torch's
CMake files are, if the build has torch) and CXX come from CMake.
"""
import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

SOURCE = Path(os.environ["CENOTE_SOURCE"])
BUILD = os.environ["CENOTE_BUILD"]
CMAKE = os.environ["CENOTE_CMAKE"]
CXX = os.environ["CXX"]
TORCH = os.environ.get("CENOTE_TORCH_PREFIX", "")
SANITIZERS = {"address": "-fsanitize=address,undefined", "thread": "-fsanitize=thread"}
FLAGS = SANITIZERS.get(os.environ.get("CENOTE_SANITIZE", ""), "")

CONSUMER = """\
cmake_minimum_required(VERSION 3.25)
project(consumer LANGUAGES CXX)
set(CMAKE_CXX_STANDARD 20)
{find}
add_executable(consumer {source})
target_link_libraries(consumer PRIVATE {library})
"""
EXPECTED = "max 7 at position 5"


class Consumers(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp(prefix="cenote-install-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.prefix = cls.folder / "prefix"
        cls.run_tool(CMAKE, "--install", BUILD, "--prefix", cls.prefix)

    @classmethod
    def run_tool(cls, *command, **options):
        result = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, **options)
        if result.returncode != 0:
            raise AssertionError(f"{command}\n{result.stdout}\n{result.stderr}")
        return result.stdout

    def build_with_cmake(self, name, find, *arguments, example="pool.cc", library="cenote::cenote"):
        folder = self.folder / name
        folder.mkdir()
        source = SOURCE / "examples" / example
        (folder / "CMakeLists.txt").write_text(CONSUMER.format(find=find, source=source, library=library))
        self.run_tool(CMAKE, "-S", folder, "-B", folder / "build", "-G", "Ninja", f"-DCMAKE_CXX_COMPILER={CXX}",
                      f"-DCMAKE_CXX_FLAGS={FLAGS}", *arguments)
        self.run_tool(CMAKE, "--build", folder / "build", "--target", "consumer", "-j2")
        return next(path for path in (folder / "build").rglob("consumer") if path.is_file())

    def test_find_package(self):
        program = self.build_with_cmake("found", "find_package(cenote 0.1 REQUIRED)",
                                        f"-DCMAKE_PREFIX_PATH={self.prefix}")
        self.assertIn(EXPECTED, self.run_tool(program))

    def test_find_package_refuses_another_version(self):
        with self.assertRaisesRegex(AssertionError, r"considered but not\s+accepted"):
            self.build_with_cmake("too_new", "find_package(cenote 99 REQUIRED)", f"-DCMAKE_PREFIX_PATH={self.prefix}")

    @unittest.skipUnless(TORCH, "this build has no torch")
    def test_find_package_with_torch(self):
        program = self.build_with_cmake("torch", "find_package(cenote REQUIRED COMPONENTS torch)",
                                        f"-DCMAKE_PREFIX_PATH={self.prefix};{TORCH}", example="torch_pool.cc",
                                        library="cenote::torch")
        self.assertIn("gradient of the first layer: ok", self.run_tool(program))

    def test_an_unknown_component_is_refused(self):
        with self.assertRaisesRegex(AssertionError, r"no\s+component\s+sandwich"):
            self.build_with_cmake("unknown", "find_package(cenote REQUIRED COMPONENTS sandwich)",
                                  f"-DCMAKE_PREFIX_PATH={self.prefix}")

    def test_add_subdirectory(self):
        program = self.build_with_cmake(
            "embedded", f'add_subdirectory("{SOURCE}" cenote)', "-DCENOTE_TORCH=OFF", "-DCENOTE_CLI=OFF",
            "-DCENOTE_TESTS=OFF", "-DCENOTE_BENCH=OFF", "-DCENOTE_EXAMPLES=OFF",
            "-DCMAKE_BUILD_TYPE=Debug")  # the kernels take minutes to optimise
        self.assertIn(EXPECTED, self.run_tool(program))

    def test_pkg_config(self):
        libraries = next(self.prefix.glob("lib*/**/pkgconfig")).parent
        env = {**os.environ, "PKG_CONFIG_PATH": str(libraries / "pkgconfig")}
        flags = self.run_tool("pkg-config", "--cflags", "--libs", "cenote", env=env).split()
        program = self.folder / "by_pkg_config"
        self.run_tool(CXX, "-std=c++20", *FLAGS.split(), SOURCE / "examples/pool.cc", *flags, "-o", program)
        self.assertIn(EXPECTED, self.run_tool(program, env={**os.environ, "LD_LIBRARY_PATH": str(libraries)}))

    def test_installed_headers_stand_alone(self):
        for header in sorted((self.prefix / "include/cenote").glob("*.h")):
            with self.subTest(header=header.name):
                self.run_tool(CXX, "-std=c++20", "-fsyntax-only", "-Wall", "-Wextra", "-Wpedantic", "-Wshadow",
                              "-Wconversion", "-Wno-sign-conversion", "-Werror", "-x", "c++",
                              f"-I{self.prefix}/include", "-", input=f"#include <cenote/{header.name}>\n")

    def test_installed_program_runs(self):
        program = self.prefix / "bin/cenote"
        if not program.is_file():
            self.skipTest("this build has no command line")
        self.assertIn("CPU targets", self.run_tool(program, "info"))


if __name__ == "__main__":
    unittest.main()
