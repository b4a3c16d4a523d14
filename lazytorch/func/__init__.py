"""``torch.func``: functions made of functions: gradients, products with Jacobians, Jacobians."""

from __future__ import annotations

from lazytorch.func.gradients import grad, grad_and_value, vjp
from lazytorch.func.jacobians import hessian, jacfwd, jacrev
from lazytorch.func.mapping import vmap
from lazytorch.func.tangents import jvp, linearize
from lazytorch.nn.utils.stateless import functional_call, stack_module_state

__all__ = [
    "functional_call", "grad", "grad_and_value", "hessian", "jacfwd", "jacrev", "jvp",
    "linearize", "stack_module_state", "vjp", "vmap",
]  # fmt: skip
