"""Small kernels with known answers, run in a process of their own by ``probe``.

Imports nothing of lazytorch: a driver that is being tested may take this process down, and
starting it has to be cheap. Prints one JSON line for each canary, before and after it runs, so
that the parent knows where a driver crashed. Arguments: the device's platform name, device name
and driver version.
"""

from __future__ import annotations

import json
import os
import sys
import warnings

if __name__ == "__main__":
    # Run as a file: this folder must not offer its modules (cache, device ...) to other packages.
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or ".") != here]

from typing import Any

import numpy as np

COUNT = 4096
ROWS = 64

# Canaries whose failure takes away one capability; the failure of any other disables the device.
MASKABLE = ("fp64", "fp16", "local_memory", "int64", "zero_copy", "divide", "subgroups")

SOURCES = {
    "elementwise": """
kernel void elementwise(global const float* a, global const float* b, global float* c) {
  size_t i = get_global_id(0); c[i] = a[i] * 2.0f + b[i]; }""",
    "strided": """
kernel void strided(global const float* a, global const float* b, global float* c) {
  int i = (int)get_global_id(0); int row = i / 64, column = i % 64;
  c[i] = (row + column) % 3 ? a[column * 64 + row] : b[4095 - i]; }""",
    "vectors": """
kernel void vectors(global const float* a, global const float* b, global float* c) {
  size_t i = get_global_id(0);
  float16 x = vload16(i, a), y = vload16(i, b);
  float16 z = select(x, y, isless(x, y));
  vstore16(fma(x, z, y), i, c); }""",
    "private_array": """
kernel void private_array(global const float* a, global const float* b, global float* c) {
  size_t i = get_global_id(0); float t[4][16];
  for (int r = 0; r < 4; ++r) for (int j = 0; j < 16; ++j) t[r][j] = a[i * 64 + r * 16 + j];
  for (int r = 0; r < 4; ++r) for (int j = 0; j < 16; ++j)
    c[i * 64 + j * 4 + r] = t[r][j] + t[(r + 1) % 4][15 - j] + b[i]; }""",
    "loop_reduce": """
kernel void loop_reduce(global const float* a, global const float* b, global float* c) {
  size_t i = get_global_id(0); float16 sum = 0.0f;
  for (int j = 0; j < 4; ++j) sum += vload16(j, a + i * 64) * vload16(j, b + i * 64);
  float8 s8 = sum.lo + sum.hi; float4 s4 = s8.lo + s8.hi; float2 s2 = s4.lo + s4.hi;
  c[i] = s2.x + s2.y; }""",
    "math": """
kernel void math(global const float* a, global const float* b, global float* c) {
  size_t i = get_global_id(0); int k = (int)(i % 4);
  c[i] = k == 0 ? exp(a[i]) : k == 1 ? erf(a[i])
       : k == 2 ? log(fabs(a[i]) + 1.0f) : tanh(a[i]); }""",
    "local_memory": """
kernel void local_memory(global const float* a, global const float* b, global float* c) {
  local float t[64]; int j = (int)get_local_id(0); size_t group = get_group_id(0);
  t[j] = a[group * 64 + j];
  barrier(CLK_LOCAL_MEM_FENCE);
  for (int half_size = 32; half_size > 0; half_size /= 2) {
    if (j < half_size) t[j] += t[j + half_size];
    barrier(CLK_LOCAL_MEM_FENCE); }
  if (j == 0) c[group] = t[0]; }""",
    "int64": """
kernel void int64(global const float* a, global const float* b, global float* c) {
  size_t i = get_global_id(0); long wide = (long)i * 4294967311L;
  long back = wide / 4294967311L; ulong mixed = (ulong)wide * 0x9E3779B97F4A7C15UL;
  c[i] = a[back] + (float)(uint)(mixed >> 40); }""",
    "fp64": """
#pragma OPENCL EXTENSION cl_khr_fp64 : enable
kernel void fp64(global const float* a, global const float* b, global float* c) {
  size_t i = get_global_id(0); double x = (double)a[i] + (double)b[i] * 1e-9;
  c[i] = (float)((x - (double)a[i]) * 1e9); }""",
    "fp16": """
#pragma OPENCL EXTENSION cl_khr_fp16 : enable
kernel void fp16(global const float* a, global const float* b, global float* c) {
  size_t i = get_global_id(0); half h = (half)a[i]; c[i] = (float)(h * (half)2.0f); }""",
    "divide": """
kernel void divide(global const float* a, global const float* b, global float* c) {
  size_t i = get_global_id(0); float d = b[i] + 5.0f; c[i] = i % 2 ? a[i] / d : sqrt(d); }""",
    "subgroups": """
#ifdef cl_khr_subgroups
#pragma OPENCL EXTENSION cl_khr_subgroups : enable
#elif defined(cl_intel_subgroups)
#pragma OPENCL EXTENSION cl_intel_subgroups : enable
#endif
kernel void subgroups(global const float* a, global const float* b, global float* c) {
  local float t[64]; float sum = sub_group_reduce_add(a[get_global_id(0)]);
  if (get_sub_group_local_id() == 0) t[get_sub_group_id()] = sum;
  barrier(CLK_LOCAL_MEM_FENCE);
  if (get_local_id(0) == 0) {
    for (uint i = 1; i < get_num_sub_groups(); ++i) sum += t[i];
    c[get_group_id(0)] = sum; } }""",
    "zero_copy": """
kernel void zero_copy(global const float* a, global const float* b, global float* c) {
  size_t i = get_global_id(0); c[i] = a[i] + b[i]; }""",
}
HEADER = "#pragma OPENCL FP_CONTRACT OFF\n"
# Number of work-items, and size of a group, where they are not COUNT and the driver's choice.
SIZES: dict[str, tuple[int, int | None]] = {
    "vectors": (COUNT // 16, 1),
    "private_array": (ROWS, 1),
    "loop_reduce": (ROWS, 1),
    "local_memory": (COUNT, 64),
    "subgroups": (COUNT, 64),
}


def expected(name: str, a: Any, b: Any) -> Any:
    """The right answer, computed with NumPy; shorter than COUNT where the kernel writes less."""
    i = np.arange(COUNT)
    wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
    if name == "elementwise":
        return a * np.float32(2) + b
    if name == "strided":
        row, column = i // 64, i % 64
        return np.where((row + column) % 3, a[column * 64 + row], b[::-1])
    if name == "vectors":
        return wide_a * np.maximum(wide_a, wide_b) + wide_b
    if name == "private_array":
        t = a.reshape(ROWS, 4, 16)
        return (t + np.roll(t, -1, 1)[:, :, ::-1] + b[:ROWS, None, None]).swapaxes(1, 2).ravel()
    if name == "loop_reduce":
        return (wide_a * wide_b).reshape(ROWS, 64).sum(1)
    if name == "math":
        erf = _erf(wide_a)
        return np.choose(i % 4, [np.exp(wide_a), erf, np.log1p(np.abs(wide_a)), np.tanh(wide_a)])
    if name in ("local_memory", "subgroups"):
        return wide_a.reshape(-1, 64).sum(1)
    if name == "int64":
        wide = i.astype(np.uint64) * np.uint64(4294967311) * np.uint64(0x9E3779B97F4A7C15)
        return a + (wide >> np.uint64(40)).astype(np.uint32).astype(np.float32)
    if name == "fp64":
        return ((wide_a + wide_b * 1e-9) - wide_a) * 1e9
    if name == "fp16":
        return a.astype(np.float16).astype(np.float32) * np.float32(2)
    if name == "divide":
        divisor = b + np.float32(5)
        return np.where(i % 2, a / divisor, np.sqrt(divisor))
    return a + b


def _erf(x: Any) -> Any:
    """By its Taylor series: enough for |x| <= 3."""
    term = x.copy()
    total = x.copy()
    for n in range(1, 60):
        term = -term * x * x / n
        total = total + term / (2 * n + 1)
    return total * 2 / np.sqrt(np.pi)


TOLERANCE = {
    "math": 4e-6,
    "loop_reduce": 1e-4,
    "local_memory": 1e-4,
    "subgroups": 1e-4,
    "vectors": 1e-5,
    "fp64": 1e-4,
}


def judge(name: str, answer: Any, a: Any, b: Any) -> str:
    """'ok', or what is wrong with a kernel's answer."""
    right = expected(name, a, b)
    got = answer[: right.size].astype(np.float64)
    tolerance = TOLERANCE.get(name, 0.0)
    wrong = ~(np.abs(got - right) <= tolerance * np.maximum(1.0, np.abs(right)))
    if not wrong.any():
        return "ok"
    first = int(np.flatnonzero(wrong)[0])
    return (
        f"{int(wrong.sum())} of {right.size} wrong, first [{first}]: {got[first]} != {right[first]}"
    )


def choose(cl: Any, platform_name: str, device_name: str, driver_version: str) -> Any:
    """The device that the parent process means, or None."""
    for platform in cl.get_platforms():
        try:
            devices = platform.get_devices()
        except Exception:
            continue
        for device in devices:
            found = (platform.name.strip(), device.name.strip(), device.driver_version.strip())
            if found == (platform_name, device_name, driver_version):
                return device
    raise LookupError(f"device {device_name!r} of {platform_name!r} is not there any more")


def wanted(cl: Any, device: Any) -> list[str]:
    """Names of the canaries that make sense for what the device advertises."""
    extensions = device.extensions.split()
    names = [name for name in SOURCES if name not in ("fp64", "fp16", "zero_copy", "subgroups")]
    names += [name for name in ("fp64", "fp16") if "cl_khr_" + name in extensions]
    if device.type & cl.device_type.CPU:
        return [*names, "zero_copy"]
    # Kernels for processors use none.
    has = any(name in extensions for name in ("cl_khr_subgroups", "cl_intel_subgroups"))
    return names + (["subgroups"] if has else [])


def build_kernels(cl: Any, context: Any, device: Any, names: list[str]) -> dict[str, Any]:
    """Kernels by name, or the error of the build: all in one program, which is three times as
    fast as one by one; one by one when that fails, to see which are to blame."""
    options = ["-cl-std=CL1.2"]
    if device.single_fp_config & cl.device_fp_config.CORRECTLY_ROUNDED_DIVIDE_SQRT:
        options.append("-cl-fp32-correctly-rounded-divide-sqrt")
    kernels: dict[str, Any] = {}
    if "subgroups" in names:
        newest = device.opencl_c_version.split()[2].split(".")[0]
        kernels["subgroups"] = build_one(cl, context, "subgroups", [f"-cl-std=CL{newest}.0"])
        names = [name for name in names if name != "subgroups"]
    try:
        text = HEADER + "".join(SOURCES[name] for name in names)
        program = cl.Program(context, text).build(options, cache_dir=False)
        return {**{name: cl.Kernel(program, name) for name in names}, **kernels}
    except Exception:
        return {**{name: build_one(cl, context, name, options) for name in names}, **kernels}


def build_one(cl: Any, context: Any, name: str, options: list[str]) -> Any:
    """One kernel in a program of its own, or the error of the build."""
    try:
        program = cl.Program(context, HEADER + SOURCES[name])
        return cl.Kernel(program.build(options, cache_dir=False), name)
    except Exception as error:
        return error


def run(cl: Any, queue: Any, name: str, kernel: Any, a: Any, b: Any) -> str:
    """Launch one canary and judge its answer."""
    flags = cl.mem_flags
    context = queue.context
    memory = np.full(COUNT + 1024, np.nan, np.float32)
    start = (-memory.ctypes.data % 4096) // 4
    answer = memory[start : start + COUNT]
    size, group = SIZES.get(name, (COUNT, None))
    if name == "zero_copy":
        shared = flags.READ_WRITE | flags.USE_HOST_PTR
        x, y, out = (cl.Buffer(context, shared, hostbuf=item) for item in (a, b, answer))
    else:
        copied = flags.READ_ONLY | flags.COPY_HOST_PTR
        x, y = (cl.Buffer(context, copied, hostbuf=item) for item in (a, b))
        out = cl.Buffer(context, flags.READ_WRITE, answer.nbytes)
    for index, buffer in enumerate((x, y, out)):
        kernel.set_arg(index, buffer)
    cl.enqueue_nd_range_kernel(queue, kernel, (size,), None if group is None else (group,))
    if name != "zero_copy":
        cl.enqueue_copy(queue, answer, out)
        queue.finish()
        return judge(name, answer, a, b)
    queue.finish()
    first = judge(name, answer, a, b)
    a += 1  # the kernel must see what the host writes without being told
    cl.enqueue_nd_range_kernel(queue, kernel, (size,), None)
    queue.finish()
    return first if first != "ok" else judge(name, answer, a, b)


def tell(name: str, result: str) -> None:
    """One line to the parent process; a crash leaves the last one standing."""
    print(json.dumps([name, result]), flush=True)


def main(arguments: list[str]) -> None:
    """Run every canary on the device named by the arguments."""
    warnings.simplefilter("ignore")
    tell("import", "start")
    import pyopencl as cl

    device = choose(cl, *arguments)
    context = cl.Context([device])
    queue = cl.CommandQueue(context)
    generator = np.random.default_rng(7)
    a = generator.uniform(-3, 3, COUNT).astype(np.float32)
    b = generator.uniform(-3, 3, COUNT).astype(np.float32)
    tell("import", "ok")
    tell("build", "start")
    kernels = build_kernels(cl, context, device, wanted(cl, device))
    tell("build", "ok")
    for name, kernel in kernels.items():
        tell(name, "start")
        if isinstance(kernel, Exception):
            tell(name, f"does not build: {str(kernel).strip()[:300]}")
            continue
        try:
            tell(name, run(cl, queue, name, kernel, a.copy(), b.copy()))
        except Exception as error:
            tell(name, f"{type(error).__name__}: {str(error).strip()[:300]}")
    tell("done", "ok")


if __name__ == "__main__":
    main(sys.argv[1:])
