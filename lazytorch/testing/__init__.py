"""torch.testing: tensors for tests, and whether two of them are close."""

from lazytorch.testing.comparing import assert_close
from lazytorch.testing.drawing import make_tensor

__all__ = ["assert_close", "make_tensor"]
