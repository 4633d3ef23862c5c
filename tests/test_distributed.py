"""Several processes train as one: the loss, all gradients, masks and samples are those of one process with the same
global batch, whether weights are copied (DDP) or split (FSDP2), and a run goes on from another number's checkpoint."""

from itertools import chain
from typing import ClassVar

import pytest
import torch

from flip.device import local_part
from flip.files import read_json
from flip.losses import sigmoid
from flip.losses.contrastive import info_nce
from flip.losses.sigmoid import pairwise_sigmoid
from flip.train import async_gather, process_group
from flip.train.async_gather import PendingTransfer
from flip.train.process_group import ProcessGroup
from flip.train.step import TrainingRun, build_loader, build_model
from tests.conftest import SMALL
from tests.processes import together
from tests.variants import EVERY_KIND

pytestmark = pytest.mark.long(1)

BATCH = 24  # 2, 3 and 4 divide it


def build(world, params, data):
    """A run in float64."""
    loader = build_loader(params, data, read_json(data / "manifest.json"), seed=0)
    model = build_model(params, loader.captions.tokens.tokenizer.vocabulary, 0, "cpu").double()
    return TrainingRun(params, loader, model, 20, 0, world, data)


def whole(tensor):
    return (tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor).detach().clone()


def step(world, params, data):
    """The losses of the second global batch, over all processes, and the gradient of each parameter."""
    run = build(world, params, data)
    run.done = 1
    losses = run.gradients(next(run.batches()))
    named = {name: world.sum(loss) for name, loss in losses.items()}
    learnt = {name: one for name, one in run.model.named_parameters() if one.requires_grad}
    return named, {name: whole(one.grad) for name, one in learnt.items()}


def parameters(change, variant, **train):
    return change(variant, {**SMALL, "train": {**SMALL["train"], "batch": BATCH, **train}})


def assert_same_step(found, expected):
    losses, gradients = found
    for name, loss in expected[0].items():
        torch.testing.assert_close(losses[name], loss, rtol=1e-10, atol=0)
    for name, gradient in expected[1].items():
        assert gradient.norm() > 0, name
        assert (gradients[name] - gradient).norm() <= 1e-10 * gradient.norm(), name


@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("variant", EVERY_KIND)
def test_gradients_are_those_of_one_process(change, small_data, variant, size):
    params = parameters(change, variant)
    expected = step(ProcessGroup(), params, small_data)
    for found in together(size, step, params, small_data):
        assert_same_step(found, expected)


WAYS = [{"micro_batch": 4}, {"shard_weights": True}, {"checkpoint_activations": True},
        {"shard_weights": True, "micro_batch": 4}]  # fmt: skip
ALL = {"shard_weights": True, "micro_batch": 4, "checkpoint_activations": True}
THROUGHOUT = ("flip-75-mae", "slip", "flava")


@pytest.mark.parametrize(
    ("variant", "settings"),
    [*((name, way) for name in THROUGHOUT for way in WAYS), ("m3ae", ALL), ("mae-clip", ALL), ("coca", ALL)],
)
def test_so_they_are_with_every_way_to_save_memory(change, small_data, variant, settings):
    expected = step(ProcessGroup(), parameters(change, variant), small_data)
    for found in together(2, step, parameters(change, variant, **settings), small_data):
        assert_same_step(found, expected)


SPOIL = {
    "loss": lambda run, losses: losses["contrastive"].fill_(torch.nan),
    "gradient": lambda run, losses: local_part(next(run.model.parameters()).grad).flatten()[:1].fill_(torch.inf),
    "nothing": lambda run, losses: None,
}


def held(run):
    """What this process has of weights, moments and counts of steps."""
    found = dict(run.model.named_parameters())
    for name, parameter in run.model.named_parameters():
        found |= {f"{name} {key}": tensor for key, tensor in run.optimizer.state[parameter].items()}
    return {name: local_part(tensor).detach().clone() for name, tensor in found.items()}


