"""Bad usage and bad input: each ends with exit code 2, or 1 when the system refuses, and a clear line."""
import os
import resource
import stat
import struct
import subprocess
import unittest

from support import CENOTE, PNG_SIGNATURE, SANITIZED, CliTest, npy, npy_header, png, png_chunk

BIG = 2**62


class Usage(CliTest):
    def setUp(self):
        super().setUp()
        self.write("x.npy", npy((1, 4, 4), range(16)))

    def refuse(self, text, op, *options, out="y.npy"):
        error = self.expect_failure(2, text, "pool", op, "x.npy", out, *options)
        self.assertEqual(os.listdir(self.folder), ["x.npy"], "a failed command leaves no file")
        return error

    def test_no_arguments_print_the_help(self):
        self.expect_failure(2, "Usage:")

    def test_unknown_command(self):
        self.expect_failure(2, "unknown command 'pol'; the commands are info, pool, conformance, train", "pol")

    def test_unknown_option(self):
        self.expect_failure(2, "--kernels", "pool", "max_pool2d", "x.npy", "y.npy", "--kernels", "3")

    def test_missing_arguments(self):
        self.expect_failure(2, "out is required", "pool", "max_pool2d", "x.npy")

    def test_unknown_op_suggests_the_nearest(self):
        self.refuse("unknown op 'max_pol2d', did you mean max_pool2d; `cenote info --ops` lists all", "max_pol2d")
        self.refuse("max_pool1d, max_pool2d, max_pool3d", "max_pool")
        self.assertNotIn("did you mean", self.refuse("unknown op 'sandwich'", "sandwich"))

    def test_unknown_choices(self):
        self.refuse("--auto-pad", "max_pool2d", "--kernel", "2", "--auto-pad", "SAME")
        self.refuse("--convention", "max_pool2d", "--kernel", "2", "--convention", "tensorflow")
        self.refuse("auto_pad", "max_pool2d", "--kernel", "2", "--auto-pad", "VALID", "--padding", "1")
        self.refuse("adaptive_max_pool2d does not read --auto-pad", "adaptive_max_pool2d", "--output-size", "2",
                    "--auto-pad", "VALID")
        self.refuse("--index-order", "max_pool2d", "--kernel", "2", "--index-order", "onnx", "--indices", "where.npy")
        self.refuse("--index-order needs --indices", "max_pool2d", "--kernel", "2", "--index-order", "tensor")

    def test_quantisation(self):
        self.refuse("x dtype must be i8 or u8", "avg_pool2d", "--kernel", "2", "--x-scale", "2")
        self.refuse("max_pool2d does not read --y-zero-point", "max_pool2d", "--kernel", "2", "--y-zero-point", "2")
        self.write("bytes.npy", npy((1, 2), [3, 4], "|u1"))
        pool = ("pool", "avg_pool1d", "bytes.npy", "y.npy", "--kernel", "2")
        self.expect_failure(2, "x_scale must be finite and > 0, got 0", *pool, "--x-scale", "0")
        self.expect_failure(2, "y_zero_point must lie in [0, 255], got -1", *pool, "--y-zero-point=-1")

    def test_options_that_the_op_does_not_read(self):
        self.refuse("max_pool2d does not read --divisor-override", "max_pool2d", "--kernel", "2", "--divisor-override", "2")
        self.refuse("max_pool2d does not read --no-count-include-pad", "max_pool2d", "--kernel", "2",
                    "--no-count-include-pad")
        self.refuse("global_avg_pool2d does not read --kernel", "global_avg_pool2d", "--kernel", "2")
        self.refuse("avg_pool2d does not read --output-size", "avg_pool2d", "--kernel", "2", "--output-size", "2")
        self.refuse("avg_pool2d has no --indices", "avg_pool2d", "--kernel", "2", "--indices", "where.npy")

    def test_empty_texts(self):
        for option in ("--kernel", "--stride", "--padding", "--dilation", "--indices"):
            kernel = () if option == "--kernel" else ("--kernel", "2")
            self.refuse(f"{option} must not be empty", "max_pool2d", *kernel, option, "")
        self.refuse("--divisor-override must not be empty", "avg_pool2d", "--kernel", "2", "--divisor-override", "")
        self.refuse("--output-size must not be empty", "adaptive_avg_pool2d", "--output-size", "")
        self.refuse("out must not be empty", "max_pool2d", "--kernel", "2", out="")

    def test_missing_options(self):
        self.refuse("max_pool2d needs --kernel", "max_pool2d")
        self.refuse("adaptive_max_pool2d needs --output-size", "adaptive_max_pool2d")

    def test_fractional_pooling(self):
        pool = ("fractional_max_pool2d", "--kernel", "1")
        self.refuse("fractional_max_pool2d needs --kernel", "fractional_max_pool2d", "--output-size", "2")
        self.refuse("exactly one of output_size and output_ratio must be given, got neither", *pool)
        self.refuse("got both", *pool, "--output-size", "1", "--output-ratio", "0.5")
        self.refuse("--output-ratio must be a number, got 'half'", *pool, "--output-ratio", "half")
        self.refuse("output_ratio[0] must lie in (0, 1), got 1", *pool, "--output-ratio", "1")
        self.refuse("--seed must be an integer", *pool, "--output-size", "1", "--seed=-1")
        self.refuse("--seed 18446744073709551616 does not fit into 64 bits", *pool, "--output-size", "1", "--seed",
                    str(2**64))
        self.refuse("max_pool2d does not read --seed", "max_pool2d", "--kernel", "2", "--seed", "1")
        self.refuse("excludes", *pool, "--output-size", "1", "--seed", "1", "--samples", "u.npy")
        self.refuse("none.npy", *pool, "--output-size", "1", "--samples", "none.npy")
        with_samples = ("pool", pool[0], "x.npy", "y.npy", *pool[1:], "--output-size", "1", "--samples", "u.npy")
        self.write("u.npy", npy((1, 3, 2), [0] * 6))
        self.expect_failure(2, "samples must have sizes [1, 1, 2], got [1, 3, 2]", *with_samples)
        self.write("u.npy", npy((1, 1, 2), [0, 1]))
        self.expect_failure(2, "samples must lie in [0, 1), got 1", *with_samples)

    def test_unpooling(self):
        unpool = ("pool", "max_unpool1d", "x1.npy", "y.npy", "--kernel", "2")
        self.expect_failure(2, "max_unpool1d needs --indices", *unpool)
        self.expect_failure(2, "max_unpool1d needs --kernel", *unpool[:-2], "--indices", "at.npy")
        self.expect_failure(2, "does not read --dilation", *unpool, "--dilation", "2", "--indices", "at.npy")
        self.write("x1.npy", npy((1, 2), [3, 4]))
        for name, content, text in (
                ("at.npy", npy((1, 2), [0, 4], "<i8"), "indices must lie in [0, 4), the plane of y, got 4"),
                ("at.npy", npy((1, 2), [-1, 0], "<i8"), "got -1"),
                ("at.npy", npy((1, 2), [0, 2**32 + 1], "<i8"), "got 4294967297"),
                ("at.npy", npy((1, 3), [0, 1, 2], "<i8"), "indices must have sizes [1, 2], got [1, 3]"),
                ("at.npy", npy((1, 2), [0, 1]), "at.npy: indices must be of dtype '<i8', got '<f4'"),
                ("at.npy", npy((1, 2), [0, 1], "<i8")[:-1], "the file holds 15"),
                ("at.npy", b"", "not a NumPy file"),
                ("at.png", b"", "--indices must name a .npy file")):
            self.write(name, content)
            self.expect_failure(2, text, *unpool, "--indices", name)
            self.assertFalse(os.path.exists(self.path("y.npy")))
        self.expect_failure(2, "cannot open gone.npy", *unpool, "--indices", "gone.npy")
        self.expect_failure(2, "output_size[0] must differ from the default size 4 by less than the stride 2, got 6",
                            *unpool, "--output-size", "6", "--indices", "at.npy")

    def test_numbers_of_smooth_ops(self):
        for op, option, name in (("global_lp_pool2d", "--norm-type", "norm_type"),
                                 ("global_lse_pool2d", "--sharpness", "sharpness"),
                                 ("global_gem_pool2d", "--p", "p"), ("global_gem_pool2d", "--eps", "eps")):
            for text in ("x", "1,", "0x3", " 3", "2 3", "1e", "--"):
                self.refuse(f"{option} must be a number", op, f"{option}={text}")
            self.refuse("does not fit into a double", op, f"{option}=1e400")
            for text in ("0", "-1", "nan", "-nan", "-inf"):
                self.refuse(f"[{op}] {name} must be", op, f"{option}={text}")
            self.refuse(f"{option} must not be empty", op, option, "")
        for op, option in (("global_lse_pool2d", "--sharpness"), ("global_gem_pool2d", "--p"),
                           ("global_gem_pool2d", "--eps")):
            self.refuse("finite", op, f"{option}=inf")
        self.refuse("p must have 1 value or one per channel, 1, got 2", "global_gem_pool2d", "--p", "2,3")
        self.refuse("--norm-type must be a number", "global_lp_pool2d", "--norm-type", "2,3")
        for op, option in (("lse_pool2d", "--norm-type"), ("lp_pool2d", "--sharpness"), ("lp_pool2d", "--p"),
                           ("lp_pool2d", "--eps")):
            self.refuse(f"{op} does not read {option}", op, "--kernel", "2", option, "2")

    def test_smooth_ops_take_no_integers(self):
        self.write("x.npy", npy((1, 4, 4), range(16), "<i4"))
        self.refuse("got i32", "lp_pool2d", "--kernel", "2")
        self.refuse("got i32", "global_catavgmax_pool2d")

    def test_malformed_numbers(self):
        for text in ("x", "3,", ",3", "3;2", "3.5", "0x3", " 3", "3 2"):
            self.refuse("--kernel must be an integer or a list like 3,2", "max_pool2d", "--kernel", text)
        self.refuse("does not fit into 64 bits", "max_pool2d", "--kernel", "9223372036854775808")
        self.refuse("at most 3 values", "max_pool2d", "--kernel", "1,1,1,1")

    def test_values_outside_the_rules(self):
        refuse = self.refuse
        refuse("kernel", "max_pool2d", "--kernel", "0")
        refuse("kernel", "max_pool2d", "--kernel=-1")
        refuse("kernel", "max_pool2d", "--kernel", "1,2,3")
        refuse("stride", "max_pool2d", "--kernel", "2", "--stride", "0")
        refuse("padding", "max_pool2d", "--kernel", "2", "--padding", "2")
        refuse("padding", "max_pool2d", "--kernel", "2", "--padding=-1")
        refuse("dilation", "avg_pool2d", "--kernel", "2", "--dilation", "0")
        refuse("divisor_override", "avg_pool2d", "--kernel", "2", "--divisor-override", "0")
        refuse("output_size", "adaptive_avg_pool2d", "--output-size=-2")
        refuse("[max_pool2d]", "max_pool2d", "--kernel", "5")

    def test_sizes_that_overflow(self):
        self.refuse("[max_pool2d]", "max_pool2d", "--kernel", str(BIG), "--dilation", "4")
        self.refuse("overflow", "adaptive_avg_pool2d", "--output-size", str(BIG))

    def test_wrong_rank(self):
        self.write("x.npy", npy((4,), range(4)))
        self.refuse("[max_pool1d]", "max_pool1d", "--kernel", "2")
        self.write("x.npy", npy((), [1]))
        self.refuse("[global_max_pool1d]", "global_max_pool1d")

    def test_file_names_choose_the_format(self):
        self.refuse("must end in .npy or .png", "max_pool2d", "--kernel", "2", out="y.txt")
        self.refuse("--indices must name a .npy file", "max_pool2d", "--kernel", "2", "--indices", "where.png")
        self.refuse("same file", "max_pool2d", "--kernel", "2", "--indices", "./y.npy")

    def test_shapes_that_no_png_holds(self):
        self.write("x.npy", npy((5, 2, 2), range(20)))
        self.refuse("a PNG holds [C, H, W] with 1 to 4 channels", "max_pool2d", "--kernel", "2", out="y.png")
        self.write("x.npy", npy((1, 1, 2, 2), range(4)))
        self.refuse("a PNG holds [C, H, W]", "max_pool2d", "--kernel", "2", out="y.png")

    def test_unknown_cpu_target(self):
        self.expect_failure(2, "no-such-target", "info", env={"CENOTE_CPU_TARGET": "no-such-target"})


