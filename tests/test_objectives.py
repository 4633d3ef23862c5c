"""The contrastive losses, whole and in tiles, equal a double loop, open_clip and independently computed values, and so
do all their gradients; what large batches take is linear in the batch."""

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from flip.losses import Setting, tiling
from flip.losses.contrastive import ContrastiveObjective, info_nce
from flip.losses.sigmoid import SigmoidObjective, pairwise_sigmoid
from flip.losses.tiling import SIDE
from flip.plan.counting import Alike, Ledger, tiles_of

NAMES = ("image", "text", "scale", "bias")
# Pairs, width, side of a tile: one pair, one tile, many, odd sizes, a last tile of one row, tiles of one row.
SHAPES = [(1, 4, 4), (7, 3, 7), (8, 5, 3), (12, 16, 4), (13, 2, 4), (5, 6, 1), (37, 11, 16), (6, 4, 100)]
EXACT = {"rtol": 1e-10, "atol": 1e-14}


def features(pairs, width, dtype=torch.float64, scale=14.0):
    generator = torch.Generator().manual_seed(pairs * width)
    image, text = (F.normalize(torch.randn(pairs, width, generator=generator).to(dtype), dim=1) for _ in range(2))
    return [
        x.requires_grad_() for x in (image, text, torch.tensor(scale, dtype=dtype), torch.tensor(-3.0, dtype=dtype))
    ]


def info_nce_loop(image, text, scale, bias):
    """The definition, pair by pair."""
    total = 0
    for i in range(len(image)):
        right = scale * image[i] @ text[i]
        across = torch.stack([scale * image[i] @ text[j] for j in range(len(text))])
        down = torch.stack([scale * image[j] @ text[i] for j in range(len(text))])
        total = total + across.exp().sum().log() + down.exp().sum().log() - 2 * right
    return total / (2 * len(image))


def sigmoid_loop(image, text, scale, bias):
    total = 0
    for i in range(len(image)):
        for j in range(len(text)):
            sign = 1 if i == j else -1
            total = total + torch.log1p(torch.exp(-sign * (scale * image[i] @ text[j] + bias)))
    return total / len(image)


def open_clip_info_nce(image, text, scale, bias):
    from open_clip.loss import ClipLoss

    return ClipLoss()(image, text, scale)


def open_clip_sigmoid(image, text, scale, bias):
    from open_clip.loss import SigLipLoss

    return SigLipLoss()(image, text, scale, bias)


def ours_info_nce(image, text, scale, bias, side=None):
    return info_nce(image, text, scale, side)


def differentiated(loss, inputs, weight=1.0):
    """The loss, and its gradients times `weight` by name of the input."""
    value = loss(*inputs)
    gradients = torch.autograd.grad(weight * value, inputs, allow_unused=True)
    return value.detach(), {name: g for name, g in zip(NAMES, gradients, strict=True) if g is not None}


@pytest.mark.parametrize(("pairs", "width", "side"), SHAPES)
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (ours_info_nce, info_nce_loop), (ours_info_nce, open_clip_info_nce),
        (pairwise_sigmoid, sigmoid_loop), (pairwise_sigmoid, open_clip_sigmoid),
    ],
)  # fmt: skip
def test_tiles_equal_the_loop_and_open_clip_with_gradients(ours, theirs, pairs, width, side):
    inputs = features(pairs, width)
    expected, gradients = differentiated(theirs, inputs, weight=0.3)
    for form in (side, None):
        value, found = differentiated(lambda *x, form=form: ours(*x, side=form), inputs, weight=0.3)
        torch.testing.assert_close(value, expected, **EXACT)
        assert found.keys() == gradients.keys()
        for name in gradients:
            torch.testing.assert_close(found[name], gradients[name], **EXACT, msg=name)


@pytest.mark.parametrize("seed", range(5))
def test_random_shapes_agree_with_the_whole_matrix(seed):
    pairs, width, side = (int(n) for n in torch.randint(1, 70, (3,), generator=torch.Generator().manual_seed(seed)))
    inputs = features(pairs, width, scale=100.0)
    for loss in (ours_info_nce, pairwise_sigmoid):
        whole, tiled = (differentiated(lambda *x, s=s, loss=loss: loss(*x, side=s), inputs) for s in (None, side))
        torch.testing.assert_close(tiled[0], whole[0], **EXACT)
        for name in whole[1]:
            torch.testing.assert_close(tiled[1][name], whole[1][name], rtol=1e-9, atol=1e-12)


