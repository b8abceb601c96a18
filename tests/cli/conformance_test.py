#!/usr/bin/env python3
"""`cenote conformance`: its output, its exit codes, the published cases, and hostile files."""
import json
import os
import random
import resource
import unittest

from onnx_files import chunk, model, node, number, tensor, write_case
from support import SANITIZED, CliTest

PUBLISHED = os.environ.get("CENOTE_ONNX_DATA", "")
POOLING = "(?:[Pp]ool|roialign)"  # in the name of every published case of a pooling operator

# The published cases that do not pass yet, and why. A case leaves this list when cenote learns to compute it.
NOT_SUPPORTED = {
    "node/test_roialign_aligned_false": "RoiAlign: cenote has no roi_align",
    "node/test_roialign_aligned_true": "RoiAlign: cenote has no roi_align",
}
PUBLISHED_CASES = {"node": 34 + 2, "pytorch-converted": 15, "pytorch-operator": 1}

X = tensor((1, 1, 4), (1, 4, 2, 3))
MAX_POOL = model([node("MaxPool", ["x"], ["y"], kernel_shape=[2])])
MAX_POOL_Y = tensor((1, 1, 3), (4, 4, 3))


class Conformance(CliTest):
    def case(self, name, model_bytes=MAX_POOL, inputs=(X,), outputs=(MAX_POOL_Y,)):
        write_case(self.path(name), model_bytes, inputs, outputs)

    def lines(self, code, *args, **options):
        result = self.run_cenote("conformance", *args, **options)
        self.assertEqual(result.returncode, code, f"stdout: {result.stdout}\nstderr: {result.stderr}")
        return result.stdout.splitlines()

    def test_a_case_and_a_folder_of_cases(self):
        self.case("all/b")
        self.case("all/a/deep")
        self.assertEqual(self.lines(0, "all/b"), ["pass           b", "1 cases: 1 pass, 0 fail, 0 not supported"])
        self.assertEqual(self.lines(0, "all"), ["pass           a/deep", "pass           b",
                                                "2 cases: 2 pass, 0 fail, 0 not supported"])
        self.assertEqual(len(self.lines(0, "all/b", "all/")), 4)
        self.assertEqual(self.lines(0, "all/b/.")[0], "pass           b")

    def test_each_outcome_is_a_line_with_its_reason(self):
        self.case("all/fails", outputs=[tensor((1, 1, 3), (4, 4.5, 9))])
        self.case("all/other", model([node("Conv", ["x"], ["y"])]))
        self.case("all/passes")
        self.assertEqual(self.lines(1, "all"), [
            "fail           fails: output 'y': 2 of 3 elements differ, most at [0, 0, 2]: got 3, expected 9 (error 6)",
            "not supported  other: the operator 'Conv' is neither pooling nor one that only reshapes",
            "pass           passes",
            "3 cases: 1 pass, 1 fail, 1 not supported"])
        self.assertEqual(self.lines(0, "all/other")[-1], "1 cases: 0 pass, 0 fail, 1 not supported")

    def test_json(self):
        self.case("all/fails", outputs=[tensor((1, 1, 3), (4, float("nan"), 3))])
        self.case("all/other", model([node("Conv", ["x"], ["y"])]))
        self.case("all/passes")
        document = json.loads("\n".join(self.lines(1, "all", "--json")))
        self.assertEqual(document["counts"], {"pass": 1, "fail": 1, "not supported": 1})
        self.assertEqual((document["rtol"], document["atol"]), (1e-3, 1e-7))
        fails, other, passes = document["cases"]
        self.assertEqual(passes, {"name": "passes", "folder": "all/passes", "outcome": "pass"})
        self.assertEqual((other["outcome"], "Conv" in other["reason"]), ("not supported", True))
        self.assertEqual(
            {key: fails[key] for key in ("outcome", "data_set", "output", "where", "differing", "elements", "got",
                                         "expected", "error")},
            {"outcome": "fail", "data_set": "test_data_set_0", "output": "y", "where": [0, 0, 1], "differing": 1,
             "elements": 3, "got": 4, "expected": None, "error": None})

    def test_unpooling_with_pads(self):
        indices = tensor((1, 1, 3), (0, 2, 3), 7, "q")
        shape = tensor((3,), (1, 1, 4), 7, "q")
        x, y = tensor((1, 1, 3), (5, 6, 7)), tensor((1, 1, 4), (5, 0, 6, 7))

        def unpool(name, pads, *inputs):
            unpooling = node("MaxUnpool", ["x", "i", "s"][:len(inputs) + 1], ["y"], kernel_shape=[3], strides=[1], pads=pads)
            self.case(name, model([unpooling], ("x", "i", "s")[:len(inputs) + 1]), (x, *inputs), [y])

        unpool("all/begin", [1, 0], indices)
        unpool("all/end", [0, 1], indices)
        unpool("all/ignored", [0, 4], indices, shape)
        unpool("all/index", [1, 0], tensor((1, 1, 3), (0, 2, -1), 7, "q"))
        unpool("all/negative", [-1, 0], indices)
        unpool("all/none", [4, 1], indices)
        self.assertEqual(self.lines(1, "all"), [
            "pass           begin", "pass           end", "pass           ignored",
            "fail           index: [max_unpool1d] indices must point into their own planes of the tensor, got -1",
            "fail           negative: [MaxUnpool-11] pads must be >= 0, got [-1, 0]",
            "fail           none: [MaxUnpool-11] the size of spatial axis 0 must be > 0, got 5 less pads 4 and 1",
            "6 cases: 3 pass, 3 fail, 0 not supported"])

    def test_tolerances(self):
        self.case("near", outputs=[tensor((1, 1, 3), (4, 4, 3.1))])
        self.lines(1, "near")
        self.lines(0, "near", "--rtol", "0.05")
        self.lines(0, "near", "--atol", "0.11", "--rtol", "0")
        self.lines(1, "near", "--atol", "0.09", "--rtol", "0")

    def test_filter(self):
        for name in ("all/max_1", "all/max_2", "all/avg_1"):
            self.case(name)
        self.assertEqual(len(self.lines(0, "all", "--filter", "max")), 3)
        self.assertEqual(len(self.lines(0, "all", "--filter", "^avg_\\d$")), 2)

    def test_bad_usage(self):
        self.case("all/case")
        os.mkdir(self.path("empty"))
        for text, args in (("folders is required", ()), ("no case in empty", ("empty",)), ("none does not exist", ("none",)),
                           ("is no folder", ("all/case/model.onnx",)), ("--filter 'other'", ("all", "--filter", "other")),
                           ("no regular expression", ("all", "--filter", "(")),
                           ("--rtol must be a finite number", ("all", "--rtol", "-1")),
                           ("--atol must be a finite number", ("all", "--atol", "nan")),
                           ("none does not exist", ("all", "none"))):
            self.expect_failure(2, text, "conformance", *args)

    def test_names_cannot_drive_the_terminal(self):
        self.case("all/a\nb\x1b[2J", model([node("Con\x1bv", ["x"], ["y"])]))
        lines = self.lines(0, "all")
        self.assertEqual(len(lines), 2)
        self.assertIn("a\\x0ab\\x1b[2J: the operator 'Con\\x1bv'", lines[0])

    def test_names_that_are_not_utf8(self):
        write_case(os.fsencode(self.path("all")).decode("utf-8", "surrogateescape") + "/\udcff", MAX_POOL, [X],
                   [MAX_POOL_Y])
        (case,) = json.loads("\n".join(self.lines(0, "all", "--json")))["cases"]
        self.assertEqual(case["outcome"], "pass")


