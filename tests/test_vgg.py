"""VGG's own backward pass against autograd on plain torch operations."""

import ast
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from chromogen.compute import devices
from chromogen.style import vgg
from chromogen.style.vgg import Asked, Convolution, activations_and_grams, pool, pool_backward

SHAPES = {"1_1": (3, 8), "1_2": (8, 8), "2_1": (8, 16), "2_2": (16, 16), "3_1": (16, 16)}
COMPARED = (["1_1", "2_1", "3_1"], ["1_2", "2_2"], ["3_1"], ["1_1"], list(SHAPES))
SIZES = ((16, 16), (19, 22), (4, 5))
MASKS = {
    "left": torch.cat([torch.ones(1, 1, 12, 8), torch.zeros(1, 1, 12, 11)], 3),
    "soft": torch.rand(1, 1, 12, 19, generator=torch.Generator().manual_seed(3)),
}
MASKS |= {"nothing": MASKS["left"] * 0}
POOLS = {"max": F.max_pool2d, "average": F.avg_pool2d}


def kernels() -> dict[str, tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return {
        name: (
            torch.randn(c_out, c_in, 3, 3, generator=generator) / (3 * c_in**0.5),
            torch.randn(c_out, generator=generator) / 10,
        )
        for name, (c_in, c_out) in SHAPES.items()
    }


def plain(x: Tensor, compared: list[str], pooling: str) -> dict[str, Tensor]:
    found = {}
    for name, (kernel, bias) in kernels().items():
        if name in ("2_1", "3_1"):
            x = POOLS[pooling](x, 2)
        x = F.relu(F.conv2d(x, kernel, bias, padding=1))
        found[name] = x
    return {name: found[name] for name in compared}


def laid_out(compared: list[str]) -> dict[str, Convolution]:
    names = list(SHAPES)
    return {name: Convolution(*kernels()[name]) for name in names[: names.index(compared[-1]) + 1]}


def gradient(found: dict[str, Tensor], x: Tensor) -> Tensor:
    """Of a sum in which every value of every activation counts differently."""
    total = torch.zeros(())
    for activation in found.values():
        total = total + (activation * torch.linspace(-1, 1, activation.numel()).view(activation.shape)).sum()
    return torch.autograd.grad(total, x)[0]


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("pooling", list(POOLS))
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("compared", COMPARED)
def test_equals_autograd(
    compared: list[str], size: tuple[int, int], pooling: str, fused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not fused:
        monkeypatch.setattr(vgg, "has_fused_convolution", lambda _device, _dtype: False)
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1)).requires_grad_()
    ours, _ = activations_and_grams(x, Asked(laid_out(compared), compared, [], pooling, {}))
    theirs = plain(x, compared, pooling)
    for name in compared:
        assert torch.allclose(ours[name], theirs[name], atol=1e-6)
    assert torch.allclose(gradient(ours, x), gradient(theirs, x), atol=1e-5)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("pooling", list(POOLS))
