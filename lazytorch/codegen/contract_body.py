"""The body that a contraction is lowered to."""

from __future__ import annotations

from dataclasses import dataclass

from lazytorch.codegen.contract_form import Form
from lazytorch.codegen.contract_tiling import Tiling
from lazytorch.ir.expression import Expression
from lazytorch.ir.index import Axis
from lazytorch.ir.kernel import Store


@dataclass(frozen=True)
class TiledContractBody:
    """A contraction with its schedule.

    ``split`` is the axis that numbers partial sums when several work-items share one sum; the
    epilogue then stores the partial sums.
    """

    form: Form
    tiling: Tiling
    split: Axis | None = None

    def expressions(self) -> list[Expression]:
        return [self.form.scalar, self.form.vector, *(s.value for s in self.form.epilogue)]

    def stores(self) -> list[Store]:
        return list(self.form.epilogue)