class Hostile(CliTest):
    """Every file ends in a line for its case, in little memory, and the next case still runs."""

    def setUp(self):
        super().setUp()
        write_case(self.path("all/zz_good"), MAX_POOL, [X], [MAX_POOL_Y])

    def outcomes(self, code=1):
        def limit_memory():
            resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))

        options = {} if SANITIZED else {"preexec_fn": limit_memory}
        result = self.run_cenote("conformance", "all", "--json", **options)
        self.assertEqual((result.returncode, result.stderr), (code, ""))
        cases = json.loads(result.stdout)["cases"]
        self.assertEqual((cases[-1]["name"], cases[-1]["outcome"]), ("zz_good", "pass"))
        return {case["name"]: case for case in cases}

    def refuse(self, texts, code=1, outcome="fail"):
        """texts: what the reason of each case must hold."""
        cases = self.outcomes(code)
        for name, text in texts.items():
            with self.subTest(name):
                self.assertEqual(cases[name]["outcome"], outcome, cases[name])
                self.assertIn(text, cases[name]["reason"])

    def write_tensors(self, tensors):
        for name, content in tensors.items():
            write_case(self.path("all/" + name), MAX_POOL, [content], [MAX_POOL_Y])

    def test_tensors(self):
        raw = chunk(9, bytes(16))
        self.write_tensors({
            "empty": b"", "text": b"this is no tensor", "zeros": bytes(64),
            "huge": number(1, 2**40) + number(2, 1) + raw,
            "huge_product": number(1, 2**40) * 3 + number(2, 1) + raw,
            "negative": number(1, -1) + number(2, 1) + raw,
            "short": number(1, 1) * 2 + number(1, 5) + number(2, 1) + raw,
            "long": number(1, 1) * 2 + number(1, 3) + number(2, 1) + raw,
            "type": number(1, 4) + number(2, 77) + raw,
            "lying_length": number(1, 4) + number(2, 1) + b"\x4a\xff\xff\xff\xff\x07" + bytes(16),
        })
        self.refuse({"empty": "element type 0", "text": "not an ONNX tensor", "zeros": "not an ONNX tensor",
                     "huge": "16 bytes of raw_data", "huge_product": "passes 64 bits", "negative": "negative size -1",
                     "short": "16 bytes of raw_data, [1, 1, 5] elements of f32 need 20",
                     "long": "16 bytes of raw_data, [1, 1, 3] elements of f32 need 12", "type": "element type 77",
                     "lying_length": "not an ONNX tensor"})

    def test_tensors_that_are_legal_but_not_read(self):
        raw = chunk(9, bytes(16))
        external = number(14, 1) + chunk(13, chunk(1, "location") + chunk(2, "/etc/passwd"))
        self.write_tensors({"external": number(1, 4) + number(2, 1) + external,
                            "strings": number(1, 1) + number(2, 8) + chunk(6, "a"),
                            "rank": number(1, 1) * 9 + number(2, 1) + raw,
                            "complex": number(1, 2) + number(2, 14) + raw})
        self.refuse({"external": "external data", "strings": "ONNX type 8", "rank": "rank 9", "complex": "type 14"}, 0,
                    "not supported")

    def test_models(self):
        pool = {"kernel_shape": [2]}
        models = {
            "empty": b"", "text": b"this is no model", "tensor": X, "zeros": bytes(64),
            "cycle": model([node("MaxPool", ["b"], ["a"], **pool), node("MaxPool", ["a"], ["b"], **pool),
                            node("MaxPool", ["x"], ["y"], **pool)]),
            "kernel": model([node("MaxPool", ["x"], ["y"], kernel_shape=[2**62, 2**62])]),
            "kernel_huge": model([node("MaxPool", ["x"], ["y"], kernel_shape=[2**62])]),
            "missing_input": model([node("MaxPool", ["x"], ["y"], **pool)], inputs=("x", "z")),
            "nested": model([chunk(5, chunk(6, b"")) * 1 + node("MaxPool", ["x"], ["y"], **pool)]),
        }
        deep = b""
        for _ in range(5000):  # a graph in an attribute of a node of a graph ...
            deep = chunk(1, chunk(5, chunk(6, deep)))
        models["deep"] = number(1, 8) + chunk(7, deep)
        for name, content in models.items():
            write_case(self.path("all/" + name), content, [X], [MAX_POOL_Y])
        self.refuse({"empty": "it has no graph", "text": "not an ONNX model", "tensor": "not an ONNX model",
                     "zeros": "not an ONNX model", "cycle": "reads 'b', which nothing before it gives",
                     "kernel": "kernel_shape must have 1 values", "kernel_huge": "output size",
                     "missing_input": "got 1", "nested": "no attribute ''", "deep": "not an ONNX model"})

    def test_models_that_ask_for_too_much(self):
        for name, attributes in {"pads": {"kernel_shape": [2], "pads": [2**40, 0]},
                                 "pads_1gib": {"kernel_shape": [2], "pads": [2**29, 0]}}.items():
            write_case(self.path("all/" + name), model([node("MaxPool", ["x"], ["y"], **attributes)]), [X], [MAX_POOL_Y])
        self.refuse({"pads": "more than", "pads_1gib": "1 GiB"}, 0, "not supported")

    def test_giant_files_are_not_read(self):
        write_case(self.path("all/model"), MAX_POOL, [X], [MAX_POOL_Y])
        os.truncate(self.path("all/model/model.onnx"), 2**40)
        self.write_tensors({"tensor": X})
        os.truncate(self.path("all/tensor/test_data_set_0/input_0.pb"), 2**40)
        self.refuse({"model": "more than the 4194304 allowed", "tensor": "more than the 67108864 allowed"})

    def test_files_that_are_no_files(self):
        self.write_tensors({"folder": X, "pipe": X, "link": X})
        for name in ("folder", "pipe", "link"):
            os.remove(self.path(f"all/{name}/test_data_set_0/input_0.pb"))
        os.mkdir(self.path("all/folder/test_data_set_0/input_0.pb"))
        os.mkfifo(self.path("all/pipe/test_data_set_0/input_0.pb"))
        os.symlink("/nowhere", self.path("all/link/test_data_set_0/input_0.pb"))
        self.refuse({"folder": "is not a regular file", "pipe": "is not a regular file",
                     "link": "input_0.pb is missing"})

    def test_truncated_anywhere(self):
        for size in range(len(MAX_POOL)):
            write_case(self.path(f"all/model_{size}"), MAX_POOL[:size], [X], [MAX_POOL_Y])
        for size in range(len(X)):
            self.write_tensors({f"tensor_{size}": X[:size]})
        cases = self.outcomes()
        self.assertEqual(len(cases), len(MAX_POOL) + len(X) + 1)
        self.assertEqual({case["outcome"] for name, case in cases.items() if name != "zz_good"}, {"fail"})

    def test_damaged_anywhere(self):
        draw = random.Random(20261122)
        damage = {"model": MAX_POOL, "input": X, "output": MAX_POOL_Y}
        for number_of_case in range(400):
            which = draw.choice(sorted(damage))
            content = bytearray(damage[which])
            for _ in range(draw.randint(1, 3)):
                place = draw.randrange(len(content))
                content[place] = draw.choice((0, 1, 0x7F, 0x80, 0xFF, content[place] ^ 1 << draw.randrange(8)))
            files = {**damage, which: bytes(content)}
            write_case(self.path(f"all/{number_of_case}"), files["model"], [files["input"]], [files["output"]])
        cases = self.outcomes()
        self.assertEqual(len(cases), 401)
        counts = [sum(case["outcome"] == outcome for case in cases.values()) for outcome in ("pass", "fail")]
        self.assertGreater(counts[0], 10, "damage of unread bytes is no failure")
        self.assertGreater(counts[1], 200)


