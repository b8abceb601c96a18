"""ONNX files byte by byte, without protobuf: just the messages and fields that the tests need."""
import os
import struct


def varint(value):
    value &= 2**64 - 1  # negative numbers travel as 64-bit two's complement
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def number(field, value):
    return varint(field << 3) + varint(value)


def chunk(field, data):
    data = data.encode() if isinstance(data, str) else data
    return varint(field << 3 | 2) + varint(len(data)) + data


def tensor(sizes, values, data_type=1, code="f"):
    """A TensorProto with raw_data."""
    raw = struct.pack(f"<{len(values)}{code}", *values)
    return b"".join(number(1, size) for size in sizes) + number(2, data_type) + chunk(9, raw)


def attribute(name, value):
    if isinstance(value, int):
        return chunk(1, name) + number(3, value) + number(20, 2)
    if isinstance(value, str):
        return chunk(1, name) + chunk(4, value) + number(20, 3)
    return chunk(1, name) + b"".join(number(8, item) for item in value) + number(20, 7)


def node(op, inputs, outputs, **attributes):
    return (b"".join(chunk(1, name) for name in inputs) + b"".join(chunk(2, name) for name in outputs) + chunk(4, op) +
            b"".join(chunk(5, attribute(name, value)) for name, value in attributes.items()))


def model(nodes, inputs=("x",), outputs=("y",), opset=12):
    graph = (b"".join(chunk(1, one) for one in nodes) + b"".join(chunk(11, chunk(1, name)) for name in inputs) +
             b"".join(chunk(12, chunk(1, name)) for name in outputs))
    return number(1, 8) + chunk(7, graph) + chunk(8, number(2, opset))


def write_case(folder, model_bytes, inputs, outputs):
    data = os.path.join(folder, "test_data_set_0")
    os.makedirs(data)
    files = {os.path.join(folder, "model.onnx"): model_bytes}
    files |= {os.path.join(data, f"input_{i}.pb"): one for i, one in enumerate(inputs)}
    files |= {os.path.join(data, f"output_{i}.pb"): one for i, one in enumerate(outputs)}
    for path, content in files.items():
        with open(path, "wb") as file:
            file.write(content)