def spoilt(world, params, data, whats):
    """Flag and what is held, after a step, and after others in which the last process alone meets with something."""
    run = build(world, params, data)
    batches = run.batches()
    run.step(next(batches))
    found = [(0, held(run))]
    for what in whats:
        losses = run.gradients(next(batches))
        if world.rank == world.size - 1:
            SPOIL[what](run, losses)
        found.append((run.update(losses).item(), held(run)))
    return found


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("split", [False, True])
def test_a_spoilt_step_changes_nothing_on_any_process(change, small_data, split, size):
    """Whatever is not finite, and on whichever process; no weight, no moment, no count; the next step goes on."""
    params, whats = parameters(change, "flip-75-mae", shard_weights=split), ("loss", "gradient", "nothing")
    for steps in together(size, spoilt, params, small_data, whats):
        flags, (first, *without, after) = zip(*steps, strict=True)
        assert flags == (0, 1, 1, 0)
        for one in without:
            assert all(torch.equal(one[name], x) for name, x in first.items())
        assert all(torch.equal(after[name], x + 1) for name, x in first.items() if name.endswith(" step"))
        assert not torch.equal(after["image_projection.weight"], first["image_projection.weight"])


def local_loss(world, loss, image, text, side):
    own = slice(world.rank * len(image) // world.size, (world.rank + 1) * len(image) // world.size)
    leaves = [x[own].clone() for x in (image, text)] + [torch.tensor(3.0).double()]
    if loss is pairwise_sigmoid:
        leaves.append(torch.tensor(-2.0).double())
    value = loss(*(leaf.requires_grad_() for leaf in leaves), side, world)
    value.backward()
    return world.sum(value), [leaf.grad for leaf in leaves]


@pytest.mark.parametrize("side", [None, 1, 3, 5])
@pytest.mark.parametrize("loss", [info_nce, pairwise_sigmoid])
def test_the_loss_in_tiles_over_processes_is_that_of_the_whole_matrix(loss, side):
    torch.manual_seed(0)
    image, text = (torch.nn.functional.normalize(torch.randn(12, 6).double(), dim=1) for _ in range(2))
    expected, gradients = local_loss(ProcessGroup(), loss, image, text, None)
    found = together(3, local_loss, loss, image, text, side)
    for value, _ in found:
        torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)
    for index in range(2):
        rows = torch.cat([own[index] for _, own in found])
        torch.testing.assert_close(rows, gradients[index], rtol=1e-10, atol=1e-15)
    for index in range(2, len(gradients)):  # scale and bias
        torch.testing.assert_close(sum(own[index] for _, own in found), gradients[index], rtol=1e-10, atol=0)


def open_clip_parts(world, leaves):
    """open_clip's loss in each of its distributed forms, as a part of the sum, and the gradients of the leaves."""
    from open_clip.loss import SigLipLoss

    for form in ("bidir", "shift", "reduce", "gather"):
        value = SigLipLoss(rank=world.rank, world_size=world.size, dist_impl=form)(*leaves) / world.size
        yield form, value.detach(), torch.autograd.grad(value, leaves)


def ring_and_open_clip(world, image, text):
    """Both losses of this process's share of the pairs."""
    own = slice(world.rank * len(image) // world.size, (world.rank + 1) * len(image) // world.size)
    scale, bias = (torch.tensor(number).double() for number in (10.0, -10.0))
    leaves = [x.clone().requires_grad_() for x in (image[own], text[own], scale, bias)]
    value = pairwise_sigmoid(*leaves, side=2, group=world)
    found = value.detach(), torch.autograd.grad(value, leaves)
    return found, list(open_clip_parts(world, leaves))


@pytest.mark.filterwarnings("ignore:torch.distributed.nn.functional:FutureWarning")  # open_clip's gather and reduce
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_the_ring_of_the_sigmoid_loss_equals_every_distributed_form_of_open_clip(size):
    """Part by part: each process's share of the loss and each gradient on it; together they are the full form's."""
    torch.manual_seed(size)
    image, text = (torch.nn.functional.normalize(torch.randn(BATCH, 6).double(), dim=1) for _ in range(2))
    whole_loss, whole_gradients = ring_and_open_clip(ProcessGroup(), image, text)[0]
    shares = together(size, ring_and_open_clip, image, text)
    for (value, gradients), forms in shares:
        for form, theirs, expected in forms:
            torch.testing.assert_close(value, theirs, rtol=1e-10, atol=0, msg=form)
            for ours, other in zip(gradients, expected, strict=True):
                torch.testing.assert_close(ours, other, rtol=1e-10, atol=1e-15, msg=form)
    torch.testing.assert_close(sum(value for (value, _), _ in shares), whole_loss, rtol=1e-10, atol=0)
    for index, expected in enumerate(whole_gradients):
        parts = [gradients[index] for (_, gradients), _ in shares]
        found = torch.cat(parts) if expected.ndim else sum(parts)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-15)


