"""``torch.func``: functions made of functions: gradients, products with Jacobians, Jacobians."""

from __future__ import annotations

from lazytorch.func.functionalization import functionalize
from lazytorch.func.gradients import grad, grad_and_value, vjp
from lazytorch.func.jacobians import hessian, jacfwd, jacrev
from lazytorch.func.mapping import debug_unwrap, vmap
from lazytorch.func.modules import replace_all_batch_norm_modules_
from lazytorch.func.tangents import jvp, linearize
from lazytorch.nn.utils.stateless import functional_call, stack_module_state

__all__ = [
    "debug_unwrap", "functional_call", "functionalize", "grad", "grad_and_value", "hessian",
    "jacfwd", "jacrev", "jvp", "linearize", "replace_all_batch_norm_modules_",
    "stack_module_state", "vjp", "vmap",
]  # fmt: skip
