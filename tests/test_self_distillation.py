"""Self-distillation: both losses are the cross entropies of their papers; the teacher is the moving average of the
student from the step on in which losses begin, on any number of processes, over a restart; and before that step nothing
differs from a training without them."""

import pytest
import torch
import torch.nn.functional as F

from flip.config.faults import ParameterError
from flip.model.masking import mask_patches
from flip.model.vision import resampling
from flip.plan.step import step_flops
from flip.train.process_group import ProcessGroup
from flip.train.step import TrainingRun, build_loader, build_model
from flip.train.work import changed, turns, work
from tests.conftest import SMALL
from tests.processes import together
from tests.test_train import advance, make_run, weights

BOTH = {"local": 1.0, "masked": 0.5, "momentum": 0.9}
SECTION = "self_distillation"


@pytest.fixture
def small(change):
    return lambda variant="clip-short", train=(), **section: change(
        variant, SMALL | {SECTION: SMALL[SECTION] | BOTH | section, "train": SMALL["train"] | dict(train)}
    )


def classes(head, states):
    """Cosines of states with prototypes."""
    return F.normalize(head.mlp(states), dim=-1) @ F.normalize(head.prototypes, dim=-1).T


def reference(run, batch):
    """Image by image, crop by crop, patch by patch."""
    section, part = run.params.self_distillation, run.model.passes[SECTION]
    vision, teacher = run.model.vision, part.teacher
    local, masked = [], []
    hidden = section.masked_patches(run.params.model.patches)
    order = mask_patches(run.seed, batch["positions"], run.params.model.patches, hidden, stream="self-distillation")
    for row, image in enumerate(batch["images"]):
        seen = teacher.vision(image[None])
        answer = classes(teacher.heads["local"], teacher.vision.pool(seen)[0]) - teacher.centers["local"].value
        target = (answer / section.teacher_temperature).softmax(0).detach()
        table = vision.positions.T.unflatten(1, (4, 4))[None]
        positions = F.interpolate(table, (2, 2), mode="bicubic", antialias=True)[0].flatten(1).T
        for crop in batch["views"][row]:
            logits = classes(part.heads["local"], vision.feature(crop[None], positions=positions)[0])
            local.append(-(target * (logits / section.temperature).log_softmax(0)).sum())
        places = order.ids_keep[row]
        mask = torch.zeros(1, len(vision.positions), dtype=torch.bool).index_fill(1, places, True)
        states = vision.transformer.norm(vision.pre_norm_states(image[None], mask, part.patch_mask))[0]
        for place in places:
            answer = classes(teacher.heads["masked"], seen[0, place]) - teacher.centers["masked"].value
            target = (answer / section.teacher_temperature).softmax(0).detach()
            logits = classes(part.heads["masked"], states[place])
            masked.append(-(target * (logits / section.temperature).log_softmax(0)).sum())
    return {
        "local": section.local * torch.stack(local).mean(),
        "masked": section.masked * torch.stack(masked).mean(),
    }