class Noted(PendingTransfer):
    """A transfer that notes when it begins and when it is waited for."""

    events: ClassVar[list] = []

    def __init__(self, *arguments):
        self.events.append("sent")
        super().__init__(*arguments)

    def end(self):
        self.events.append("arrived")
        return super().end()


def note(event):
    return lambda *_: Noted.events.append(event)


def noted_step(world, params, data):
    process_group.PendingTransfer, async_gather.PendingTransfer, run = Noted, Noted, build(world, params, data)
    model = run.model
    model.vision.register_forward_hook(note("images encoded"))
    model.text.register_forward_pre_hook(note("captions next"))
    model.text.register_forward_hook(note("captions encoded"))
    model.text.embed.weight.register_hook(note("captions' gradients"))
    model.image_projection.weight.register_hook(note("images' gradients"))
    run.gradients(next(run.batches()))
    return Noted.events


def test_images_features_travel_while_captions_are_encoded(change, small_data):
    """And their gradients while those of captions go back."""
    for events in together(2, noted_step, parameters(change, "flip-75-mae"), small_data):
        assert events == [
            "images encoded", "sent", "captions next", "captions encoded", "arrived",
            "sent", "captions' gradients", "arrived", "images' gradients",
        ]  # fmt: skip


def noted_ring(world, image, text):
    process_group.PendingTransfer, async_gather.PendingTransfer, plain = Noted, Noted, sigmoid.add_products
    sigmoid.add_products = lambda *arguments: (note("tile")(), plain(*arguments))
    scale, bias = (torch.tensor(number).double().requires_grad_() for number in (10.0, -10.0))
    pairwise_sigmoid(image[world.rank :: 3], text[world.rank :: 3], scale, bias, side=2, group=world)
    return Noted.events


def test_the_ring_moves_on_while_tiles_are_computed():
    """Captions leave before a hop's tile is computed; what has been summed up arrives after it."""
    torch.manual_seed(0)
    image, text = (torch.nn.functional.normalize(torch.randn(6, 4).double(), dim=1) for _ in range(2))
    first, between, last = ["tile", "sent", "arrived"], ["tile", "arrived", "sent", "arrived"], ["tile", "arrived"]
    for events in together(3, noted_ring, image, text):
        assert events == ["sent", *first, "sent", *between, *last, "sent", "arrived"]


def walk(world, params, data, steps, state=None):
    """Positions that this process sees in so many steps, and the state at their end."""
    run = build(world, params, data)
    if state:
        run.restore(state)
    batches, seen = run.batches(), []
    for _ in range(steps):
        batch = next(batches)
        run.step(batch)
        seen.append(batch["positions"].tolist())
    return seen, run.state()


@pytest.mark.parametrize("split", [False, True])
def test_a_run_goes_on_with_another_number_of_processes(change, small_data, split):
    """Same samples in the same global batches, and the weights of one process up to rounding."""
    params = parameters(change, "flip-75-mae", shard_weights=split)
    seen, expected = walk(ProcessGroup(), params, small_data, 5)
    state, walked = None, []
    for size, steps in ((2, 2), (3, 2), (1, 1)):
        results = together(size, walk, params, small_data, steps, state)
        walked += [[*chain(*(positions[one] for positions, _ in results))] for one in range(steps)]
        state = results[0][1]
    assert walked == seen
    assert state["done"] == expected["done"] == 5
    for name, weight in expected["model"].items():
        torch.testing.assert_close(state["model"][name], weight, rtol=1e-7, atol=1e-9)


def test_processes_that_do_not_divide_the_batch_are_refused():
    with pytest.raises(ValueError, match=r"= 24 is no multiple of the 5 processes; change resources\.pretrain"):
        ProcessGroup(0, 5).share(24)