@unittest.skipUnless(os.path.isdir(PUBLISHED), "no published cases; Debian has them in libonnx-testdata")
class Published(CliTest):
    """ONNX's own cases."""

    def test_all_cases_of_pooling(self):
        document = json.loads(self.expect_fine("conformance", PUBLISHED, "--filter", POOLING, "--json"))
        cases = {case["name"]: case for case in document["cases"]}
        for group, count in PUBLISHED_CASES.items():
            self.assertEqual(sum(name.startswith(group + "/") for name in cases), count, group)
        not_passing = {name: case["reason"] for name, case in cases.items() if case["outcome"] != "pass"}
        self.assertEqual(not_passing, NOT_SUPPORTED)

    def test_no_other_case_fails(self):
        """Of the thousand cases of other operators none is taken for pooling, and none for damaged."""
        result = self.run_cenote("conformance", PUBLISHED, "--json")
        cases = [case for case in json.loads(result.stdout)["cases"]]
        self.assertGreater(len(cases), 1000)
        self.assertEqual([case for case in cases if case["outcome"] == "fail"], [])
        self.assertEqual(sum(case["outcome"] == "pass" for case in cases),
                         sum(PUBLISHED_CASES.values()) - len(NOT_SUPPORTED))

    def test_every_target_agrees(self):
        targets = json.loads(self.expect_fine("info", "--json"))["cpu_targets"]
        self.assertIn("reference", targets)
        for target in targets:
            self.expect_fine("conformance", PUBLISHED, "--filter", POOLING, env={"CENOTE_CPU_TARGET": target})


if __name__ == "__main__":
    unittest.main()
