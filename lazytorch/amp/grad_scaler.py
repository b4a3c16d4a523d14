"""GradScaler: losses multiplied by a factor, so that short gradients do not vanish.

P. Micikevicius et al., "Mixed precision training", 2018, section 3.2. The factor falls when a
gradient is infinite or NaN, and that step is left out; after some steps without one it rises.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np

from lazytorch import dtypes, runtime
from lazytorch.autograd.grad_mode import no_grad
from lazytorch.tensor.apply import scalar_tensor
from lazytorch.tensor.attach import functions
from lazytorch.tensor.device import ACCELERATORS, device
from lazytorch.tensor.storage import dtype_of
from lazytorch.tensor.tensor import Tensor


class _OptimizerState:
    """What happened to an optimizer's gradients since the last ``update``."""

    def __init__(self) -> None:
        self.unscaled = False
        self.stepped = False
        # One number a device, not looked at yet: whether a gradient there is not finite.
        self.found: list[Tensor] = []
        self._overflowed: bool | None = None

    def overflowed(self) -> bool:
        """Whether a gradient was not finite: computes the gradients, and waits for them once."""
        if self._overflowed is None:
            self._overflowed = any([bool(found.item()) for found in self.found])
        return self._overflowed


class GradScaler:
    """Scale losses, unscale gradients, and leave out steps whose gradients are not finite.

    ``init_scale`` is the first factor. ``growth_interval`` steps in a row with finite gradients
    multiply it by ``growth_factor`` (above 1), a step without by ``backoff_factor`` (below 1).
    ``device`` is the kind of device of the tensors; a kind of card that is not there turns the
    scaler off with a warning. When it is off (``enabled=False``) ``step`` calls the optimizer and
    nothing else happens.

    The factor lives on the host, as float32; whether a step is left out is decided there too, so
    that ``step`` computes the gradients and waits for one number. Everything else only records.

    >>> scaler = GradScaler("cpu")
    >>> scaler.get_scale()
    65536.0
    """

    def __init__(
        self,
        device: str = "cuda",
        init_scale: float = 2.0**16,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
    ) -> None:
        self._device = device
        self._enabled = enabled
        if enabled and device in ACCELERATORS and not runtime.gpu_count():
            warnings.warn(
                f"torch.{device}.amp.GradScaler is enabled, but {device.upper()} is not "
                "available.  Disabling.",
                stacklevel=2,
            )
            self._enabled = False
        if not self._enabled:
            return
        if growth_factor <= 1.0:
            raise AssertionError("The growth factor must be > 1.0.")
        if backoff_factor >= 1.0:
            raise AssertionError("The backoff factor must be < 1.0.")
        self._scale = _single(init_scale)
        self._scaled = False
        self._growth_factor = growth_factor
        self._backoff_factor = backoff_factor
        self._growth_interval = growth_interval
        self._growth_tracker = 0
        self._states: dict[int, _OptimizerState] = {}

    # One step ---------------------------------------------------------------------------------

    def scale(self, outputs: Any) -> Any:
        """A tensor, or each of a (nested) list of tensors, times the factor."""
        if not self._enabled:
            return outputs
        self._scaled = True
        if isinstance(outputs, Tensor):
            # As a tensor: a 0-d float16 loss times a 0-d float32 one is float32, and finite.
            return outputs * scalar_tensor(self._scale, dtypes.float32, outputs._device)
        if isinstance(outputs, Iterable):
            scaled = map(self.scale, outputs)
            return type(outputs)(scaled) if isinstance(outputs, (list, tuple)) else scaled  # type: ignore[call-arg]
        raise ValueError("outputs must be a Tensor or an iterable of Tensors")

    def unscale_(self, optimizer: Any) -> None:
        """Divide the gradients of an optimizer's parameters by the factor, in place.

        For what is done with gradients before the step, as clipping; ``step`` does it where it
        was not done. ``RuntimeError`` when it was done since the last ``update``, ``ValueError``
        for float16 gradients, whose parameters should be float32.
        """
        if not self._enabled:
            return
        self._check_scaled("unscale_")
        state = self._state(optimizer)
        if state.stepped:
            raise RuntimeError("unscale_() is being called after step().")
        if state.unscaled:
            raise RuntimeError(
                "unscale_() has already been called on this optimizer since the last update()."
            )
        inverse = _single(1.0 / self._scale)
        with no_grad():
            for place, gradients in _by_device(optimizer).items():
                factor = scalar_tensor(inverse, dtypes.float32, place)
                finite = [gradient.isfinite().all() for gradient in gradients]
                state.found.append(functions.stack(finite).all().logical_not())
                for gradient in gradients:
                    gradient.mul_(factor)
        state.unscaled = True

    def step(self, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        """Unscale the gradients, unless that was done, and call ``optimizer.step(*args)`` where all
        are finite.

        Returns what the optimizer returns, ``None`` for a step left out. Looks at one number.
        """
        if not self._enabled:
            return optimizer.step(*args, **kwargs)
        if "closure" in kwargs:
            raise RuntimeError(
                "Closure use is not currently supported if GradScaler is enabled: compute the "
                "loss before step(), or make the scaler with enabled=False."
            )
        self._check_scaled("step")
        state = self._state(optimizer)
        if state.stepped:
            raise RuntimeError("step() has already been called since the last update().")
        if not state.unscaled:
            self.unscale_(optimizer)
        if not state.found:
            raise AssertionError(
                "No inf checks were recorded for this optimizer: none of its parameters has a "
                "gradient."
            )
        result = None if state.overflowed() else optimizer.step(*args, **kwargs)
        state.stepped = True
        return result

    def update(self, new_scale: Any = None) -> None:
        """Change the factor by what the steps since the last one met, or to ``new_scale``."""
        if not self._enabled:
            return
        self._check_scaled("update")
        if new_scale is not None:
            self._scale = _single(self._given(new_scale))
        else:
            states = [state for state in self._states.values() if state.found]
            if not states:
                raise AssertionError("No inf checks were recorded prior to update.")
            self._follow(any([state.overflowed() for state in states]))
        self._states.clear()

    def _follow(self, overflowed: bool) -> None:
        if overflowed:
            self._scale = _single(self._scale * self._backoff_factor)
            self._growth_tracker = 0
            return
        self._growth_tracker += 1
        if self._growth_tracker == self._growth_interval:
            grown = _single(self._scale * self._growth_factor)
            self._scale = grown if np.isfinite(grown) else self._scale
            self._growth_tracker = 0

    @staticmethod
    def _given(new_scale: Any) -> float:
        if isinstance(new_scale, Tensor):
            if new_scale.numel() != 1 or new_scale.requires_grad:
                raise AssertionError(
                    "new_scale should be a float or a 1-element tensor with requires_grad=False."
                )
            return float(new_scale.item())
        return float(new_scale)

    def _state(self, optimizer: Any) -> _OptimizerState:
        return self._states.setdefault(id(optimizer), _OptimizerState())

    def _check_scaled(self, function: str) -> None:
        if not self._scaled:
            raise AssertionError(
                f"Attempted {function} but _scale is None.  This may indicate your script did not "
                "use scaler.scale(loss or outputs) earlier in the iteration."
            )

    # Settings and state -----------------------------------------------------------------------

    def is_enabled(self) -> bool:
        """Whether anything is scaled."""
        return self._enabled

    def get_scale(self) -> float:
        """The factor; 1 when nothing is scaled."""
        return self._scale if self._enabled else 1.0

    def get_growth_factor(self) -> float:
        """What the factor is multiplied by after enough finite steps."""
        return self._growth_factor

    def set_growth_factor(self, new_factor: float) -> None:
        """Set what the factor is multiplied by after enough finite steps."""
        self._growth_factor = new_factor

    def get_backoff_factor(self) -> float:
        """What the factor is multiplied by after a step left out."""
        return self._backoff_factor

    def set_backoff_factor(self, new_factor: float) -> None:
        """Set what the factor is multiplied by after a step left out."""
        self._backoff_factor = new_factor

    def get_growth_interval(self) -> int:
        """How many finite steps in a row it takes for the factor to grow."""
        return self._growth_interval

    def set_growth_interval(self, new_interval: int) -> None:
        """Set how many finite steps in a row it takes for the factor to grow."""
        self._growth_interval = new_interval

    def _get_growth_tracker(self) -> int:
        return self._growth_tracker if self._enabled else 0

    def state_dict(self) -> dict[str, Any]:
        """The factor, its settings and the number of finite steps in a row; empty when off."""
        if not self._enabled:
            return {}
        return {
            "scale": self._scale,
            "growth_factor": self._growth_factor,
            "backoff_factor": self._backoff_factor,
            "growth_interval": self._growth_interval,
            "_growth_tracker": self._growth_tracker,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what ``state_dict`` returned; ``RuntimeError`` for an empty one."""
        if not self._enabled:
            return
        if not state_dict:
            raise RuntimeError(
                "The source state dict is empty, possibly because it was saved from a disabled "
                "instance of GradScaler."
            )
        self._scale = _single(state_dict["scale"])
        self._growth_factor = float(state_dict["growth_factor"])
        self._backoff_factor = float(state_dict["backoff_factor"])
        self._growth_interval = int(state_dict["growth_interval"])
        self._growth_tracker = int(state_dict["_growth_tracker"])

    def __getstate__(self) -> dict[str, Any]:
        if self._enabled and self._states:
            raise AssertionError(
                "A GradScaler instance may only be pickled at the beginning of an iteration, or "
                "at the end after scaler.update()."
            )
        return dict(self.__dict__)


def _single(value: float) -> float:
    """The number as float32 has it."""
    with np.errstate(over="ignore"):
        return float(np.float32(value))


def _by_device(optimizer: Any) -> dict[device, list[Any]]:
    """The gradients of an optimizer's parameters, device by device."""
    found: dict[device, list[Any]] = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            gradient = parameter.grad
            if gradient is None:
                continue
            if dtype_of(gradient) is dtypes.float16:
                raise ValueError(
                    "Attempting to unscale FP16 gradients. Keep the parameters in float32 and let "
                    "autocast choose where float16 is used."
                )
            found.setdefault(gradient._device, []).append(gradient)
    return found
