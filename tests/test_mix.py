"""One set of samples used as pairs, as images alone and as captions alone: the kinds hit their shares and never
overlap; steps take turns; each step trains what it reads and leaves the rest as it is, on one process or several, in
micro-batches or not, and over restarts."""

import copy
from collections import Counter

import pytest
import torch

from flip.config.schema import Mix
from flip.data.batch_types import batch_type
from flip.data.sampler import Mixture, turn
from flip.plan.preflight import batch_faults
from flip.train.loop import log_csv
from flip.train.process_group import ProcessGroup
from tests.conftest import SMALL
from tests.processes import together
from tests.test_distributed import build, whole
from tests.test_train import advance, make_run, weights

MIX = {"pairs": 0.5, "images": 0.25, "texts": 0.25}
SHARDS = [{"name": f"{n:05d}.tar", "samples": samples} for n, samples in enumerate((4000, 3700, 4300))]


def mixed(change, mix=MIX, contrastive=1.0, **train):
    """FLAVA with such a mix; without a contrastive loss, with those of one side alone."""
    flava = {**SMALL["flava"], "mix": mix} | (
        {} if contrastive else dict.fromkeys(("mmm_image", "mmm_text", "itm"), 0.0)
    )
    more = {"flava": flava, "contrastive": {"weight": contrastive}, "train": {**SMALL["train"], **train}}
    return change("flava", {**SMALL, **more})


def of_kinds(*shares):
    return Mix(**dict(zip(MIX, shares, strict=True)))


@pytest.mark.parametrize("shares", [(0.7, 0.15, 0.15), (0.5, 0.25, 0.25), (0.0, 0.3, 0.7), (0.9, 0.0, 0.1)])
def test_steps_take_turns_by_their_shares(shares):
    """Counts never leave their share by two steps; each turn's number is that of the turns before."""
    chosen, seen = list(of_kinds(*shares).shares.items()), Counter()
    for step in range(2000):
        name, before = turn(step, chosen)
        assert before == seen[name]
        seen[name] += 1
        assert all(abs(seen[name] - share * (step + 1)) < 2 for name, share in chosen)
    assert turn(0, chosen)[0] == chosen[0][0]
    assert turn(10**9, chosen)[1] == pytest.approx(dict(chosen)[turn(10**9, chosen)[0]] * 1e9, abs=2)


def test_kinds_are_disjoint_cover_all_and_hit_their_shares():
    mixture = Mixture(SHARDS, of_kinds(0.7, 0.15, 0.15), batch=10, seed=0, window=2)
    seen = {name: set() for name in MIX}
    for position in range(0, 12_000 * 2, 10):
        seen[mixture.batch_type(position)] |= {mixture.locate(position + row) for row in range(10)}
    assert sum(map(len, seen.values())) == len(set().union(*seen.values())) == 12_000
    assert [len(some) / 12_000 for some in seen.values()] == pytest.approx([0.7, 0.15, 0.15], abs=0.01)
    other = Mixture(SHARDS, of_kinds(0.7, 0.15, 0.15), batch=16, seed=1, window=1)
    for name, order in other.orders.items():
        assert {order.locate(position) for position in range(order.total)} == seen[name]


def test_a_broken_image_is_replaced_by_one_of_its_kind(change, small_data, monkeypatch):
    loader = make_run(mixed(change), small_data).loader
    position = next(one for one in range(0, 800, 8) if loader.order.batch_type(one) == "images")
    shard, item = loader.order.locate(position)
    read, tried = loader.images._read, []

    def one_is_broken(place, *draws):
        tried.append(place[1])
        return None if place[1] == item else read(place, *draws)

    monkeypatch.setattr(loader.images, "_read", one_is_broken)
    loader.batch(position, 1)
    items = loader.order.orders["images"].items(shard).tolist()
    assert tried == [item, items[(items.index(item) + 1) % len(items)]]


def test_a_kind_with_less_than_a_batch_is_refused(change, small_data):
    with pytest.raises(ValueError, match=r"flava.mix.texts = 0.02 of 120 pairs are \d, fewer than a batch of 8; give"):
        make_run(mixed(change, mix={"pairs": 0.9, "images": 0.08, "texts": 0.02}), small_data)


def test_so_it_is_before_any_job_waits(change):
    found = list(batch_faults({"some": mixed(change, batch=50)}, 120))
    assert found == [
        f"variant 'some': a batch of 50 is larger than the data (30 {kind})" for kind in ("images", "texts")
    ]


OWN = {"pairs": {"contrastive", "mim", "mlm", "mmm_image", "mmm_text", "itm"}, "images": {"mim"}, "texts": {"mlm"}}
UNUSED = {"images": ("text", "passes.flava.word", "passes.flava.heads.mlm"),
          "texts": ("vision", "passes.flava.patch", "passes.flava.heads.mim")}  # fmt: skip


