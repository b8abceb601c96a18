#!/usr/bin/env python3
"""Cuts a small subset out of Fashion-MNIST: the first images of each class, in their original order.

The result, four gzip-compressed IDX files with the original names, is reproducible byte for byte.
Usage: tools/make_subset.py [--source DIR] [--out DIR] [--train N] [--test N]
"""
import argparse
import gzip
import struct
from pathlib import Path


def read_idx(path, rank):
    data = gzip.decompress(path.read_bytes())
    if data[:4] != bytes([0, 0, 8, rank]):
        raise SystemExit(f"{path} is not an IDX file with {rank} dimensions")
    sizes = struct.unpack(f">{rank}I", data[4 : 4 + 4 * rank])
    return sizes, data[4 + 4 * rank :]


def write_idx(path, sizes, values):
    header = bytes([0, 0, 8, len(sizes)]) + struct.pack(f">{len(sizes)}I", *sizes)
    with open(path, "wb") as file:
        with gzip.GzipFile("", "wb", 9, file, mtime=0) as packed:
            packed.write(header + values)


def balanced(labels, count, classes=10):
    """Indices of the first count / classes images of each class."""
    left = {label: count // classes for label in range(classes)}
    chosen = []
    for index, label in enumerate(labels):
        if left[label] > 0:
            left[label] -= 1
            chosen.append(index)
    return chosen


def cut(source, out, prefix, count):
    (_, height, width), pixels = read_idx(source / f"{prefix}-images-idx3-ubyte.gz", 3)
    _, labels = read_idx(source / f"{prefix}-labels-idx1-ubyte.gz", 1)
    chosen = balanced(labels, count)
    size = height * width
    images = b"".join(pixels[i * size : (i + 1) * size] for i in chosen)
    write_idx(out / f"{prefix}-images-idx3-ubyte.gz", (len(chosen), height, width), images)
    write_idx(out / f"{prefix}-labels-idx1-ubyte.gz", (len(chosen),), bytes(labels[i] for i in chosen))


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--out", type=Path,
                        default=Path(__file__).parent.parent / "data/fashion-mnist-subset")
    parser.add_argument("--train", type=int, default=2000)
    parser.add_argument("--test", type=int, default=500)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    cut(options.source, options.out, "train", options.train)
    cut(options.source, options.out, "t10k", options.test)


if __name__ == "__main__":
    main()