class Files(CliTest):
    def refuse(self, text, data, name="x.npy", op="max_pool1d"):
        self.write(name, data)
        error = self.expect_failure(2, text, "pool", op, name, "y.npy", "--kernel", "1")
        self.assertIn(name, error)
        self.assertFalse(os.path.exists(self.path("y.npy")))

    def refuse_header(self, text, header):
        self.refuse(text, npy_header(header) + b"\0" * 8)

    def test_foreign_npy(self):
        self.refuse("not a NumPy file", b"")
        self.refuse("not a NumPy file", b"PK\x03\x04" + b"\0" * 60)
        self.refuse("not a NumPy file", png(1, [[1]]))
        self.refuse("unknown NumPy format version 4", npy((1, 2), [1, 2], version=(4, 0)))
        self.refuse("unknown NumPy format version 0", npy((1, 2), [1, 2], version=(0, 0)))

    def test_npy_truncated_anywhere(self):
        whole = npy((1, 2), [1, 2])
        for size in (5, 6, 7, 8, 9, 10, 11, len(whole) // 2, len(whole) - 9, len(whole) - 8, len(whole) - 1):
            self.refuse("", whole[:size])

    def test_npy_with_too_much_data(self):
        self.refuse("needs 8 bytes of data, the file holds 9", npy((1, 2), [1, 2]) + b"\0")

    def test_npy_header_lengths(self):
        self.refuse("header of 4294967295 bytes is too long", b"\x93NUMPY\x02\x00\xff\xff\xff\xff{")
        self.refuse("truncated NumPy header", b"\x93NUMPY\x01\x00\xff\xff{")

    def test_npy_dtypes(self):
        header = "{{'descr': {}, 'fortran_order': False, 'shape': (1, 2)}}"
        self.refuse_header("big-endian dtype '>f4'", header.format("'>f4'"))
        self.refuse_header("object arrays", header.format("'|O'"))
        self.refuse_header("dtype '<c8' is not supported", header.format("'<c8'"))
        self.refuse_header("dtype '<u4' is not supported", header.format("'<u4'"))
        self.refuse_header("structured dtypes", header.format("[('a', '<f4'), ('b', '<f4')]"))

    def test_npy_malformed_dicts(self):
        good = "'descr': '<f4', 'fortran_order': False, 'shape': (1, 2)"
        for text in ("", "{", "[" + good + "]", "{" + good, "{" + good + "} + x", "{" + good + " 'descr': 1}",
                     "{" + good + ", " + good + "}", "{" + good + ", 'more': 1}", "{'descr': '<f4'}",
                     "{" + good.replace("False", "false") + "}", "{" + good.replace("False", "0") + "}",
                     "{" + good.replace("(1, 2)", "2") + "}", "{" + good.replace("(1, 2)", "(1, -2)") + "}",
                     "{" + good.replace("(1, 2)", "(1, 2.0)") + "}", "{" + good.replace("(1, 2)", "(1, 2") + "}",
                     "{" + good.replace("(1, 2)", "(1 2)") + "}", "{" + good.replace("'<f4'", "'<f4") + "}",
                     "{" * 60_000, "{'descr': __import__('os')}", "{\0" + good + "}"):
            self.refuse_header("malformed NumPy header", text)

    def test_npy_lying_shapes(self):
        header = "{{'descr': '<f4', 'fortran_order': {}, 'shape': {}}}"
        for order in (False, True):
            self.refuse_header("the file holds 8", header.format(order, (1000, 1000, 1000)))
            self.refuse_header("does not fit into 63 bits", header.format(order, (2**31, 2**31, 2**31)))
            self.refuse_header("does not fit into 63 bits", header.format(order, (0, 2**62, 2**62)))
            self.refuse_header("does not fit into 63 bits", header.format(order, (2**61,)))
            self.refuse_header("does not fit into 63 bits", header.format(order, (2**63,)))
            self.refuse_header("more than 8 dimensions", header.format(order, (1,) * 9))

    def refuse_png(self, text, data):
        self.refuse(text, data, "x.png", "max_pool2d")

    def test_foreign_png(self):
        self.refuse_png("not a PNG file", b"")
        self.refuse_png("not a PNG file", b"\xff\xd8\xff\xe0 JFIF")
        self.refuse_png("not a PNG file", npy((1, 2), [1, 2]))

    def test_png_truncated_anywhere(self):
        whole = png(3, [range(3), range(3), range(3)])
        inside_each_chunk = [whole.index(kind) + 6 for kind in (b"IHDR", b"IDAT", b"IEND")]
        for size in (7, 8, 12, 20, *inside_each_chunk, whole.index(b"IEND") - 4, len(whole) - 1):
            self.refuse_png("", whole[:size])

    def test_png_damaged(self):
        whole = bytearray(png(3, [range(3)] * 3))
        whole[whole.index(b"IHDR") + 4] ^= 1
        self.refuse_png("CRC", bytes(whole))
        damaged = bytearray(png(3, [range(3)] * 3))
        damaged[damaged.index(b"IDAT") + 8] ^= 0xFF
        self.refuse_png("", bytes(damaged))

    def test_png_of_16_bits(self):
        self.refuse_png("16-bit PNG is not supported", png(1, [[1, 2]], depth=16))

    def test_png_that_claims_a_giant(self):
        header = struct.pack(">IIBBBBB", 900_000, 900_000, 8, 6, 0, 0, 0)
        self.refuse_png("cannot be in a file of", PNG_SIGNATURE + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", b""))

    def test_png_that_unpacks_into_a_giant(self):
        palette = png_chunk(b"PLTE", bytes(6))
        self.refuse_png("20000 x 20000 pixels of 3 channels are too large",
                        png(20_000, [bytes(2500)] * 20_000, "palette", depth=1, extra=palette))
        self.refuse_png("17000 x 17000 pixels of 1 channels are too large",
                        png(17_000, [bytes(2125)] * 17_000, depth=1))

    def test_giant_files_are_not_read(self):
        header = npy_header("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2)}")
        cases = (("x.npy", b"", "not a NumPy file"), ("x.npy", header, "needs 8 bytes of data, the file holds"),
                 ("x.png", b"", "not a PNG file"), ("x.png", png(1, [[1]]), "is too large"))
        for name, start, text in cases:
            self.write(name, start)
            os.truncate(self.path(name), 2**40)  # sparse; more than any memory
            self.expect_failure(2, text, "pool", "max_pool1d", name, "y.npy", "--kernel", "1")

    def test_input_that_is_no_file(self):
        os.mkdir(self.path("folder.npy"))
        os.mkfifo(self.path("pipe.npy"))
        for name in ("missing.npy", "folder.npy", "pipe.npy"):
            self.expect_failure(2, name, "pool", "max_pool1d", name, "y.npy", "--kernel", "1")


class System(CliTest):
    """Failures of the machine: exit code 1, the reason, no partial file."""

    def setUp(self):
        super().setUp()
        self.write("x.npy", npy((1, 4096), range(4096)))

    def test_full_disk(self):
        os.symlink("/dev/full", self.path("full.npy"))
        self.expect_failure(1, "No space left on device", "pool", "max_pool1d", "x.npy", "full.npy", "--kernel", "1")
        self.assertTrue(stat.S_ISCHR(os.stat(self.path("full.npy")).st_mode))

    def test_disk_that_fills_while_writing(self):
        self.write("y.npy", b"the old file")

        def limit_file_size():
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

        # Python ignores SIGXFSZ; the program inherits that and sees the error.
        self.expect_failure(1, "cannot write", "pool", "max_pool1d", "x.npy", "y.npy", "--kernel", "1",
                            preexec_fn=limit_file_size, restore_signals=False)
        self.assertEqual(self.read("y.npy"), b"the old file")
        self.assertEqual(sorted(os.listdir(self.folder)), ["x.npy", "y.npy"])

    def test_folder_that_does_not_exist(self):
        self.expect_failure(1, "No such file or directory", "pool", "max_pool1d", "x.npy", "no/y.npy", "--kernel", "1")

    @unittest.skipIf(os.geteuid() == 0, "root writes everywhere")
    def test_folder_that_is_read_only(self):
        os.mkdir(self.path("closed"), 0o500)
        self.expect_failure(1, "Permission denied", "pool", "max_pool1d", "x.npy", "closed/y.npy", "--kernel", "1")

    def test_output_that_is_a_folder(self):
        os.mkdir(self.path("y.npy"))
        self.expect_failure(1, "Is a directory", "pool", "max_pool1d", "x.npy", "y.npy", "--kernel", "1")

    def test_full_standard_output(self):
        with open("/dev/full", "w") as full:
            result = subprocess.run([CENOTE, "info"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
        self.assertEqual(result.returncode, 1)
        self.assertIn("cannot write to standard output", result.stderr)

    @unittest.skipIf(SANITIZED, "the address sanitizer ends the program when memory is short")
    def test_out_of_memory(self):
        self.expect_failure(1, "out of memory", "pool", "adaptive_max_pool1d", "x.npy", "y.npy",
                            "--output-size", str(2**55))


if __name__ == "__main__":
    unittest.main()
