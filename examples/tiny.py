"""The whole idea of lazytorch in a hundred lines: from tensor to kernel source.

    python examples/tiny.py

An operation computes nothing; it adds a node to a graph. When a value is wanted, all nodes
behind it become *one* kernel: one loop that reads each input once and writes the result once,
with everything between them in registers. lazytorch does the same for reductions, products,
views and gradients; here are only the elementwise operations, so that nothing hides the idea.
"""

from __future__ import annotations

import numpy as np

# 1. An operation is a row in a table: what it means in a kernel, and in NumPy.
TABLE = {
    "add": ("{} + {}", np.add),
    "mul": ("{} * {}", np.multiply),
    "exp": ("exp({})", np.exp),
    "max": ("fmax({}, {})", np.maximum),
}


# 2. A tensor is a node: an operation and its sources. A leaf holds its value instead.
class Tensor:
    """A value, or how to compute it."""

    def __init__(self, op, sources=(), value=None):
        self.op, self.sources, self.value = op, sources, value

    def __add__(self, other):
        return Tensor("add", (self, wrap(other)))

    def __mul__(self, other):
        return Tensor("mul", (self, wrap(other)))

    def exp(self):
        return Tensor("exp", (self,))

    def relu(self):
        return Tensor("max", (self, wrap(0.0)))

    # 3. Looking is what computes. Afterwards the node is a leaf and forgets its history.
    def numpy(self):
        if self.value is None:
            self.value = run(*schedule(self))
            self.op, self.sources = "leaf", ()
        return self.value


def wrap(value):
    return value if isinstance(value, Tensor) else Tensor("number", value=np.float32(value))


# 4. Scheduling: walk the graph once, sources first. What has a value becomes an argument, every
#    other node one line. The walk keeps a stack of its own: a chain may be a million nodes long.
def schedule(root):
    names, lines, arguments, stack = {}, [], [], [root]
    while stack:
        node = stack[-1]
        waiting = [source for source in node.sources if source not in names]
        if waiting or node in names:
            stack.extend(waiting) if waiting else stack.pop()
            continue
        names[node] = f"v{len(names)}"
        if node.value is not None:
            lines.append((node, f"{names[node]} = {argument_of(node, arguments)}"))
        else:
            expression = TABLE[node.op][0].format(*(names[s] for s in node.sources))
            lines.append((node, f"{names[node]} = {expression}"))
    return lines, arguments


def argument_of(node, arguments):
    arguments.append(node)
    index = "" if node.op == "number" else "[i]"
    return f"a{len(arguments) - 1}{index}"


# 5. Code generation: the lines are a loop body. Numbers are arguments too, so the text, which is
#    the key of the kernel cache, stays the same when a learning rate changes.
TEMPLATE = """kernel void fused({parameters}, global float *out)
{{
    size_t i = get_global_id(0);
{body}    out[i] = {result};
}}
"""


def source_of(lines, arguments):
    kinds = ("float" if node.op == "number" else "global const float *" for node in arguments)
    parameters = ", ".join(f"{kind} a{n}" for n, kind in enumerate(kinds))
    body = "".join(f"    float {line};\n" for _, line in lines)
    result = lines[-1][1].split(" = ")[0]
    return TEMPLATE.format(parameters=parameters, body=body, result=result)


# 6. Running: compile each text once, then launch. Without OpenCL, NumPy follows the same lines.
kernels = {}


def run(lines, arguments):
    source = source_of(lines, arguments)
    shape = np.broadcast_shapes(*(node.value.shape for node in arguments))
    if queue is None:
        values = {}
        for node, _ in lines:
            known = (values[source] for source in node.sources)
            values[node] = node.value if node.value is not None else TABLE[node.op][1](*known)
        return values[lines[-1][0]]
    if source not in kernels:
        kernels[source] = cl.Kernel(cl.Program(queue.context, source).build(), "fused")
        print(f"--- kernel {len(kernels)}, compiled once ---\n{source}")
    result = np.empty(shape, np.float32)
    flags = cl.mem_flags
    held = [
        node.value
        if node.op == "number"
        else cl.Buffer(queue.context, flags.READ_ONLY | flags.COPY_HOST_PTR, hostbuf=node.value)
        for node in arguments
    ]
    out = cl.Buffer(queue.context, flags.WRITE_ONLY, result.nbytes)
    kernels[source](queue, (result.size,), None, *held, out)
    cl.enqueue_copy(queue, result, out)
    return result


try:
    import pyopencl as cl

    queue = cl.CommandQueue(cl.create_some_context(interactive=False))
except Exception as error:
    queue = None
    print(f"no OpenCL here ({type(error).__name__}), so NumPy runs the kernels")

if __name__ == "__main__":
    x = Tensor("leaf", value=np.linspace(-2, 2, 8, dtype=np.float32))
    for rate in (0.1, 0.2, 0.3):
        y = (x * rate + 1.0).relu() * x.exp()  # five operations: nothing is computed yet
        print(f"rate {rate}:", y.numpy().round(3))  # looking at it runs one kernel
        assert np.allclose(y.value, np.maximum(x.value * rate + 1, 0) * np.exp(x.value), 1e-5)
    if queue is None:
        lines, arguments = schedule((x * 0.1 + 1.0).relu() * x.exp())
        print(source_of(lines, arguments))
    print(f"15 operations, 3 computations, {len(kernels)} kernel compiled")