def reference_features():
    """Inputs that anyone can write down."""
    rows, columns = torch.arange(8.0, dtype=torch.float64)[:, None], torch.arange(16.0, dtype=torch.float64)

    def unit(phase):
        wave = torch.sin(0.7 * rows + 1.3 * columns + phase) + 0.25 * torch.cos(2.1 * rows * columns + phase)
        return F.normalize(wave, dim=1)

    return unit(0.0), F.normalize(unit(0.4) + 0.1 * unit(1.9), dim=1)


@pytest.mark.parametrize("side", [None, 3, 8])
def test_losses_equal_the_reference_values(side):
    """Ten digits of values computed independently."""
    image, text = reference_features()
    number = lambda x: torch.tensor(x, dtype=torch.float64)  # noqa: E731
    for scale, expected in ((1 / 0.07, 0.9644506265), (10.0, 0.8655342506)):
        assert info_nce(image, text, number(scale), side).item() == pytest.approx(expected, rel=1e-10)
    value = pairwise_sigmoid(image, text, number(10.0), number(-10.0), side)
    assert value.item() == pytest.approx(1.8162983908, rel=1e-10)


@pytest.mark.parametrize("pairs", [8, 4096])
def test_sigmoid_starts_where_it_should(pairs):
    """All cosines 0, bias -10: log(1 + e^10) + (n - 1) log(1 + e^-10)."""
    zeros, ten = torch.zeros(pairs, 2), torch.tensor(10.0)
    expected = math.log1p(math.exp(10)) + (pairs - 1) * math.log1p(math.exp(-10))
    assert pairwise_sigmoid(zeros, zeros, ten, -ten).item() == pytest.approx(expected, rel=1e-5)