@pytest.mark.parametrize("compared", COMPARED)
@pytest.mark.parametrize("grams_of", [["1_1", "2_1", "3_1"], ["1_2"], ["2_2", "3_1"]])
@pytest.mark.parametrize("through", [(None,), ("left",), (None, "left", "soft"), ("nothing", "soft")])
def test_gram_matrices_equal_autograd(
    grams_of: list[str],
    compared: list[str],
    pooling: str,
    fused: bool,
    through: tuple[str | None, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Alone, beside activations of other layers, and of the same; through several masks of one layer."""
    if not fused:
        monkeypatch.setattr(vgg, "has_fused_convolution", lambda _device, _dtype: False)
    x = torch.randn(2, 3, 12, 19, generator=torch.Generator().manual_seed(1)).requires_grad_()
    deepest = max(*compared, *grams_of)
    of = [(name, mask) for name in grams_of for mask in through]
    ours, grams = activations_and_grams(x, Asked(laid_out([deepest]), compared, of, pooling, MASKS))
    theirs = plain(x, list(SHAPES), pooling)
    wanted = {(name, mask): gram_by_autograd(theirs[name], mask) for name, mask in of}
    for key in of:
        assert torch.allclose(grams[key], wanted[key], atol=1e-6)
    found = gradient({**ours, **{f"gram {k}": v for k, v in grams.items()}}, x)
    expected = gradient({**{n: theirs[n] for n in compared}, **{f"gram {k}": v for k, v in wanted.items()}}, x)
    assert torch.allclose(found, expected, atol=1e-5)


def gram_by_autograd(activation: Tensor, mask: str | None) -> Tensor:
    vectors = activation.flatten(2)
    if mask is None:
        return vectors @ vectors.transpose(1, 2) / vectors.shape[2]
    halvings = {12: 0, 6: 1, 3: 2}[activation.shape[2]]
    share = MASKS[mask]
    for _ in range(halvings):
        share = F.avg_pool2d(share, 2)
    share = share.flatten(2)
    return (vectors * share) @ vectors.transpose(1, 2) / share.sum().clamp_min(1e-6)


@pytest.mark.parametrize("height", [4, 12, 13, 64, 100, 128])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_max_pool_in_strips_is_the_max_pool(height: int, batch: int, layout: torch.memory_format) -> None:
    x = torch.rand(batch, 5, height, 9).contiguous(memory_format=layout).requires_grad_()
    upstream = torch.rand(batch, 5, height // 2, 4)
    pooled, winners = pool(x.detach(), "max")
    wanted = F.max_pool2d(x, 2)
    assert torch.equal(pooled, wanted)
    back = pool_backward(upstream.contiguous(memory_format=torch.channels_last), x.shape, winners)
    assert torch.equal(back, torch.autograd.grad(wanted, x, upstream)[0])


# --- without what torch keeps to itself ---

NAMES = (
    "mkldnn._convolution_pointwise",
    "mkldnn._reorder_convolution_weight",
    "aten.hardtanh_backward",
    "aten.avg_pool2d_backward.grad_input",
    "aten.max_pool2d_with_indices_backward.grad_input",
)


def absent(*_given: object, **_named: object) -> Tensor:
    raise AttributeError("torch has no such operator")


def other_arguments(*_given: object, **_named: object) -> Tensor:
    raise RuntimeError("expected at most 3 argument(s) but received 9 argument(s)")


def other_result(*given: Tensor, **_named: object) -> Tensor:
    return given[0] * 3


def nothing_written(*given: Tensor, grad_input: Tensor | None = None, **_named: object) -> Tensor:
    return given[0] if grad_input is None else grad_input.zero_()


def without(monkeypatch: pytest.MonkeyPatch, names: Iterable[str], instead: Callable[..., Tensor] | None) -> None:
    """As if torch had something else, or nothing, under some of the names."""
    there = vgg.operator
    for module in (vgg, devices):
        monkeypatch.setattr(module, "operator", lambda name: instead if name in names else there(name))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("instead", [None, absent, other_arguments, other_result, nothing_written])
@pytest.mark.parametrize("name", NAMES)
def test_an_operator_that_is_missing_or_another_is_done_without(
    name: str, instead: Callable[..., Tensor] | None, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit by bit the same, but for convolutions, which round in another order."""
    generator = torch.Generator().manual_seed(1)
    x, upstream = (
        torch.randn(2, 8, 12, 19, generator=generator).to(dtype).contiguous(memory_format=torch.channels_last)
        for _ in range(2)
    )
    kernel, bias = (tensor.to(dtype) for tensor in kernels()["2_1"])

    def all_of_them() -> dict[str, Tensor]:
        convolution = Convolution(kernel, bias)
        _, winners = pool(x, "max")
        back = upstream[..., :6, :9].contiguous(memory_format=torch.channels_last)
        return {
            "there": convolution.forward(x),
            "back": convolution.input_grad(
                torch.cat([upstream, x], 1).contiguous(memory_format=torch.channels_last)
            ),
            "relu": vgg.relu_backward(upstream, x),
            "max": pool_backward(back, x.shape, winners),
            "average": pool_backward(back, x.shape, None),
        }

    wanted = all_of_them()
    without(monkeypatch, [name], instead)
    found = all_of_them()
    for way, tensor in found.items():
        assert tensor.is_contiguous(memory_format=torch.channels_last), way
        if way in ("there", "back"):
            assert torch.allclose(
                tensor.float(), wanted[way].float(), atol=3e-2 if dtype == torch.bfloat16 else 1e-5
            )
        else:
            assert torch.equal(tensor, wanted[way]), way


@pytest.mark.parametrize("pooling", list(POOLS))
@pytest.mark.parametrize("size", SIZES)
def test_without_any_of_them_it_equals_autograd(
    size: tuple[int, int], pooling: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, NAMES, None)
    assert not vgg.has_fused_convolution(torch.device("cpu"), torch.float32)
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1)).requires_grad_()
    ours, _ = activations_and_grams(x, Asked(laid_out(list(SHAPES)), list(SHAPES), [], pooling, {}))
    theirs = plain(x, list(SHAPES), pooling)
    assert torch.allclose(gradient(ours, x), gradient(theirs, x), atol=1e-5)


def test_what_torch_has_is_used() -> None:
    """Else every run is as slow as without; all are there from torch 2.6 on, as far as we know."""
    assert all(vgg.operator(name) for name in NAMES)
    assert vgg.operator("aten.no_such_thing") is None
    assert vgg.operator("no_such_room.at_all") is None
    assert Convolution(*kernels()["2_1"]).fused == torch.backends.mkldnn.is_available()


def test_no_private_name_of_torch_is_used_unguarded() -> None:
    """Of all our source, in calls and attributes of torch: each is taken by `operator`, or by getattr."""
    found = [
        (file.parent.name + "/" + file.name, ast.unparse(node))
        for file in Path(vgg.__file__).parents[1].rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Attribute)
        and ast.unparse(node).startswith(("torch.", "F.", "nn."))
        and any(part.startswith("_") or part == "ops" for part in ast.unparse(node).split("."))
    ]
    assert set(found) <= {("compute/devices.py", "torch.ops")}


def test_a_loss_may_ignore_some_of_what_it_asked_for() -> None:
    x = torch.rand(1, 3, 16, 16, requires_grad=True)
    ours, _ = activations_and_grams(x, Asked(laid_out(["3_1"]), ["1_1", "3_1"], [], "max", {}))
    theirs = plain(x, ["1_1"], "max")
    assert torch.allclose(gradient({"1_1": ours["1_1"]}, x), gradient(theirs, x), atol=1e-5)


def test_gradients_given_to_it_are_left_as_they_are() -> None:
    x = torch.rand(1, 3, 16, 16, requires_grad=True)
    ours, _ = activations_and_grams(x, Asked(laid_out(["2_1"]), ["1_1", "2_1"], [], "max", {}))
    given = [torch.ones_like(activation) for activation in ours.values()]
    torch.autograd.grad(list(ours.values()), x, given)
    assert all(bool((g == 1).all()) for g in given)


def test_nothing_asked_for_runs_nothing() -> None:
    assert activations_and_grams(torch.rand(1, 3, 16, 16), Asked({}, [], [], "max", {})) == ({}, {})
