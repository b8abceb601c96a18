"""The child's side of python_peer.cc: answers each line of JSON on standard input with one on standard output.

Times are taken as cenote_compare takes them, around batches of calls, and include the call from Python.
"""
import ctypes
import json
import mmap
import os
import sys
import time


class Unsupported(Exception):
    pass


class Session:
    """One pooling op. A library's own makes ready for it in prepare, and a set of buffers in make_call."""

    def __init__(self, ask):
        outer = [ask["n"], ask["c"]]
        self.x_sizes, self.y_sizes = outer + ask["x"], outer + ask["y"]
        self.prepare(ask)
        descriptor = os.open(ask["memory"], os.O_RDWR)
        self.memory = mmap.mmap(descriptor, 0)
        os.close(descriptor)
        self.calls = []

    def prepare(self, ask):
        raise NotImplementedError

    def make_call(self, memory):
        """A call without arguments that pools a copy of x, which is where `memory` begins."""
        raise NotImplementedError

    def result(self):
        """Bytes of x, and y of the first call as bytes."""
        raise NotImplementedError

    def bind(self):
        self.calls.append(self.make_call(self.memory))

    def turn(self, number, batch, seconds):
        calls, count, samples = self.calls, len(self.calls), []
        begin = start = time.perf_counter()
        while True:
            for call in range(number, number + batch):
                calls[call % count]()
            number += batch
            end = time.perf_counter()
            samples.append((end - start) * 1e3 / batch)
            start = end
            if end - begin >= seconds:
                return samples

    def fetch(self):
        x_bytes, y = self.result()
        self.memory[x_bytes:x_bytes + len(y)] = y


def answer(make_session, session, ask):
    """The session from now on, and the answer."""
    if ask["do"] == "prepare":
        return make_session(ask), {}
    if ask["do"] == "bind":
        session.bind()
    elif ask["do"] == "fetch":
        session.fetch()
    elif ask["do"] == "turn":
        return session, {"samples": session.turn(ask["number"], ask["batch"], ask["seconds"])}
    return session, {}


def serve(make_session, version):
    ctypes.CDLL(None).prctl(1, 15)  # PR_SET_PDEATHSIG, SIGTERM: no child without its parent
    print(json.dumps({"version": version}), flush=True)
    session = None
    for line in sys.stdin:
        try:
            ask = json.loads(line)
            if ask["do"] == "prepare":
                session = None  # its memory is free before the next one takes its own
            session, reply = answer(make_session, session, ask)
        except Exception as error:  # whatever the library throws is the reason that the row names
            reply = {"error": str(error).splitlines()[0] if str(error) else type(error).__name__}
        print(json.dumps(reply), flush=True)


def refuse(reason):
    print(json.dumps({"error": str(reason)}), flush=True)
    sys.exit(1)