def test_a_step_trains_what_it_reads_and_leaves_the_rest_as_it_is(change, small_data):
    """Losses of its kind alone; no gradient, step of the optimizer or decay for the tower of the other side."""
    run, found = make_run(mixed(change), small_data), set()
    batches = run.batches()
    for _ in range(4):
        batch, before = next(batches), weights(run)
        losses, name = run.step(batch), batch_type(batch)
        assert losses.keys() == OWN[name]
        found.add(name)
        for parameter, tensor in run.model.named_parameters():
            one_side = parameter.startswith(("vision", "text.", "passes.flava.heads.m")) and "mmm" not in parameter
            used = name == "pairs" or (one_side and not parameter.startswith(UNUSED[name]))
            used = used or parameter == f"passes.flava.{ {'images': 'patch', 'texts': 'word'}.get(name) }_mask"
            assert (tensor.grad is not None) == used, (name, parameter)
            assert used or torch.equal(tensor, before[parameter])
    assert found == set(MIX)


def test_the_log_holds_each_loss_as_of_its_last_step(change, small_data):
    """Also of steps of other kinds; a loss that no step has had yet is left empty."""
    params, rows = mixed(change, mix={"pairs": 0.0, "images": 0.5, "texts": 0.5}, contrastive=0.0), []
    for steps in (1, 2):
        run = make_run(params, small_data)
        last = {name: loss.item() for losses in advance(run, steps) for name, loss in losses.items()}
        rows.append(run.record(run.latest, 1.0))
    header, one, two = (line.split(",") for line in log_csv(rows).splitlines())
    assert dict(zip(header, one, strict=True))["mlm"] == ""
    row = dict(zip(header, two, strict=True))
    assert {name: float(row[name]) for name in ("mim", "mlm")} == pytest.approx(last, abs=1e-5)
    assert float(row["loss"]) == pytest.approx(sum(last.values()), abs=1e-4)


def test_a_resumed_run_has_the_same_bits_and_log(change, small_data):
    """From before the first step of a kind, too: what has no gradient yet has no state that differs."""
    params, states = mixed(change), {}
    run = make_run(params, small_data)
    for steps in (1, 3, 5):
        states[run.done] = copy.deepcopy(run.state())  # on a processor, it is the weights themselves
        advance(run, steps)
    end = run.state()
    for state in states.values():
        other = make_run(params, small_data)
        other.restore(state)
        advance(other, run.done - other.done)
        found = other.state()
        assert other.record(other.latest, 1.0) == run.record(run.latest, 1.0)
        assert found["latest"] == end["latest"]
        for name, tensor in end["model"].items():
            assert torch.equal(tensor, found["model"][name]), name
        for name, moments in end["optimizer"]["state"].items():
            for key, tensor in moments.items():
                assert torch.equal(tensor, found["optimizer"]["state"][name][key]), (name, key)


def walk(world, params, data, steps):
    """Losses and gradients of each step, and the weights at the end."""
    run = build(world, params, data)
    batches, found = run.batches(), []
    for _ in range(steps):
        losses = run.gradients(next(batches))
        given = {name: p.grad for name, p in run.model.named_parameters() if p.grad is not None}
        losses = {name: world.sum(loss) for name, loss in losses.items()}
        found.append((losses, {name: whole(gradient) for name, gradient in given.items()}))
        run.update(losses)
    return found, {name: whole(parameter) for name, parameter in run.model.named_parameters()}


@pytest.mark.parametrize(
    "settings", [{}, {"micro_batch": 4}, {"shard_weights": True}, {"shard_weights": True, "micro_batch": 4}]
)
def test_two_processes_are_as_one(change, small_data, settings):
    """Steps of all kinds, their losses and gradients, of the same parameters; and AdamW moves the same ones."""
    train = {"batch": 24, "base_lr": 0.001}
    expected, end = walk(ProcessGroup(), mixed(change, **train), small_data, 5)
    for found, there in together(2, walk, mixed(change, **train, **settings), small_data, 5):
        for (losses, gradients), (ours, given) in zip(found, expected, strict=True):
            assert losses.keys() == ours.keys()
            assert gradients.keys() == given.keys()
            for name, loss in ours.items():
                torch.testing.assert_close(losses[name], loss, rtol=1e-7, atol=0)
            for name, gradient in given.items():
                torch.testing.assert_close(gradients[name], gradient, rtol=1e-6, atol=1e-9)
        for name, weight in end.items():
            torch.testing.assert_close(there[name], weight, rtol=1e-6, atol=1e-8)
