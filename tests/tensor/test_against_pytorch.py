"""One table of expressions, computed by PyTorch and by lazytorch: values, shape, dtype,
gradients. An expression names its operands ``a`` and ``b`` and the library ``t``."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import lazytorch
from lazytorch.runtime import available_devices
from tests.programs import compute

torch = pytest.importorskip("torch")

RANDOM = np.random.default_rng(0)


def real(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


def zeroed(*places: tuple[int, ...]) -> np.ndarray:
    array = real(2, 3, 4)
    for place in places:
        array[place] = 0
    return array


MATRICES = (real(3, 4), real(3, 4))
POSITIVE = ((RANDOM.random((3, 4)) + 0.1).astype(np.float32),)
SMALL = ((RANDOM.random((3, 4)) * 1.8 - 0.9).astype(np.float32),)
CUBE = (real(2, 3, 4),)
WITH_ZEROS = (zeroed((0, 1, 2), (1, 1, 0), (1, 1, 1)),)
INTEGERS = (RANDOM.integers(-5, 6, (3, 4)), RANDOM.integers(1, 6, (3, 4)))

TABLE: dict[str, tuple[Any, str]] = {
    "arithmetic": (MATRICES, """
        a+b; a-b; a*b; a/b; a**2; a**3; a.abs()**b; 2**a; a%b; t.fmod(a,b); a+1; 1+a; 1-a; 2/a; a/3
        a>b; a==b; a!=0; -a; abs(a); t.add(a,b,alpha=2); t.sub(a,b,alpha=0.5); t.rsub(a,b)
        t.maximum(a,b); t.minimum(a,b); t.fmax(a,b); t.fmin(a,b); t.atan2(a,b); t.hypot(a,b)
        t.logaddexp(a,b); a.clamp(-0.5,0.5); a.clamp(min=0); a.clamp(max=b); t.clamp(a,b,b+1)
        t.where(a>b,a,b); t.where(a>0,a,0.); t.where(a>0,1.,b); t.lerp(a,b,0.3); t.lerp(a,b,0.7)
        t.addcmul(a,b,b,value=2); t.addcdiv(a,b,b.abs()+1,value=2); a.masked_fill(b>0,3.)
        t.sigmoid(a); a.tanh(); a.exp(); a.expm1(); a.exp2(); a.sin(); a.cos(); a.tan(); a.sinh()
        a.cosh(); a.asinh(); a.atan(); a.erf(); a.erfc(); a.sign(); a.round(); a.floor(); a.ceil()
        a.trunc(); a.frac(); a.square(); a.reciprocal(); a.nan_to_num(); t.signbit(a)
        a.round(decimals=2); t.div(a,b,rounding_mode='trunc'); t.div(a,b,rounding_mode='floor')
        t.xlogy(a.abs(),b.abs()); a@b.T; t.mm(a,b.t()); t.outer(a[0],b[0]); t.dot(a[0],b[0])
        t.mv(a,b[0]); t.einsum('ij,kj->ik',a,b); t.addmm(a[:,:3],a,b.T,beta=2,alpha=3)
        t.isclose(a,a+1e-9); t.kron(a,b); t.cross(a[:,:3],b[:,:3]); t.inner(a,b)"""),
    "positive": (POSITIVE, """
        a.log(); a.log2(); a.log10(); a.log1p(); a.sqrt(); a.rsqrt(); a.lgamma(); a**-1.5; a**0.5
        a**0; a**1; t.float_power(a,2); t.pow(a,a); t.acosh(a+1); t.digamma(a)"""),
    "small": (SMALL, "a.asin(); a.acos(); a.atanh(); t.logit(a.abs()*0.9); a.erfinv()"),
    "integers": (INTEGERS, """
        a+b; a-b; a*b; a/b; a//b; a%b; t.fmod(a,b); a**2; a&b; a|b; a^b; ~a; a<<2; a>>1; a==b; a<b
        a+1.5; a*2; -a; a.abs(); a.sign(); a.float(); a.sum(); a.mean(dtype=t.float32)
        t.div(a,b,rounding_mode='trunc'); t.div(a,b,rounding_mode='floor'); a.exp(); t.maximum(a,b)
        a.clamp(-1,2); a.bool(); a.to(t.uint8); a.to(t.int8); a.cumsum(0); a.prod(); a.max()
        a.argmax(); a.floor(); a.float().int(); t.gcd(a,b); t.logical_and(a,b); a.remainder(3); 5%b
        7//b; a.pow(3); a.any(); a.all(); a.count_nonzero(); a.unique(); a.bool().sum()
        a.bool()&b.bool(); ~a.bool(); a.bool()+b.bool(); a.bool()*b.bool(); a@b.T; a.sort(1)[0]
        a.float().long(); t.bincount(b.flatten()); t.isin(a,b); (a>b)*1.5; a.to(t.float16)+1"""),
    "reductions": (CUBE, """
        a.sum(); a.sum(0); a.sum((0,2)); a.sum(-1,keepdim=True); a.mean(); a.mean(1)
        a.mean((0,1),keepdim=True); a.prod(); a.prod(1); a.amax(1); a.amin((0,2)); a.max(); a.min()
        a.max(1)[0]; a.max(1)[1]; a.min(-1,keepdim=True)[0]; a.argmax(); a.argmax(1)
        a.argmin(2,keepdim=True); a.any(); a.all(1); (a>0).any(1); a.var(); a.var(1)
        a.var(1,unbiased=False); a.std((0,2)); a.std(1,keepdim=True,correction=0); a.logsumexp(1)
        a.logsumexp((0,1),keepdim=True); a.norm(); a.norm(dim=1); a.norm(p=1); a.norm(p=3,dim=(0,1))
        a.norm(p=float('inf')); a.cumsum(1); a.cumprod(2); a.cummax(1)[0]; a.cummax(1)[1]
        a.cummin(2)[0]; a.logcumsumexp(1); a.nansum(); a.nanmean(1); t.var_mean(a,1)[0]; a.median()
        a.median(1)[0]; a.median(1)[1]; a.sort(1)[0]; a.sort(1,descending=True)[1]; a.argsort(2)
        a.topk(2,1)[0]; a.topk(2,1,largest=False)[1]; a.kthvalue(2,1)[0]; a.quantile(0.3)
        a.diff(dim=1); a.aminmax()[0]; a.dist(a*2); t.linalg.norm(a); a.mode(1)[0]; t.histc(a,5)
        a.renorm(2,0,1.); t.cdist(a,a+1)"""),
    "reductions of zeros": (WITH_ZEROS, """
        a.prod(); a.prod(1); a.prod(2,keepdim=True); a.cumprod(1); a.cumprod(2); a.norm(dim=1)
        a.count_nonzero(1); a.std(1); a.amax(1); a.max(1)[0]; a.argmin(1)"""),
    "shapes": (CUBE, """
        a.reshape(4,6); a.view(-1); a.view(2,12); a.flatten(1); a.unflatten(2,(2,2)); a.squeeze()
        a.unsqueeze(1); a.unsqueeze(-1); a[:,:1].squeeze(1); a.permute(2,0,1); a.transpose(0,2)
        a.swapaxes(0,1); a.movedim(0,2); a.mT; a[0].T; a[:1].expand(5,3,4); a[:,:1].expand(-1,6,-1)
        a.repeat(2,1,3); a.tile(2); a.repeat_interleave(2,1)
        a.repeat_interleave(t.tensor([1,2,0]),1); a.flip(0,2); t.fliplr(a); a.roll(1,0)
        a.roll((1,-1),(0,2)); a.roll(5); t.rot90(a,1,(1,2)); t.cat([a,a*2],1); t.stack([a,a],1)
        t.hstack([a,a]); t.vstack([a,a]); t.dstack([a,a]); a.split(2,2)[1]; a.split([1,2],1)[1]
        a.chunk(2,2)[0]; a.tensor_split(3,2)[0]; a.unbind(1)[2]; a.narrow(2,1,2); a.select(1,-1)
        a.unfold(2,2,1); a.unfold(2,2,2); a.diagonal(); a.diagonal(1,1,2); t.diag(a[0,0])
        t.diag(a[0]); t.diag_embed(a); t.diag_embed(a[0],1); a.tril(); a.triu(1); a.tril(-1)
        t.meshgrid(a[0,0],a[0,:,0],indexing='ij')[0]; t.meshgrid(a[0,0],a[0,:,0],indexing='xy')[1]
        a.transpose(0,1).reshape(6,4); t.broadcast_tensors(a[:1],a)[0]; t.block_diag(a[0],a[1])
        a.ravel(); t.atleast_3d(a[0]); a.as_strided((2,2),(1,2),1); t.cartesian_prod(a[0,0],a[1,0])
        t.combinations(a[0,0]); t.tensordot(a,a.permute(1,2,0),dims=2); t.trace(a[0])"""),
    "positions": (CUBE, """
        a.index_select(1,t.tensor([0,2,0])); a.gather(1,t.tensor([[[0,1,2,0]],[[2,2,1,1]]]))
        a.take(t.tensor([[0,5],[-1,3]])); a.masked_select(a>0)
        a.scatter(1,t.tensor([[[0,1,2,0]],[[2,2,1,1]]]),a[:,:1]*2)
        a.scatter_add(1,t.tensor([[[0,1,2,0],[0,1,1,1]],[[2,2,1,1],[2,0,0,1]]]),a[:,:2]*2)
        a.scatter(1,t.tensor([[[0,1,2,0]],[[2,2,1,1]]]),5.)
        a.scatter_reduce(1,t.tensor([[[0,1,2,0]],[[2,2,1,1]]]),a[:,:1]*2,'amax')
        a.scatter_reduce(1,t.tensor([[[0,1,2,0]],[[2,2,1,1]]]),a[:,:1]*2,'mean')
        a.scatter_reduce(1,t.tensor([[[0,1,2,0]],[[2,2,1,1]]]),a[:,:1]*2,'prod',include_self=False)
        a.index_add(1,t.tensor([0,2]),a[:,:2]*3,alpha=2); a.index_copy(1,t.tensor([0,2]),a[:,:2]*3)
        a.index_fill(1,t.tensor([0,2]),-1.); t.take_along_dim(a,a.argsort(1),1)
        a.masked_scatter(a>0,a*2); a.nonzero(); t.argwhere(a>0)
        t.searchsorted(t.tensor([-1.,0.,1.]),a)
        t.bucketize(a,t.tensor([-1.,0.,1.]),right=True)
        t.index_put(a,(t.tensor([0,1]),t.tensor([2,1])),t.tensor(9.))"""),
    "indices": (CUBE, """
        a[0]; a[-1]; a[1:]; a[::2]; a[...,0]; a[None]; a[0,1]; a[0,None,1:]; a[[0,1]]
        a[t.tensor([1,0,1])]; a[:,t.tensor([2,0])]; a[t.tensor([0,1]),t.tensor([2,1])]
        a[t.tensor([0,1]),:,t.tensor([2,1])]; a[0,:,t.tensor([3,1])]
        a[:,t.tensor([[0,1],[2,0]]),1:3]; a[a>0]; a[t.tensor([True,False])]
        a[:,t.tensor([True,False,True])]; a[...,t.tensor([True,False,True,True])]
        a[t.tensor([[True,False,True],[False,True,True]])]; a[t.tensor(1)]; a[:,-1]
        a[None,...,None]; a[1,...]; a[True]; a[t.tensor([0,1])[:,None],t.tensor([0,2])]
        a[t.tensor([],dtype=t.long)]; a[0:0]; a[-2:,1:-1,::3]; a[np.array([1,0])]; a[:,[0,2],[1,3]]
        a[[True,False]]; a[t.tensor([0,-1])]; a[(0,)]; a[...]; a[a.argmax(1)[0]%2]"""),
}  # fmt: skip

ASSIGNMENTS = (
    "0", "-1", "slice(1,None)", "(...,0)", "(0,1)", "[0,1]", "t.tensor([1,0])",
    "(slice(None),t.tensor([2,0]))", "(t.tensor([0,1]),t.tensor([2,1]))",
    "(t.tensor([0,1]),slice(None),t.tensor([2,1]))", "a>0", "t.tensor([True,False])",
    "(slice(None),t.tensor([True,False,True]))", "None", "...", "(slice(None,None,2),1)",
    "slice(0,0)", "(slice(None),[0,2],[1,3])", "(0,0,0)",
)  # fmt: skip


def expressions() -> list[Any]:
    return [
        pytest.param(group, text.strip(), id=f"{group}: {text.strip()}")
        for group, (_, texts) in TABLE.items()
        for line in texts.splitlines()
        for text in line.split(";")
        if text.strip()
    ]


def evaluate(library: Any, arrays: Any, text: str) -> tuple[Any, list[Any]]:
    operands = [library.tensor(array, requires_grad=array.dtype.kind == "f") for array in arrays]
    scope = {"t": library, "np": np, **dict(zip("ab", operands))}
    return eval(text, scope), operands


def compare(text: str, arrays: Any) -> None:
    expected, references = evaluate(torch, arrays, text)
    got, leaves = evaluate(lazytorch, arrays, text)
    assert tuple(got.shape) == tuple(expected.shape)
    assert str(got.dtype) == str(expected.dtype)
    assert got.requires_grad == expected.requires_grad
    if expected.requires_grad:
        (expected * expected).sum().backward()
        (got * got).sum().backward()
        compute(got, *(leaf.grad for leaf in leaves))
    np.testing.assert_allclose(
        got.detach().numpy(), expected.detach().numpy(), rtol=3e-5, atol=3e-6
    )
    if expected.requires_grad:
        for leaf, reference in zip(leaves, references):
            if reference.grad is not None:
                np.testing.assert_allclose(
                    leaf.grad.numpy(), reference.grad.numpy(), rtol=5e-4, atol=2e-4
                )


@pytest.mark.parametrize(("group", "text"), expressions())
def test_expression(group: str, text: str) -> None:
    compare(text, TABLE[group][0])


@pytest.mark.parametrize("index", ASSIGNMENTS)
def test_assignment(index: str) -> None:
    def assigned(library: Any, a: Any, value: Any) -> Any:
        target = a * 1
        place = eval(index, {"t": library, "a": target})
        target[place] = value(target, place)
        return target

    values = (
        lambda target, place: 5.0,
        lambda target, place: target.detach()[place] * 2 + 1,
        lambda target, place: target.sum() * 0.1,
    )
    for value in values:
        results = []
        for library in (torch, lazytorch):
            a = library.tensor(CUBE[0], requires_grad=True)
            out = assigned(library, a, value)
            (out * out).sum().backward()
            compute(out, a.grad)
            results.append((out.detach().numpy(), a.grad.numpy()))
        for expected, got in zip(*results):
            np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


# dtypes ---------------------------------------------------------------------------------------

DTYPES = (
    "bool",
    "uint8",
    "int8",
    "int16",
    "int32",
    "int64",
    "float16",
    "bfloat16",
    "float32",
    "float64",
)
OPERATIONS = ("a+b", "a*b", "a/b", "a==b", "a-b", "a//b", "a**b")


@pytest.mark.parametrize("first", DTYPES)
def test_promotion(first: str) -> None:
    seconds: list[Any] = [*DTYPES, 1, 2.5, True, "0-d float64", "0-d int64", "0-d int16"]
    for second in seconds:
        for operation in OPERATIONS:
            outcomes = []
            for library in (torch, lazytorch):
                a = library.ones(2, dtype=getattr(library, first))
                if isinstance(second, str):
                    shape = () if second.startswith("0-d") else (2,)
                    b = library.ones(shape, dtype=getattr(library, second.split()[-1]))
                else:
                    b = second
                try:
                    outcomes.append(str(eval(operation, {"a": a, "b": b}).dtype))
                except (RuntimeError, TypeError) as error:
                    outcomes.append(isinstance(error, RuntimeError))
            assert outcomes[0] == outcomes[1], (first, second, operation)


def test_result_type_table() -> None:
    for first in DTYPES:
        for second in DTYPES:
            expected = torch.promote_types(getattr(torch, first), getattr(torch, second))
            got = lazytorch.promote_types(getattr(lazytorch, first), getattr(lazytorch, second))
            assert str(got) == str(expected)


# creation -------------------------------------------------------------------------------------

CREATIONS = (
    "zeros(2, 3)", "ones((2,))", "full((2,), 7)", "full((2,), 2.5)", "full((), True)", "arange(5)",
    "arange(1, 6, 2)", "arange(0, 1, 0.25)", "arange(5, 0, -2)", "arange(3.0)", "linspace(0, 1, 5)",
    "linspace(-2, 7, 4)", "linspace(3, 3, 1)", "linspace(t.tensor(4.3), -3, 9, dtype=t.int64)",
    "linspace(0, 10, 5, dtype=t.int64)", "eye(3)",
    "eye(2, 4)", "tensor([[1, 2], [3, 4]])", "tensor([1.5, 2])", "tensor([True])", "tensor([])",
    "tensor(3)", "tensor([1, 2], dtype=t.float16)", "zeros_like(t.ones(2, dtype=t.int8))",
    "full_like(t.ones(2), 3)", "ones_like(t.zeros(2), dtype=t.bool)", "zeros(0)", "zeros(2, 0)",
    "tensor([[]])", "logspace(0, 2, 3)", "arange(0, dtype=t.float32)", "tril_indices(3, 3)",
    "triu_indices(2, 3)", "tensor(2.5).new_zeros(2)", "ones(2).new_full((3,), 2)",
    "ones(2).new_tensor([1, 2])", "scalar_tensor(2.)", "as_tensor([1, 2])", "range(1, 4)",
)  # fmt: skip


@pytest.mark.parametrize("text", CREATIONS)
@pytest.mark.filterwarnings("ignore")
def test_creation(text: str) -> None:
    expected = eval(f"t.{text}", {"t": torch})
    got = eval(f"t.{text}", {"t": lazytorch})
    assert (tuple(got.shape), str(got.dtype)) == (tuple(expected.shape), str(expected.dtype))
    np.testing.assert_allclose(got.numpy(), expected.numpy(), rtol=1e-6)


def test_a_norm_is_put_where_it_is_wanted() -> None:
    out = lazytorch.zeros(())
    assert lazytorch.linalg.norm(lazytorch.tensor([[3.0], [4.0]]), out=out) is out
    assert out.item() == 5


# What the operator database found -------------------------------------------------------------

FOUND = (
    "logspace(0, 5.7, 7, dtype=t.int64)", "logspace(-3, 1, 6, dtype=t.int32)",
    "logspace(0.5, 3.2, 4, base=2.5, dtype=t.int64)", "logspace(4.3, 4, 4, dtype=t.int64)",
    "logspace(0, 8, 5, base=-2, dtype=t.int64)", "tensor(2.5).logcumsumexp(0)",
    "tensor([2., 4.]).__rdiv__(3)", "eye(2).__rmatmul__(t.ones(2, 2))",
    "diff(t.ones(3), 0, 0, t.ones(1))", "linalg.vander(t.tensor(2.), N=3)",
    "gather(t.ones(5, 0), 0, t.zeros(3, 0, dtype=t.uint8))",
    "gather(t.ones(5), 0, t.zeros(2, 0, dtype=t.int64))",
    "zeros(3).scatter(0, t.tensor([1], dtype=t.int32), t.ones(1))",
    "zeros(3).scatter_add(0, t.tensor([1, 1], dtype=t.int32), t.ones(2))",
    "hash_tensor(t.tensor([[1., 2], [3, 4]]))", "hash_tensor(t.tensor([[1., 2], [3, 4]]), 1)",
    "tensor([[1., 2], [3, 4]]).hash_tensor((0, 1), keepdim=True)", "hash_tensor(t.tensor(7))",
    "hash_tensor(t.tensor([True, False]))", "hash_tensor(t.tensor([-3], dtype=t.int8))",
    "nn.functional.cosine_similarity(t.tensor(2.), t.tensor(-3.), dim=0)",
    "nn.functional.local_response_norm(t.arange(-9, 9).reshape(1, 6, 3), 2, beta=0.5)",
    "nn.functional.multi_margin_loss(t.tensor(1.), t.tensor(0))",
    "nn.functional.multilabel_margin_loss(t.tensor(0.5), t.tensor([0]), reduction='none')",
    "nn.functional.batch_norm(t.zeros(0), t.zeros(0), t.zeros(0))",
    "searchsorted(t.tensor([5., 1, 3]), t.tensor([2., 6]), sorter=t.tensor([1, 2, 0]))",
    "searchsorted(t.tensor([1, t.nan]), t.tensor([t.nan, 5, .5]))",
    "searchsorted(t.arange(12).reshape(2, 6), t.arange(8).reshape(2, 4) * 2, right=True)",
    "searchsorted(t.zeros(0), t.tensor([2.]), out_int32=True)", "bucketize(2, t.arange(7.))",
    "searchsorted(t.arange(37.).repeat_interleave(3), t.ones(2, 3) * 20, side='right')",
    "tensor([True, False, True]).scatter_reduce(0, t.tensor([0, 0, 1]), t.tensor([True, False, "
    "True]), 'sum', include_self=False)",
    "tensor([True, False, True]).scatter_reduce(0, t.tensor([0, 0, 1]), t.tensor([True, False, "
    "True]), 'prod', include_self=False)",
    "tensor([False, True]).scatter_reduce(0, t.tensor([0]), t.tensor([True]), 'amin', "
    "include_self=False)",
    "tensor(True).sum_to_size([])",
    "hash_tensor(t.tensor([1.5, 2.5], dtype=t.bfloat16))", "hash_tensor(t.zeros(2, 0), dim=0)",
)  # fmt: skip


@pytest.mark.parametrize("device", available_devices())
def test_what_the_operator_database_found(device: str) -> None:
    before = lazytorch.get_default_device()
    lazytorch.set_default_device(device)
    try:
        found = [eval(f"t.{text}", {"t": lazytorch}) for text in FOUND]
        compute(*found)
        for text, got in zip(FOUND, found):
            expected = eval(f"t.{text}", {"t": torch})
            assert str(got.dtype) == str(expected.dtype), text
            np.testing.assert_allclose(
                got.cpu().numpy(), expected.numpy(), rtol=1e-6, err_msg=text
            )
    finally:
        lazytorch.set_default_device(before)


FOUND_WRONG = (
    "logspace(0, 1, 3, dtype=t.bool)", "diff(t.ones(3), -1)", "diff(t.tensor(1.))",
    "linalg.vander(t.ones(2), N=1)", "linalg.vander(t.tensor(1.))",
    "gather(t.ones(5), 0, t.zeros(2, dtype=t.uint8))",
    "searchsorted(t.ones(2, 3), t.ones(3, 2))", "searchsorted(t.ones(2, 3), 2.)",
    "searchsorted(t.ones(3), 2., side='up')",
    "searchsorted(t.ones(3), 2., right=True, side='left')",
    "searchsorted(t.ones(3), 2., sorter=t.tensor([0, 1]))", "bucketize(1., t.ones(2, 2))",
    "searchsorted(t.ones(3), 2., sorter=t.tensor([0, 1, 7]))",
    "searchsorted(t.tensor([True]), t.tensor([True]))",
    "hash_tensor(t.zeros(2, 0), dim=1)", "hash_tensor(t.zeros(0))",
    "hash_tensor(t.ones(2), mode=1)",
    "hash_tensor(t.zeros(2, dtype=t.complex64))", "hash_tensor(t.ones(2), 1)",
)  # fmt: skip


@pytest.mark.parametrize("text", FOUND_WRONG)
def test_what_the_operator_database_found_refused(text: str) -> None:
    with pytest.raises(Exception) as expected:
        eval(f"t.{text}", {"t": torch})
    with pytest.raises(expected.type):
        eval(f"t.{text}", {"t": lazytorch})
