"""The bodies that a contraction is lowered to: a form, how it is cut, how its sum is shared."""

from __future__ import annotations

from dataclasses import dataclass, field

from lazytorch.codegen.contract_form import Form
from lazytorch.codegen.contract_pixels import PixelTiling
from lazytorch.codegen.contract_taps import TapTiling
from lazytorch.codegen.contract_tiling import Tiling
from lazytorch.codegen.group_tiling import GroupTiling
from lazytorch.ir.expression import Expression
from lazytorch.ir.index import Axis
from lazytorch.ir.kernel import Store


@dataclass(frozen=True)
class LoweredContraction:
    """What all of them are to the launch: the form's operands are read, its epilogue stores.

    ``split`` is the axis that numbers partial sums when several work-items share one sum; the
    epilogue then stores the partial sums.
    """

    form: Form
    split: Axis | None = field(default=None, kw_only=True)

    def expressions(self) -> list[Expression]:
        return [self.form.scalar, self.form.vector, *(s.value for s in self.form.epilogue)]

    def stores(self) -> list[Store]:
        return list(self.form.epilogue)


@dataclass(frozen=True)
class TiledContractBody(LoweredContraction):
    """Register tiles over panels of rows, for CPU devices."""

    tiling: Tiling


@dataclass(frozen=True)
class TapContractBody(LoweredContraction):
    """A weight's gradient, one kernel position at a time, for CPU devices."""

    tiling: TapTiling


@dataclass(frozen=True)
class PixelContractBody(LoweredContraction):
    """A convolution with pixels as rows, for CPU devices. It reads the packed kernel, of which
    there is one for each position of ``batch``; its sum is never shared."""

    tiling: PixelTiling
    batch: tuple[Axis, ...]


@dataclass(frozen=True)
class GroupContractBody(LoweredContraction):
    """Tiles of a work-group, for GPUs."""

    tiling: GroupTiling
