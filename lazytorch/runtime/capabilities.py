"""What an OpenCL device says it can do, less what its probe found wrong.

Knows the questions to ask a device and how drivers answer them; changes nothing.
"""

from __future__ import annotations

from typing import Any

from lazytorch import config
from lazytorch.runtime.device import Capabilities
from lazytorch.runtime.discovery import Candidate
from lazytorch.runtime.host import cache_sizes, host_memory

# Every Intel GPU has sub-groups of this size, and this extension lets a kernel require it.
SUBGROUP_SIZE, REQUIRED_SIZE = 16, "cl_intel_required_subgroup_size"


def read_capabilities(cl: Any, candidate: Candidate, masked: tuple[str, ...]) -> Capabilities:
    """What the driver says, less what its probe found wrong."""
    device = candidate.device
    extensions = set(device.extensions.split())
    is_cpu = candidate.family == "cpu"
    zero_copy = is_cpu and "zero_copy" not in masked
    memory = host_memory() if zero_copy else device.global_mem_size
    subgroups = "subgroups" not in masked and bool(
        extensions & {"cl_khr_subgroups", "cl_intel_subgroups"}
    )
    l1_bytes, l2_bytes = cache_sizes() if is_cpu else (0, 0)
    return Capabilities(
        name=candidate.device_name,
        vendor=device.vendor.strip(),
        driver=f"{candidate.platform_name} {candidate.driver_version}",
        family=config.get("SCHEDULE_FAMILY") or candidate.family,
        fp64="cl_khr_fp64" in extensions and "fp64" not in masked,
        fp16="cl_khr_fp16" in extensions and "fp16" not in masked,
        max_allocation=min(int(device.max_mem_alloc_size), int(memory)),
        max_argument_bytes=int(device.max_parameter_size),
        global_memory=int(memory),
        local_memory=0 if "local_memory" in masked else int(device.local_mem_size),
        max_work_group_size=int(device.max_work_group_size),
        compute_units=int(device.max_compute_units),
        native_vector_width_float=max(1, int(device.native_vector_width_float)),
        base_alignment_bytes=max(int(device.mem_base_addr_align) // 8, 64),
        zero_copy=zero_copy,
        int64="int64" not in masked,
        subgroups=subgroups,
        subgroup_size=SUBGROUP_SIZE if subgroups and REQUIRED_SIZE in extensions else 0,
        matrix_extensions=tuple(sorted(name for name in extensions if "matrix" in name)),
        l1_bytes=l1_bytes,
        # The driver's answer may be any level's; it is taken where nothing better is known.
        l2_bytes=l2_bytes or int(device.global_mem_cache_size or 0),
        masked=masked,
    )


def default_options(cl: Any, device: Any, capabilities: Capabilities) -> list[str]:
    """OpenCL C 1.2 on CPUs, where it promises work-groups of equal size; the newest language
    the device has on GPUs, where sub-groups need it."""
    version = device.opencl_c_version.split()[2] if device.opencl_c_version else "1.2"
    major = version.split(".")[0]
    standard = "CL1.2"
    if capabilities.family == "gpu" and major in ("2", "3"):
        standard = f"CL{major}.0"
    options = [f"-cl-std={standard}"]
    if device.single_fp_config & cl.device_fp_config.CORRECTLY_ROUNDED_DIVIDE_SQRT:
        options.append("-cl-fp32-correctly-rounded-divide-sqrt")
    return options
