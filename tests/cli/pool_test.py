"""`cenote pool` on good input: values, layouts, dtypes, options and formats, against results worked by hand."""
import json
import math
import os
import struct
import unittest

from support import CliTest, npy, parse_npy, png, png_chunk

RAMP4 = list(range(16))  # one channel of 4 x 4


class PoolNpy(CliTest):
    def pool(self, op, shape, values, *options, descr="<f4", **layout):
        self.write("x.npy", npy(shape, values, descr, **layout))
        self.expect_fine("pool", op, "x.npy", "y.npy", *options)
        return parse_npy(self.read("y.npy"))

    def test_max_2d(self):
        self.assertEqual(self.pool("max_pool2d", (1, 4, 4), RAMP4, "--kernel", "2"),
                         ("<f4", (1, 2, 2), [5, 7, 13, 15]))

    def test_batch_dimension_is_kept(self):
        self.assertEqual(self.pool("max_pool2d", (2, 1, 2, 2), [1, 2, 3, 4, 8, 7, 6, 5], "--kernel", "2"),
                         ("<f4", (2, 1, 1, 1), [4, 8]))

    def test_avg_1d_in_f64(self):
        self.assertEqual(self.pool("avg_pool1d", (1, 5), [1, 2, 4, 8, 16], "--kernel", "2", "--stride", "1",
                                   descr="<f8"), ("<f8", (1, 4), [1.5, 3, 6, 12]))

    def test_max_3d(self):
        self.assertEqual(self.pool("max_pool3d", (1, 2, 2, 2), [3, 1, 4, 1, 5, 9, 2, 6], "--kernel", "2"),
                         ("<f4", (1, 1, 1, 1), [9]))

    def test_kernel_per_axis(self):
        self.assertEqual(self.pool("max_pool2d", (1, 4, 4), RAMP4, "--kernel", "1,4"),
                         ("<f4", (1, 4, 1), [3, 7, 11, 15]))

    def test_dilation_for_avg(self):
        self.assertEqual(self.pool("avg_pool1d", (1, 5), [1, 2, 4, 8, 16], "--kernel", "2", "--dilation", "3",
                                   "--stride", "1"), ("<f4", (1, 2), [4.5, 9]))

    def test_padding_begin_and_end(self):
        self.assertEqual(self.pool("max_pool1d", (1, 3), [1, 2, 3], "--kernel", "2", "--stride", "2",
                                   "--padding", "1", "--padding-end", "0"), ("<f4", (1, 2), [1, 3]))

    def test_ceil_mode(self):
        self.assertEqual(self.pool("max_pool1d", (1, 5), [1, 2, 3, 4, 5], "--kernel", "2", "--ceil-mode"),
                         ("<f4", (1, 3), [2, 4, 5]))

    def test_padding_counts_unless_told(self):
        window = ("--kernel", "2", "--padding", "1")
        self.assertEqual(self.pool("avg_pool1d", (1, 2), [4, 6], *window)[2], [2, 3])
        self.assertEqual(self.pool("avg_pool1d", (1, 2), [4, 6], *window, "--no-count-include-pad")[2], [4, 6])
        self.assertEqual(self.pool("avg_pool1d", (1, 2), [4, 6], *window, "--count-include-pad", "false")[2], [4, 6])
        self.assertEqual(self.pool("avg_pool1d", (1, 2), [4, 6], *window, "--count-include-pad", "true")[2], [2, 3])

    def test_divisor_override(self):
        self.assertEqual(self.pool("avg_pool1d", (1, 2), [4, 6], "--kernel", "2", "--divisor-override=-4")[2], [-2.5])

    def test_adaptive(self):
        self.assertEqual(self.pool("adaptive_avg_pool1d", (1, 5), [1, 2, 3, 4, 5], "--output-size", "3")[2],
                         [1.5, 3, 4.5])
        self.assertEqual(self.pool("adaptive_max_pool2d", (1, 4, 4), RAMP4, "--output-size=-1,1"),
                         ("<f4", (1, 4, 1), [3, 7, 11, 15]))

    def test_global(self):
        self.assertEqual(self.pool("global_avg_pool2d", (2, 2, 2), [1, 2, 3, 4, 10, 20, 30, 40]),
                         ("<f4", (2, 1, 1), [2.5, 25]))

    def test_median_and_mode(self):
        self.assertEqual(self.pool("median_pool1d", (1, 6), [5, 1, 4, 1, 3, 9], "--kernel", "3")[2], [4, 3])
        self.assertEqual(self.pool("mode_pool1d", (1, 6), [5, 1, 1, 4, 3, 4], "--kernel", "3")[2], [1, 4])

    def test_auto_pad(self):
        options = "--kernel", "2", "--stride", "2"
        self.assertEqual(self.pool("sum_pool1d", (1, 5), [1, 2, 3, 4, 5], *options, "--auto-pad", "SAME_UPPER")[2],
                         [3, 7, 5])
        self.assertEqual(self.pool("sum_pool1d", (1, 5), [1, 2, 3, 4, 5], *options, "--auto-pad", "SAME_LOWER")[2],
                         [1, 5, 9])
        self.assertEqual(self.pool("sum_pool1d", (1, 5), [1, 2, 3, 4, 5], *options, "--auto-pad", "VALID")[2], [3, 7])

    def test_convention(self):
        self.assertEqual(self.pool("sum_pool1d", (1, 2), [1, 2], "--kernel", "2", "--padding", "2", "--convention",
                                   "onnx")[2], [0, 3, 0])

    def test_powers(self):
        self.assertEqual(self.pool("lp_pool1d", (1, 4), [3, -4, 0, 5], "--kernel", "2")[2], [5, 5])
        self.assertEqual(self.pool("lp_pool1d", (1, 4), [3, -4, 0, 5], "--kernel", "2", "--norm-type", "1")[2], [7, 5])
        self.assertEqual(self.pool("adaptive_lp_pool1d", (1, 4), [3, -4, 0, 5], "--output-size", "1", "--norm-type",
                                   "inf")[2], [5])
        self.assertEqual(self.pool("global_lp_pool1d", (1, 4), [1, -1, 1, 1], "--norm-type", "0.5")[2], [16])

    def test_exponentials(self):
        one, default = (self.pool(op, (1, 2), [0, math.log(3)], "--kernel", "2", *options, descr="<f8")[2][0]
                        for op, options in (("lse_pool1d", ("--sharpness", "1")), ("soft_pool1d", ())))
        self.assertAlmostEqual(one, math.log(2), places=14)
        self.assertAlmostEqual(default, 0.75 * math.log(3), places=14)
        sharp = self.pool("lse_pool1d", (1, 2), [0, 1], "--kernel", "2", descr="<f8")[2][0]
        self.assertAlmostEqual(sharp, math.log((1 + math.exp(10)) / 2) / 10, places=14, msg="the default of lse is 10")

    def test_generalised_mean(self):
        x = (2, 2), [1, 7, 3, -1]
        self.assertEqual([round(y, 5) for y in self.pool("global_gem_pool1d", *x, "--p", "2,1")[2]], [5, 1.5])
        self.assertEqual([round(y, 5) for y in self.pool("global_gem_pool1d", *x, "--p", "1", "--eps", "2")[2]],
                         [4.5, 2.5])
        self.assertEqual(round(self.pool("global_gem_pool1d", (1, 2), [1, 3])[2][0], 5), 2.41014, "cube root of 14")

    def test_global_moments(self):
        x = (2, 2), [1, 3, 10, 20]
        self.assertEqual(self.pool("global_std_pool1d", *x)[2], [1, 5])
        self.assertEqual(self.pool("global_avgmax_pool1d", *x)[2], [2.5, 17.5])
        self.assertEqual(self.pool("global_catavgmax_pool1d", *x)[1:], ((4, 1), [2, 15, 3, 20]))

    def test_fortran_order(self):
        columns_first = [RAMP4[4 * row + column] for column in range(4) for row in range(4)]
        self.assertEqual(self.pool("max_pool2d", (1, 4, 4), columns_first, "--kernel", "2", fortran=True),
                         ("<f4", (1, 2, 2), [5, 7, 13, 15]))

    def test_every_format_version(self):
        for version in ((1, 0), (2, 0), (3, 0)):
            with self.subTest(version=version):
                self.assertEqual(self.pool("max_pool1d", (1, 2), [1, 2], "--kernel", "2", version=version)[2], [2])

    def test_every_dtype_is_kept(self):
        for descr, mean in (("<f4", 2.5), ("<f8", 2.5), ("<f2", 2.5), ("|i1", 2), ("|u1", 2), ("<i4", 2), ("<i8", 2)):
            with self.subTest(descr=descr):
                self.assertEqual(self.pool("avg_pool1d", (1, 2), [2, 3], "--kernel", "2", descr=descr),
                                 (descr, (1, 1), [mean]))

    def test_minimum_and_sum(self):
        self.assertEqual(self.pool("min_pool1d", (1, 4), [3, 1, 2, 5], "--kernel", "2")[2], [1, 2])
        self.assertEqual(self.pool("sum_pool1d", (1, 4), [3, 1, 2, 5], "--kernel", "2")[2], [4, 7])

    def test_nan_and_infinity(self):
        nan, inf = math.nan, math.inf
        values = self.pool("max_pool1d", (1, 6), [1, nan, -inf, -inf, inf, 0], "--kernel", "2")[2]
        self.assertTrue(math.isnan(values[0]))
        self.assertEqual(values[1:], [-inf, inf])

    def test_empty_batch(self):
        self.assertEqual(self.pool("max_pool1d", (0, 1, 4), [], "--kernel", "2"), ("<f4", (0, 1, 2), []))

    def test_indices(self):
        self.write("x.npy", npy((1, 4, 4), [0, 9, 2, 2, 0, 0, 2, 2, -1, -1, 5, 0, -1, -1, 0, 6]))
        self.expect_fine("pool", "max_pool2d", "x.npy", "y.npy", "--kernel", "2", "--indices", "where.npy")
        self.assertEqual(parse_npy(self.read("y.npy"))[2], [9, 2, -1, 6])
        self.assertEqual(parse_npy(self.read("where.npy")), ("<i8", (1, 2, 2), [1, 2, 8, 15]))

    def test_unpooling_reads_the_indices(self):
        self.write("x.npy", npy((1, 4, 4), [0, 9, 2, 2, 0, 0, 2, 2, -1, -1, 5, 0, -1, -1, 0, 6]))
        self.expect_fine("pool", "max_pool2d", "x.npy", "y.npy", "--kernel", "2", "--indices", "where.npy")
        where = self.read("where.npy")
        self.expect_fine("pool", "max_unpool2d", "y.npy", "back.npy", "--kernel", "2", "--indices", "where.npy")
        self.assertEqual(parse_npy(self.read("back.npy")),
                         ("<f4", (1, 4, 4), [0, 9, 2, 0, 0, 0, 0, 0, -1, 0, 0, 0, 0, 0, 0, 6]))
        self.assertEqual(self.read("where.npy"), where, "the indices are read, not written")

    def test_indices_through_the_whole_array_and_back(self):
        x = [0, 3, 1, 2, 5, 4, 9, 6, 7, 8, 11, 10]  # two channels of 2 x 3
        for order, expected in (("plane", [4, 4]), ("tensor", [4, 10]), ("tensor-column-major", [3, 9])):
            self.pool("max_pool2d", (2, 2, 3), x, "--kernel", "2,3", "--indices", "where.npy", "--index-order", order)
            self.assertEqual(parse_npy(self.read("where.npy")), ("<i8", (2, 1, 1), expected))
            self.expect_fine("pool", "max_unpool2d", "y.npy", "back.npy", "--kernel", "2,3", "--indices", "where.npy",
                             "--index-order", order)
            self.assertEqual(parse_npy(self.read("back.npy"))[2], [0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 11, 0])

    def test_quantised_average(self):
        self.assertEqual(self.pool("avg_pool1d", (1, 4), [1, 2, 2, 3], "--kernel", "2", descr="|u1"),
                         ("|u1", (1, 2), [1, 2]))
        self.assertEqual(self.pool("avg_pool1d", (1, 4), [1, 2, 2, 3], "--kernel", "2", "--x-scale", "1", descr="|u1"),
                         ("|u1", (1, 2), [2, 2]))  # half to even
        self.assertEqual(self.pool("avg_pool1d", (1, 2), [10, 20], "--kernel", "3", "--stride", "2", "--padding", "1",
                                   "--x-scale", "2", "--x-zero-point", "10", "--y-scale", "4", "--y-zero-point=-5",
                                   descr="|i1"), ("|i1", (1, 1), [-3]))

    def test_unpooling_to_a_size(self):
        self.write("x.npy", npy((1, 2), [3, 4]))
        self.write("where.npy", npy((1, 2), [4, 0], "<i8"))
        self.expect_fine("pool", "max_unpool1d", "x.npy", "y.npy", "--kernel", "2", "--output-size", "5", "--indices",
                         "where.npy")
        self.assertEqual(parse_npy(self.read("y.npy")), ("<f4", (1, 5), [4, 0, 0, 0, 3]))

    def test_fractional_windows_lie_where_the_samples_say(self):
        self.write("u.npy", npy((1, 1, 2), [0.9, 0]))
        window = ("--kernel", "1,2", "--output-size", "1,4")
        self.assertEqual(self.pool("fractional_max_pool2d", (1, 1, 7), range(7), *window, "--samples", "u.npy",
                                   "--indices", "where.npy"), ("<f4", (1, 1, 4), [1, 3, 4, 6]))
        self.assertEqual(parse_npy(self.read("where.npy")), ("<i8", (1, 1, 4), [1, 3, 4, 6]))
        drawn = {seed: self.pool("fractional_max_pool2d", (1, 1, 7), range(7), *window, "--seed", seed)[2]
                 for seed in ("0", "1", "2", "3", str(2**64 - 1))}
        self.assertEqual(drawn["0"], self.pool("fractional_max_pool2d", (1, 1, 7), range(7), *window)[2])
        self.assertGreater(len(set(map(tuple, drawn.values()))), 1)

    def test_fractional_output_ratio(self):
        self.assertEqual(self.pool("fractional_max_pool2d", (1, 4, 4), RAMP4, "--kernel", "1", "--output-ratio",
                                   "0.5,0.3")[1], (1, 2, 1))

    def test_output_may_be_the_input(self):
        self.write("x.npy", npy((1, 2), [1, 2]))
        self.expect_fine("pool", "max_pool1d", "x.npy", "x.npy", "--kernel", "2")
        self.assertEqual(parse_npy(self.read("x.npy"))[2], [2])

    def test_a_link_stays_a_link(self):
        self.write("x.npy", npy((1, 2), [1, 2]))
        self.write("target.npy", b"old")
        os.symlink("target.npy", self.path("link.npy"))
        self.expect_fine("pool", "max_pool1d", "x.npy", "link.npy", "--kernel", "2")
        self.assertTrue(os.path.islink(self.path("link.npy")))
        self.assertEqual(parse_npy(self.read("target.npy"))[2], [2])

    def test_every_cpu_target_agrees(self):
        targets = self.expect_fine("info", "--json")
        self.write("x.npy", npy((1, 4, 4), RAMP4))
        for target in json.loads(targets)["cpu_targets"]:
            self.expect_fine("pool", "avg_pool2d", "x.npy", "y.npy", "--kernel", "3", "--stride", "1",
                             env={"CENOTE_CPU_TARGET": target})
            self.assertEqual(parse_npy(self.read("y.npy"))[2], [5, 6, 9, 10], target)