def test_the_losses_are_those_of_the_papers_with_gradients(small, small_data):
    run = make_run(small(crop=0.5), small_data)
    advance(run, 3)  # centers and teacher are no longer as they began
    run.model.double()
    batch = run.on_device(run.loader.batch(40, 5))
    found, gradients = [], []
    for compute in (run.losses, lambda batch: reference(run, batch)):
        run.model.zero_grad()
        losses = {name: loss for name, loss in compute(batch).items() if name in ("local", "masked")}
        sum(losses.values()).backward()
        found.append({name: loss.detach() for name, loss in losses.items()})
        gradients.append({name: x.grad for name, x in run.model.named_parameters() if x.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, loss in found[1].items():
        torch.testing.assert_close(found[0][name], loss, rtol=1e-6, atol=0)  # the matrix of positions is in float32
    for name, gradient in gradients[1].items():
        torch.testing.assert_close(gradients[0][name], gradient, rtol=1e-4, atol=1e-7, msg=name)
    assert not any("teacher" in name for name in gradients[0])


def averages(run):
    return {name: x.clone() for name, x in run.model.passes[SECTION].teacher.state_dict().items()}


def student(run):
    parts = {"vision": run.model.vision, "heads": run.model.passes[SECTION].heads}
    return {f"{of}.{name}": x.detach().clone() for of, part in parts.items() for name, x in part.named_parameters()}


def test_the_teacher_is_the_moving_average_of_the_student(small, small_data):
    run = make_run(small(starts_at=2.5 / 45), small_data)
    assert run.begins[SECTION] == 3
    losses = advance(run, 3)
    assert all("local" not in step for step in losses)
    expected = student(run)
    for _ in range(4):
        (losses,) = advance(run, 1)
        assert {"local", "masked"} < losses.keys()
        expected = {name: 0.9 * expected[name] + 0.1 * x for name, x in student(run).items()}
    found = averages(run)
    for name, x in expected.items():
        torch.testing.assert_close(found[name], x, rtol=1e-5, atol=1e-6)


def test_the_center_is_the_moving_average_of_the_teachers_answers(small, small_data):
    run = make_run(small(center_momentum=0.75), small_data)
    expected = torch.zeros(12)
    for step in range(3):
        batch, teacher = run.loader.batch(8 * step, 8), run.model.passes[SECTION].teacher
        if not step:
            run.model.passes[SECTION].begin(run.model.vision)
        with torch.no_grad():
            answers = classes(teacher.heads["local"], teacher.vision.pool(teacher.vision(batch["images"])))
        expected = 0.75 * expected + 0.25 * answers.mean(0)
        advance(run, 1)
        torch.testing.assert_close(averages(run)["centers.local.value"], expected, rtol=1e-4, atol=1e-6)


def test_before_they_begin_nothing_is_different(small, small_data):
    """From the same towers on, these have the same bits as without."""
    late, without = (make_run(one, small_data) for one in (small(starts_at=0.1), small(local=0.0, masked=0.0)))
    without.model.load_state_dict({name: x for name, x in weights(late).items() if SECTION not in name})
    assert late.begins[SECTION] == 5
    for steps, same in ((5, True), (1, False)):
        advance(late, steps)
        advance(without, steps)
        assert all(torch.equal(x, weights(late)[name]) for name, x in weights(without).items()) == same


def test_views_begin_with_their_losses(small, small_data):
    run = make_run(small(starts_at=0.1), small_data)
    batches = run.batches()
    assert ["views" in next(batches) for _ in range(7)] == [False] * 5 + [True] * 2
    batches.close()


@pytest.mark.parametrize("first", [2, 3, 5])
def test_a_restart_has_the_same_bits_before_when_and_after_they_begin(small, small_data, first):
    params = small(starts_at=2.5 / 45)
    whole, begun, resumed = (make_run(params, small_data) for _ in range(3))
    advance(whole, 7)
    advance(begun, first)
    resumed.restore(begun.state())
    advance(resumed, 7 - first)
    for name, tensor in weights(whole).items():
        assert torch.equal(tensor, weights(resumed)[name]), name


def trained(group, params, data):
    """The whole state after three steps, as a checkpoint has it."""
    from flip.files import read_json

    manifest = read_json(data / "manifest.json")
    loader = build_loader(params, data, manifest, 0)
    model = build_model(params, loader.captions.tokens.tokenizer.vocabulary, 0, "cpu").double()
    run = TrainingRun(params, loader, model, 20, 0, group, data)
    advance(run, 3)
    return run.state()["model"]


@pytest.mark.parametrize("settings", [{}, {"micro_batch": 2}, {"shard_weights": True}])
def test_teacher_and_centers_are_the_same_on_two_processes(small, small_data, settings):
    parts = {"batch": 8, "base_lr": 0.001}
    expected = trained(ProcessGroup(), small(train=parts), small_data)
    found, _ = together(2, trained, small(train=parts | settings), small_data)  # the first one writes it
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-6, atol=1e-8, msg=name)


def test_a_step_that_is_not_finite_moves_neither_teacher_nor_center(small, small_data):
    run = make_run(small(), small_data)
    advance(run, 2)
    before = averages(run)
    losses = run.gradients(run.loader.batch(16, 8))
    for center in run.model.passes[SECTION].teacher.centers.values():
        center.total += torch.nan
    run.update({**losses, "local": torch.tensor(torch.nan)})
    assert all(torch.equal(x, before[name]) for name, x in averages(run).items())
    advance(run, 1)
    assert all(x.isfinite().all() for x in averages(run).values())


@pytest.mark.parametrize(("grid", "other"), [(14, 6), (6, 3), (4, 4), (4, 7)])
def test_positions_of_another_grid_are_interpolated(grid, other):
    positions = torch.randn(grid**2, 8, dtype=torch.float64)
    expected = F.interpolate(
        positions.T.unflatten(1, (grid, grid))[None], (other, other), mode="bicubic", antialias=True
    )
    found = resampling(grid, other).double() @ positions
    torch.testing.assert_close(found, expected[0].flatten(1).T, rtol=1e-5, atol=1e-5)
    if grid == other:
        torch.testing.assert_close(resampling(grid, other), torch.eye(grid**2))


def test_a_plan_counts_them_for_their_share_of_the_training(project):
    late = project.resolve("siglip2")
    parts = [step_flops(work(one)) for _, one in turns(late)]
    assert [round(share, 6) for share, _ in turns(late)] == [0.8, 0.2]
    assert step_flops(work(late)) == pytest.approx(0.8 * parts[0] + 0.2 * parts[1])
    assert parts[0] == step_flops(work(project.resolve("siglip2-captions")))
    assert parts[1] == step_flops(work(changed(late, SECTION, starts_at=0.0)))


@pytest.mark.parametrize(
    ("variant", "delta", "message"),
    [
        ("lit", {SECTION: {"local": 1.0}}, "lr_scale"),
        ("slip", {SECTION: {"local": 1.0}}, "simclr.weight"),
        ("clip-short", {"contrastive": {"weight": 0.0}, SECTION: {"local": 1.0, "starts_at": 0.5}}, "starts_at"),
        ("clip-short", {SECTION: {"masked": 1.0, "mask_image": 1.0}}, "mask_image"),
        ("clip-short", {SECTION: {"masked": 1.0, "mask_image": 0.0}}, "mask_image"),
    ],
)
def test_what_leaves_it_nothing_to_learn_from_is_refused(change, variant, delta, message):
    with pytest.raises(ParameterError, match=message):
        change(variant, delta)
