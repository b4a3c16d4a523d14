"""torch.autograd.forward_ad beside PyTorch's."""

from __future__ import annotations

from typing import Any

import pytest

import lazytorch

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated"),
    pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr Node"),
    pytest.mark.filterwarnings("ignore:.*torch.jit.script"),
]
LIBRARIES = pytest.mark.parametrize("t", [lazytorch, torch], ids=["lazytorch", "torch"])


def _tangent(t: Any, value: Any) -> Any:
    return t.autograd.forward_ad.unpack_dual(value).tangent


@LIBRARIES
def test_tangents(t: Any) -> None:
    ad = t.autograd.forward_ad
    x, direction = t.tensor([1.0, 2.0, 3.0]), t.tensor([1.0, 0.0, -1.0])
    with ad.dual_level():
        dual = ad.make_dual(x, direction)
        other = ad.make_dual(x * 2, t.ones(3))
        assert _tangent(t, dual).tolist() == [1, 0, -1]
        assert _tangent(t, dual * dual * 2).tolist() == [4, 0, -12]
        assert _tangent(t, dual * other).tolist() == [3, 2, -3]
        assert _tangent(t, dual[1:].sum()).item() == -1
        assert _tangent(t, x) is None and _tangent(t, dual.detach()) is None
        assert _tangent(t, dual.argmax()) is None
        with t.no_grad():
            made = dual * 3
            assert _tangent(t, made).tolist() == [3, 0, -3]
        written = t.zeros(3)
        written += dual**2
        written.mul_(2)
        primal, tangent = ad.unpack_dual(written)
        assert primal.tolist() == [2, 8, 18] and tangent.tolist() == [4, 0, -12]
        assert not primal.requires_grad and not tangent.requires_grad
        dual.mul_(2)
        assert _tangent(t, dual).tolist() == [2, 0, -2]
    assert _tangent(t, made) is None
    assert (x * 1).requires_grad is False


@LIBRARIES
def test_tangents_of_a_module_and_of_gradients(t: Any) -> None:
    ad = t.autograd.forward_ad
    weight = t.tensor([2.0, 3.0], requires_grad=True)
    with ad.dual_level():
        dual = ad.make_dual(weight, t.tensor([1.0, 0.0]))
        loss = (dual**3).sum()
        primal, tangent = ad.unpack_dual(loss)
        assert primal.item() == 35 and tangent.item() == 12
        # Of the tangent by the tensor: a row of the Hessian.
        assert t.autograd.grad(tangent, weight, retain_graph=True)[0].tolist() == [12, 0]
        layer = t.nn.Linear(2, 2)
        moved = _tangent(t, layer(ad.make_dual(t.ones(2), t.tensor([0.0, 1.0]))))
        assert moved.tolist() == layer.weight[:, 1].tolist() and moved.requires_grad


@LIBRARIES
def test_a_level_around_vmap(t: Any) -> None:
    ad = t.autograd.forward_ad

    @ad.dual_level()
    def rows() -> Any:
        dual = ad.make_dual(t.ones(3, 2), t.eye(3, 2))
        return _tangent(t, t.vmap(lambda row: (row * row.sum()).cumsum(0))(dual)).tolist()

    assert rows() == [[3, 4], [1, 4], [0, 0]]


@LIBRARIES
def test_refused(t: Any) -> None:
    ad, x = t.autograd.forward_ad, t.ones(3)
    with pytest.raises(RuntimeError, match="no level exists"):
        ad.make_dual(x, x)
    with pytest.raises(RuntimeError, match="positive number"):
        ad.exit_dual_level()
    assert ad.enter_dual_level() == 0
    try:
        with pytest.raises(RuntimeError, match="Nested forward mode"):
            ad.enter_dual_level()
        with pytest.raises(RuntimeError, match="different size"):
            ad.make_dual(x, t.ones(2))
        with pytest.raises(ValueError, match="floating point or complex"):
            ad.make_dual(x.long(), x)
        with pytest.raises(RuntimeError, match="already has a forward gradient"):
            ad.make_dual(ad.make_dual(x, x) * 1, x)
        with pytest.raises(TypeError, match="must be Tensor"):
            ad.unpack_dual(1.0)
    finally:
        ad.exit_dual_level()
