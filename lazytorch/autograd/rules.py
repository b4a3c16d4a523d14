"""Rules: how the gradient of an operation is made, and what must be kept for it.

A rule is written as plain functions whose *parameter names* say what they need:

=============  ==================================================================
``g``          the gradient of the result
``x y z``      the first, second, third source (in a tuple of one function a source)
``out``        the result itself, the list of them where there are several
``shapes``     the shapes of all sources
``attrs``      the attributes given when the operation was recorded
``extra``      further tensors kept by a composite
``needs``      for each source, whether its gradient is wanted
``f``          the namespace of functions
=============  ==================================================================

A tuple holds one function (or ``None``) a source, each giving that source's gradient. A single
function gives the gradients of all sources; there, names other than the above are the sources
in order, and ``*sources`` all of them. Nothing is kept that no wanted gradient names, so an
addition keeps nothing and a product only the other factor. Gradients are summed back to the
source's shape and converted to its dtype by whoever runs the rule.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Union

Gradient = Union[Callable[..., Any], tuple[Any, ...]]

_FIXED = ("g", "f", "out", "attrs", "shapes", "extra", "needs")
_FIRST_SOURCE = len(_FIXED)
_POSITIONS = {name: number for number, name in enumerate(_FIXED)}
_SOURCE_NAMES = {"x": 0, "y": 1, "z": 2}


class _Call:
    """A function with the positions of its arguments in the list of what a rule may need."""

    __slots__ = ("function", "keyword_attrs", "positions", "variadic")

    def __init__(self, function: Callable[..., Any], single: bool) -> None:
        self.function = function
        self.variadic = False
        self.keyword_attrs = False
        positions: list[int] = []
        following = 0
        for name, parameter in inspect.signature(function).parameters.items():
            if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                self.variadic = True
            elif parameter.kind is inspect.Parameter.KEYWORD_ONLY and name == "attrs":
                self.keyword_attrs = True
            elif name in _POSITIONS:
                positions.append(_POSITIONS[name])
            elif single:
                positions.append(_FIRST_SOURCE + following)
                following += 1
            else:
                positions.append(_FIRST_SOURCE + _SOURCE_NAMES[name])
        self.positions = tuple(positions)

    def sources(self, count: int) -> set[int]:
        """The numbers of the sources that the function reads."""
        if self.variadic:
            return set(range(count))
        return {place - _FIRST_SOURCE for place in self.positions if place >= _FIRST_SOURCE}

    def __call__(self, values: list[Any]) -> Any:
        arguments = [values[place] for place in self.positions]
        if self.variadic:
            arguments += values[_FIRST_SOURCE:]
        if self.keyword_attrs:
            return self.function(*arguments, attrs=values[3])
        return self.function(*arguments)


class Plan:
    """What to keep when gradients are wanted for one selection of the sources."""

    __slots__ = ("keep", "keep_out", "keeps", "shapes", "sources_only")

    def __init__(self, keep: tuple[bool, ...], keep_out: bool, shapes: bool) -> None:
        self.sources_only = not keep_out and not shapes
        self.keep = keep
        self.keep_out = keep_out
        self.shapes = shapes
        self.keeps = any(keep)


class Rule:
    """The gradient of an operation under the name by which ``grad_fn`` shows it.

    >>> Rule("MulBackward0", (lambda g, y: g * y, lambda g, x: g * x)).plan(1, 2).keep
    (False, True)
    """

    __slots__ = ("_calls", "_plans", "allowed", "cls", "joins_parts", "name", "single")

    def __init__(
        self, name: str, gradient: Gradient | None, *, joins_parts: bool = False
    ) -> None:
        self.name = name
        # Rules state the derivative of a holomorphic function; where a result is complex, the
        # tape conjugates around them. A rule that takes real and imaginary parts does without.
        self.joins_parts = joins_parts
        self.single = callable(gradient)
        functions = (gradient,) if callable(gradient) else gradient or ()
        self._calls = tuple(
            None if function is None else _Call(function, self.single) for function in functions
        )
        self._plans: dict[tuple[int, int], Plan] = {}
        # Bit i: source i can have a gradient.
        self.allowed = -1
        if not self.single:
            self.allowed = sum(1 << i for i, call in enumerate(self._calls) if call is not None)
        self.cls: Any = None

    def under(self, name: str) -> Rule:
        """The same rule under another name."""
        other = Rule(name, None, joins_parts=self.joins_parts)
        other.single, other._calls, other.allowed = self.single, self._calls, self.allowed
        return other

    def plan(self, mask: int, count: int) -> Plan:
        """What to keep when bit i of ``mask`` says that source i wants a gradient."""
        found = self._plans.get((mask, count))
        if found is None:
            found = self._plans[mask, count] = self._make_plan(mask, count)
        return found

    def _make_plan(self, mask: int, count: int) -> Plan:
        wanted: set[int] = set()
        names: set[int] = set()
        for number, call in enumerate(self._calls):
            if call is not None and (self.single or mask >> number & 1):
                wanted |= call.sources(count)
                names |= set(call.positions)
        keep = tuple(number in wanted for number in range(count))
        return Plan(keep, _POSITIONS["out"] in names, _POSITIONS["shapes"] in names)

    def gradients(self, values: list[Any], needs: tuple[bool, ...]) -> tuple[Any, ...]:
        """The gradients of all sources; ``values`` in the order of the table above."""
        if self.single:
            call = self._calls[0]
            result = call(values)  # type: ignore[misc]
            return result if isinstance(result, tuple) else (result,)
        return tuple(
            call(values) if needed and call is not None else None
            for call, needed in zip(self._calls, needs)
        )