def test_logits_far_apart_neither_overflow_nor_vanish():
    """The largest scale with opposite features: columns whose every logit is exp(-200) of the rows' largest."""
    text = torch.eye(4)
    image = torch.stack([text[0], text[0], text[0], -text[3]])
    inputs = [x.requires_grad_() for x in (image, text, torch.tensor(100.0), torch.tensor(-10.0))]
    for loss in (ours_info_nce, pairwise_sigmoid):
        exact, gradients = differentiated(lambda *x, loss=loss: loss(*(y.double() for y in x), side=2), inputs)
        value, found = differentiated(lambda *x, loss=loss: loss(*x, side=2), inputs)
        assert value.item() == pytest.approx(exact.item(), rel=1e-6)
        for name in found:
            torch.testing.assert_close(found[name], gradients[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("loss", [ours_info_nce, pairwise_sigmoid])
@pytest.mark.parametrize("side", [None, 5])
def test_bfloat16_features_are_computed_in_float32(loss, side):
    """The value is that of the rounded features in float32; each gradient comes back in its input's type."""
    narrow = features(12, 16, torch.bfloat16)
    wide = [x.detach().float().requires_grad_() for x in narrow]
    value, gradients = differentiated(lambda *x: loss(*x, side=side), [*narrow[:2], *wide[2:]])
    expected, exact = differentiated(lambda *x: loss(*x, side=side), wide)
    assert value.dtype == torch.float32
    assert torch.equal(value, expected)
    assert gradients["image"].dtype == gradients["text"].dtype == torch.bfloat16
    for name in exact:
        assert torch.equal(gradients[name], exact[name].to(gradients[name].dtype)), name


def test_large_batches_go_in_tiles_and_small_ones_whole(change, monkeypatch):
    """The objectives switch by the batch alone; a small batch keeps the plain form, and with it its bits."""
    small = features(tiling.TILES_FROM - 1, 2, torch.float32)
    large = features(tiling.TILES_FROM, 2, torch.float32)
    assert tiling.pick_side(small[0], None) is None
    assert tiling.pick_side(large[0], None) == tiling.SIDE["cpu"]
    image, text, scale, bias = small[0][:9], small[1][:9], small[2], small[3]
    outputs = {"image": image, "text": text, "scale": scale, "bias": bias}
    logits, target = scale * image @ text.T, torch.arange(9)
    plain = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    contrastive, sigmoid = (
        one(Setting(change(name))) for name, one in (("clip", ContrastiveObjective), ("sigmoid", SigmoidObjective))
    )
    assert torch.equal(contrastive({}, outputs)["contrastive"], plain)
    whole = sigmoid({}, outputs)["sigmoid"]
    monkeypatch.setattr(tiling, "TILES_FROM", 1)
    monkeypatch.setattr(tiling, "SIDE", {"cpu": 4})
    tiled = contrastive({}, outputs)["contrastive"].grad_fn.next_functions[0][0]  # what the weight is applied to
    assert type(tiled).__name__ == "TiledInfoNCEBackward"
    torch.testing.assert_close(sigmoid({}, outputs)["sigmoid"], whole)


def largest_made(run) -> int:
    """Elements of the largest tensor that any operation of `run` makes."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        elements = 0

        def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
            made = operator(*args, **(kwargs or {}))
            for one in made if isinstance(made, tuple | list) else [made]:
                if isinstance(one, torch.Tensor):
                    self.elements = max(self.elements, one.numel())
            return made

    with Largest() as largest:
        run()
    return largest.elements


@pytest.mark.parametrize("loss", [ours_info_nce, pairwise_sigmoid])
def test_no_tensor_is_as_large_as_the_matrix(loss):
    """Every tensor that an operation makes, forward and backward, is at most a tile or the features."""
    inputs = features(64, 4, torch.float32)
    assert largest_made(lambda: loss(*inputs, side=8).backward()) == 64 * 4


def test_a_process_of_a_ring_holds_its_own_share_of_the_captions_at_a_time():
    class Ring(tiling.SingleProcess):
        size = 4

    inputs = features(16, 4, torch.float32)
    assert largest_made(lambda: pairwise_sigmoid(*inputs, side=4, group=Ring()).backward()) == 16 * 4


def test_a_loss_without_gradients_does_no_work_for_them():
    from torch.utils.flop_counter import FlopCounterMode

    inputs = features(32, 8, torch.float32)
    tile, products = 2 * 8**3, {}
    for name, grad in (("value", False), ("training", True)):
        with torch.set_grad_enabled(grad), FlopCounterMode(display=False) as counter:
            pairwise_sigmoid(*inputs, side=8)
        counts = counter.get_flop_counts()["Global"]
        products[name] = sum(counts.get(one, 0) for one in (torch.ops.aten.mm, torch.ops.aten.addmm))
    assert products == {"value": 16 * tile, "training": 3 * 16 * tile}


def test_the_sigmoid_loss_says_that_its_gradients_are_spent():
    value = pairwise_sigmoid(*features(8, 4), side=4)
    value.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="compute the loss again"):
        value.backward()


@pytest.mark.parametrize("loss", ["InfoNCE", "sigmoid"])
def test_the_benchmark_compares_forms_of_one_loss(loss):
    """With a last tile that is smaller than the others."""
    from benchmarks.losses import features, forms

    inputs = features(SIDE["cpu"] + 3, 4)
    values = [form(*inputs) for name, form in forms()[loss].items() if name != "floor"]
    assert len(values) == 3
    for value in values[1:]:
        torch.testing.assert_close(value, values[0], rtol=1e-5, atol=0)


class Operators(TorchDispatchMode):
    """Count what is started on a device; of tensors without values, not what asks for their device."""

    count = 0

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        self.count += function.namespace == "aten"
        return function(*arguments, **named or {})


@pytest.mark.parametrize(
    "loss", [info_nce, lambda *given, **group: pairwise_sigmoid(*given, torch.tensor(0.0), **group)]
)
def test_a_loss_over_many_processes_is_few_operators_and_as_much_memory(loss):
    """64k pairs on 256 processes in tiles of a GPU; and no more memory than on eight."""
    operators, peaks = {}, {}
    for processes in (8, 256):
        with FakeTensorMode(), tiles_of("cuda"):
            own = 65_536 // processes
            image, text = (torch.empty(own, 512, requires_grad=True) for _ in range(2))
            scale, group = torch.tensor(10.0, requires_grad=True), Alike(size=processes)
            with Operators() as found, Ledger([image, text]) as ledger:
                loss(image, text, scale, group=group).backward()
        operators[processes], peaks[processes] = found.count, ledger.peak
    assert operators[256] <= 100 < operators[8]
    assert peaks[256] <= 1.6 * peaks[8]


@pytest.mark.parametrize(("own", "size", "side"), [(5, 3, 2), (4, 4, 8), (7, 2, 3), (3, 5, 4), (6, 1, 4)])
def test_tiles_cover_the_matrix_once_and_know_the_matched_pairs(own, size, side):
    for rank in range(size):
        seen = torch.zeros(own, own * size, dtype=torch.long)
        for tile in tiling.tiles(own, SimpleNamespace(rank=rank, size=size), side):
            part = seen[tile.rows, tile.columns]
            assert part.numel() <= side * side
            part += 1
            tile.diagonal(part).add_(1)
        expected = torch.ones_like(seen)
        expected[torch.arange(own), rank * own + torch.arange(own)] = 2
        assert torch.equal(seen, expected)
