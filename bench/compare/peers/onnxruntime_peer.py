"""ONNX Runtime for cenote_compare: answers each line of JSON on standard input with one on standard output.

A session holds one pooling node. Inputs and outputs are bound beforehand, so a call copies nothing and allocates
nothing; times are taken as cenote_compare takes them, around batches of calls, and include the call from Python.
"""
import ctypes
import json
import mmap
import os
import sys
import time

# Opset 11: from 19 on, averages run in the plain loops that also know dilation.
OPSET, IR_VERSION = 11, 6


class Unsupported(Exception):
    pass


class Session:
    def __init__(self, ask):
        self.dtype = {"f32": numpy.float32, "f64": numpy.float64, "f16": numpy.float16, "i8": numpy.int8,
                      "u8": numpy.uint8}.get(ask["dtype"])
        if self.dtype is None:
            raise Unsupported("no such dtype in NumPy")
        outer = [ask["n"], ask["c"]]
        self.x_sizes, self.y_sizes = outer + ask["x"], outer + ask["y"]
        self.session = self.make_session(ask)
        descriptor = os.open(ask["memory"], os.O_RDWR)
        self.memory = mmap.mmap(descriptor, 0)
        os.close(descriptor)
        self.sets = []

    def make_session(self, ask):
        element = onnx.helper.np_dtype_to_tensor_dtype(numpy.dtype(self.dtype))
        graph = onnx.helper.make_graph(
            [self.node(ask)], "pool", [onnx.helper.make_tensor_value_info("x", element, self.x_sizes)],
            [onnx.helper.make_tensor_value_info("y", element, self.y_sizes)])
        opset = 12 if element in (onnx.TensorProto.INT8, onnx.TensorProto.UINT8) else OPSET
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)],
                                       ir_version=IR_VERSION)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = ask["threads"]
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    @staticmethod
    def node(ask):
        plain = not any(ask["padding"])
        if ask["kind"] == "avg" and plain and ask["kernel"] == ask["x"]:
            return onnx.helper.make_node("GlobalAveragePool", ["x"], ["y"])
        window = {"kernel_shape": ask["kernel"], "strides": ask["stride"],
                  "pads": ask["padding"] + [max(0, end) for end in ask["padding_end"]]}
        if ask["kind"] == "max":
            return onnx.helper.make_node("MaxPool", ["x"], ["y"], dilations=ask["dilation"], **window)
        if any(dilation != 1 for dilation in ask["dilation"]):
            raise Unsupported("AveragePool of this opset has no dilation")
        return onnx.helper.make_node("AveragePool", ["x"], ["y"], count_include_pad=0, **window)

    def bind(self):
        count = int(numpy.prod(self.x_sizes))
        x = numpy.frombuffer(self.memory, self.dtype, count).reshape(self.x_sizes).copy()
        y = numpy.empty(self.y_sizes, self.dtype)
        binding = self.session.io_binding()
        binding.bind_input("x", "cpu", 0, self.dtype, x.shape, x.ctypes.data)
        binding.bind_output("y", "cpu", 0, self.dtype, y.shape, y.ctypes.data)
        self.sets.append((binding, x, y))

    def turn(self, number, batch, seconds):
        run, bindings = self.session.run_with_iobinding, [entry[0] for entry in self.sets]
        count, samples = len(bindings), []
        begin = start = time.perf_counter()
        while True:
            for call in range(number, number + batch):
                run(bindings[call % count])
            number += batch
            end = time.perf_counter()
            samples.append((end - start) * 1e3 / batch)
            start = end
            if end - begin >= seconds:
                return samples

    def fetch(self):
        binding, x, y = self.sets[0]
        self.session.run_with_iobinding(binding)
        self.memory[x.nbytes:x.nbytes + y.nbytes] = y.tobytes()


def answer(session, ask):
    """The session from now on, and the answer."""
    if ask["do"] == "prepare":
        return Session(ask), {}
    if ask["do"] == "bind":
        session.bind()
    elif ask["do"] == "fetch":
        session.fetch()
    elif ask["do"] == "turn":
        return session, {"samples": session.turn(ask["number"], ask["batch"], ask["seconds"])}
    return session, {}


def serve():
    session = None
    for line in sys.stdin:
        try:
            ask = json.loads(line)
            if ask["do"] == "prepare":
                session = None  # its memory is free before the next one takes its own
            session, reply = answer(session, ask)
        except Exception as error:  # whatever the library throws is the reason that the row names
            reply = {"error": str(error).splitlines()[0] if str(error) else type(error).__name__}
        print(json.dumps(reply), flush=True)


try:
    import numpy
    import onnx
    import onnxruntime
except ImportError as error:
    print(json.dumps({"error": str(error)}), flush=True)
    sys.exit(1)

if __name__ == "__main__":
    ctypes.CDLL(None).prctl(1, 15)  # PR_SET_PDEATHSIG, SIGTERM: no child without its parent
    print(json.dumps({"version": onnxruntime.__version__}), flush=True)
    serve()