class PoolPng(CliTest):
    def to_npy(self, data):
        """The image as the program reads it."""
        self.write("x.png", data)
        self.expect_fine("pool", "max_pool2d", "x.png", "y.npy", "--kernel", "1")
        return parse_npy(self.read("y.npy"))[1:]

    def test_gray(self):
        self.assertEqual(self.to_npy(png(2, [[0, 255], [7, 8]])), ((1, 2, 2), [0, 255, 7, 8]))

    def test_rgb_planes(self):
        self.assertEqual(self.to_npy(png(2, [[1, 2, 3, 4, 5, 6]], "rgb")), ((3, 1, 2), [1, 4, 2, 5, 3, 6]))

    def test_rgba(self):
        self.assertEqual(self.to_npy(png(1, [[1, 2, 3, 4]], "rgba")), ((4, 1, 1), [1, 2, 3, 4]))

    def test_gray_alpha(self):
        self.assertEqual(self.to_npy(png(1, [[9, 8]], "gray_alpha")), ((2, 1, 1), [9, 8]))

    def test_palette_becomes_rgb(self):
        palette = png_chunk(b"PLTE", bytes([10, 20, 30, 40, 50, 60]))
        self.assertEqual(self.to_npy(png(2, [[1, 0]], "palette", extra=palette)),
                         ((3, 1, 2), [40, 10, 50, 20, 60, 30]))

    def test_one_bit_becomes_0_and_255(self):
        self.assertEqual(self.to_npy(png(2, [[0b01000000]], depth=1)), ((1, 1, 2), [0, 255]))

    def test_a_gamma_changes_nothing(self):
        gamma = png_chunk(b"gAMA", struct.pack(">I", 100000))
        self.assertEqual(self.to_npy(png(2, [[100, 200]], extra=gamma)), ((1, 1, 2), [100, 200]))

    def test_image_to_image(self):
        for kind, channels in (("gray", 1), ("gray_alpha", 2), ("rgb", 3), ("rgba", 4)):
            with self.subTest(kind=kind):
                self.write("x.png", png(2, [range(2 * channels), range(100, 100 + 2 * channels)], kind))
                self.expect_fine("pool", "max_pool2d", "x.png", "half.png", "--kernel", "2")
                self.assertEqual(self.to_npy(self.read("half.png")),
                                 ((channels, 1, 1), [100 + channels + c for c in range(channels)]))

    def test_values_are_rounded_and_clamped(self):
        values = [-3, 0.5, 1.5, 2.5, 254.6, 300, math.nan, -math.inf, math.inf]
        for descr in ("<f4", "<f8"):
            self.write("x.npy", npy((1, 1, len(values)), values, descr))
            self.expect_fine("pool", "max_pool2d", "x.npy", "y.png", "--kernel", "1")
            self.assertEqual(self.to_npy(self.read("y.png"))[1], [0, 0, 2, 2, 255, 255, 0, 0, 255])


if __name__ == "__main__":
    unittest.main()
