"""ONNX Runtime for cenote_compare (child.py). A session holds one pooling node. Inputs and outputs are bound
beforehand, so a call copies nothing and allocates nothing.
"""
import functools

import child

# Opset 11: from 19 on, averages run in the plain loops that also know dilation.
OPSET, IR_VERSION = 11, 6


class Session(child.Session):
    def prepare(self, ask):
        self.dtype = {"f32": numpy.float32, "f64": numpy.float64, "f16": numpy.float16, "i8": numpy.int8,
                      "u8": numpy.uint8}.get(ask["dtype"])
        if self.dtype is None:
            raise child.Unsupported("no such dtype in NumPy")
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
        self.session = onnxruntime.InferenceSession(model.SerializeToString(), options,
                                                    providers=["CPUExecutionProvider"])
        self.buffers = []

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
            raise child.Unsupported("AveragePool of this opset has no dilation")
        return onnx.helper.make_node("AveragePool", ["x"], ["y"], count_include_pad=0, **window)

    def make_call(self, memory):
        count = int(numpy.prod(self.x_sizes))
        x = numpy.frombuffer(memory, self.dtype, count).reshape(self.x_sizes).copy()
        y = numpy.empty(self.y_sizes, self.dtype)
        binding = self.session.io_binding()
        binding.bind_input("x", "cpu", 0, self.dtype, x.shape, x.ctypes.data)
        binding.bind_output("y", "cpu", 0, self.dtype, y.shape, y.ctypes.data)
        self.buffers.append((x, y))
        return functools.partial(self.session.run_with_iobinding, binding)

    def result(self):
        self.calls[0]()
        x, y = self.buffers[0]
        return x.nbytes, y.tobytes()


try:
    import numpy
    import onnx
    import onnxruntime
except ImportError as error:
    child.refuse(error)

if __name__ == "__main__":
    child.serve(Session, f"{onnxruntime.__version__}, its own threads, timed from Python")
