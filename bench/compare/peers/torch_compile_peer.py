"""torch.compile for cenote_compare (child.py): torch's pooling as its default compiler makes it, in loops of its own
for small windows. A call allocates what it returns.
"""
import functools
import math

import child


class Session(child.Session):
    def prepare(self, ask):
        self.dtype = {"f32": torch.float32, "f64": torch.float64, "f16": torch.float16, "bf16": torch.bfloat16,
                      "i8": torch.int8, "u8": torch.uint8}[ask["dtype"]]
        self.channels_last = ask["channels_last"]
        torch.set_num_threads(ask["threads"])
        torch.compiler.reset()
        self.pool = torch.compile(self.function(ask), dynamic=False)
        self.buffers = []

    def function(self, ask):
        rank = len(ask["x"])
        reach = [(k - 1) * d + 1 for k, d in zip(ask["kernel"], ask["dilation"])]
        # Windows beyond the padding at the end, and none that it would hold beside them, are those of ceil mode.
        ceil_mode = any(end > begin for begin, end in zip(ask["padding"], ask["padding_end"]))
        arguments = {"stride": ask["stride"], "padding": ask["padding"], "ceil_mode": ceil_mode}
        if ask["kind"] == "avg":
            if any(dilation != 1 for dilation in ask["dilation"]):
                raise child.Unsupported("torch's average has no dilation")
            if reach == ask["x"] and not any(ask["padding"]):
                return lambda x: x.mean(tuple(range(2, 2 + rank)), keepdim=True)
            pool = getattr(torch.nn.functional, f"avg_pool{rank}d")
            return lambda x: pool(x, ask["kernel"], count_include_pad=False, **arguments)
        pool = getattr(torch.nn.functional, f"max_pool{rank}d")
        return lambda x: pool(x, ask["kernel"], dilation=ask["dilation"], **arguments)

    def make_call(self, memory):
        flat = torch.frombuffer(memory, dtype=self.dtype, count=math.prod(self.x_sizes)).clone()
        if self.channels_last:
            last = [self.x_sizes[0]] + self.x_sizes[2:] + self.x_sizes[1:2]
            x = flat.view(last).movedim(-1, 1)
        else:
            x = flat.view(self.x_sizes)
        self.buffers.append(x)
        return functools.partial(self.pool, x)

    def result(self):
        y = self.calls[0]()
        if list(y.shape) != self.y_sizes:
            raise child.Unsupported(f"torch gives sizes {list(y.shape)}")
        y = (y.movedim(1, -1) if self.channels_last else y).contiguous()
        return self.buffers[0].nbytes, y.view(torch.uint8).numpy().tobytes()


try:
    import torch
except ImportError as error:
    child.refuse(error)

if __name__ == "__main__":
    with torch.no_grad():
        child.serve(Session, f"{torch.__version__}, its default compiler; it allocates, timed from Python")
