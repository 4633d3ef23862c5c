"""Objectives, masks and batches that were built apart go together: parts of a batch have the whole one's losses, a
resumed run the same bits, and what has no place beside another thing is refused."""

import pytest
import torch

from flip.config.faults import ParameterError
from flip.config.frozen import merge
from flip.data.manifest import first_pairs
from flip.files import read_json
from flip.model.weights import load_weights, save_weights
from flip.train.loop import Begin
from flip.train.process_group import ProcessGroup
from flip.train.step import TrainingRun, build_loader, build_model
from tests.conftest import SMALL
from tests.processes import together
from tests.test_train import advance, make_run, weights

CAPTIONING = {"captioning": {"weight": 1.0, "input": "tokens", "layers": 1, "queries": None}}
SUB_CAPTIONS = {"sub_captions": {"weight": 1.0}}
LATER = {"self_distillation": {"local": 0.0, "masked": 1.0, "starts_at": 0.1}}  # from the sixth of 45 steps on
MIX = {"flava": {"mim": 1.0, "mlm": 0.0, "mix": {"pairs": 0.7, "images": 0.3, "texts": 0.0}}}
TOGETHER = {
    "sub-captions alone": ("sub-captions", {"contrastive": {"weight": 0.0}}),
    "captions beside images alone": ("flava-init", merge(CAPTIONING, MIX)),
    "parts of captions beside images alone": ("flava-init", merge(SUB_CAPTIONS, MIX)),
    "views before a teacher": ("slip", LATER),
    "a teacher beside other batches": ("flava-init", merge({"self_distillation": {"masked": 1.0}}, MIX)),
}

ATTENTIVE = {"masking": {"image": 0.5, "image_policy": "attentive", "momentum": 0.5, "views": 2}}
PROCESSES = {
    "siglip2 with sub-captions": (
        "siglip2",
        {"sub_captions": {"weight": 1.0}, "self_distillation": {"starts_at": 0.0}},
    ),
    "a-clip from a teacher": ("distilled", ATTENTIVE),
}


@pytest.mark.parametrize("name", TOGETHER)
def test_parts_and_a_restart_are_as_the_whole(change, small_data, name):
    variant, delta = TOGETHER[name]
    params = change(variant, merge(SMALL, delta))
    whole = make_run(params, small_data)
    losses = advance(whole, 7)
    first, second = (make_run(params, small_data) for _ in range(2))
    advance(first, 4)
    second.restore(first.state())
    advance(second, 3)
    assert all(torch.equal(x, weights(second)[key]) for key, x in weights(whole).items())
    cut = advance(make_run(change(variant, merge(SMALL, merge(delta, {"train": {"micro_batch": 4}}))), small_data), 7)
    for one, other in zip(losses, cut, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-3, atol=1e-4)


def walk(group, params, data):
    """Weights after four steps in float64."""
    manifest = read_json(data / "manifest.json")
    loader = build_loader(params, data, manifest, 0)
    model = build_model(params, loader.captions.tokens.tokenizer.vocabulary, 0, "cpu").double()
    run = TrainingRun(params, loader, model, 45, 0, group, data)
    advance(run, 4)
    return run.state()["model"]


@pytest.mark.parametrize("name", [*TOGETHER, *PROCESSES])
def test_two_processes_are_as_one(change, small_data, name):
    variant, delta = (TOGETHER | PROCESSES)[name]
    params = change(variant, merge(SMALL, delta))
    expected = walk(ProcessGroup(), params, small_data)
    found = together(2, walk, params, small_data)[0]  # which has the state
    for key, x in expected.items():
        torch.testing.assert_close(found[key], x, rtol=1e-6, atol=1e-8, msg=key)


def test_a_teachers_centre_stays_where_a_step_does_not_ask_it(change, small_data):
    """Steps of images alone, which no loss of the teacher reads, move neither the centre nor the teacher."""
    delta = merge({"self_distillation": {"masked": 1.0, "momentum": 0.5}}, MIX)
    run = make_run(change("flava-init", merge(SMALL, delta)), small_data)
    moved = []
    for batch, _ in zip(run.batches(), range(8), strict=False):
        before = weights(run)
        run.step(batch)
        module = "passes.self_distillation.teacher."
        same = [torch.equal(before[key], x) for key, x in weights(run).items() if key.startswith(module)]
        moved.append(("ids" in batch, not all(same)))
    assert {seen for seen, _ in moved} == {True, False}
    assert all(seen == changed for seen, changed in moved)


def test_embeddings_of_all_pairs_serve_a_share_of_them(change, small_data):
    params = change("distilled", merge(SMALL, {"train": {"data_share": 0.5}}))
    manifest = read_json(small_data / "manifest.json")
    loader = build_loader(params, small_data, first_pairs(manifest, 60), 0)
    assert loader.order.total == 60
    assert loader.batch(0, 60)["teacher_text"].shape == (60, 6)


@pytest.mark.parametrize(
    "delta",
    [CAPTIONING, {"self_distillation": {"local": 1.0}}, {"masking": {"image": 0.5, "image_policy": "attentive"}}],
)
def test_what_a_start_has_not_begins_anew(change, small_data, tmp_path, delta):
    """A module that the weights have nothing of is as in a new model; one that they have in part is an error."""
    before = make_run(change("clip", SMALL), small_data).model
    save_weights(tmp_path / "start.safetensors", before.state_dict())
    params = change("clip", merge(SMALL, delta | {"start": "clip"}))
    model, new = (build_model(params, before.text.embed.num_embeddings, 1, "cpu") for _ in range(2))
    Begin(start=tmp_path / "start.safetensors").load(model)
    for name, tensor in model.state_dict().items():
        expected = before.state_dict() if name in before.state_dict() else new.state_dict()
        assert torch.equal(tensor, expected[name])
    save_weights(tmp_path / "part.safetensors", dict(list(new.state_dict().items())[:-1]))
    with pytest.raises(ValueError, match="no weight"):
        load_weights(tmp_path / "part.safetensors", model, strict=False, optional=model.beside_towers)


@pytest.mark.parametrize(
    ("variant", "delta", "message"),
    [
        ("distilled-alone", {"masking": {"views": 2}}, "views = 2 is read by losses of pairs alone"),
        ("sub-captions", {"masking": {"views": 2}, "contrastive": {"weight": 0.0}}, "views = 2 is read by losses"),
        ("local-distillation", {"masking": {"views": 2}}, r"cannot be combined with self_distillation\.local = 1"),
        ("coca", {"form": {"vision": {"merged": 0.5}}}, "captioning reads patches"),
        ("masked-distillation", {"form": {"vision": {"merged": 0.5}}}, "self_distillation reads patches"),
        ("flip-50", {"masking": {"anchors": 0.2}}, r"anchors = 0.2 is not read by image_policy = 'random', but by cl"),
        ("text-random", {"masking": {"frequency_threshold": 0.2}}, "is not read by text_policy = 'random'"),
    ],
)
def test_what_nothing_would_read_is_refused(change, variant, delta, message):
    with pytest.raises(ParameterError, match=message):
        change(variant, delta)
    assert change("local-distillation", {"form": {"vision": {"merged": 0.5}}}).form.vision.merged
