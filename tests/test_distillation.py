"""Distillation: the loss is the mean divergence of two matrices of similarities, row by row and column by column, in
tiles and over processes, too; embeddings are the teacher's own of the very pairs of a batch; and the workflow makes
them first."""

import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from flip.config.faults import ParameterError
from flip.config.frozen import dump
from flip.data.feature_cache import features_path
from flip.data.pair_embeddings import CAPTIONS, IMAGES
from flip.files import read_json, write_atomic
from flip.losses.distillation import affinity
from flip.model.weights import save_weights
from flip.train import precompute_pairs
from flip.train.process_group import ProcessGroup
from tests.conftest import SMALL
from tests.miniature import copy_workflow, planned, snakemake, write_params
from tests.processes import together
from tests.test_train import make_run

EXACT = {"rtol": 1e-10, "atol": 1e-14}


def embeddings(pairs, width, teacher_width):
    generator = torch.Generator().manual_seed(pairs)
    widths = (width, width, teacher_width, teacher_width)
    image, text, *teacher = (torch.randn(pairs, one, generator=generator).double() for one in widths)
    student = [F.normalize(x, dim=1).requires_grad_() for x in (image, text)]
    return student, teacher, torch.tensor(7.0, dtype=torch.float64, requires_grad=True)


def reference(student, teacher, scale, temperature):
    """Entry by entry: the sum of p log (p / q) over a row, and over a column, divided by twice their number."""
    image, text = student
    own, other = (F.normalize(x, dim=1) for x in teacher)
    total = 0
    for rows, columns, known, against in ((image, text, own, other), (text, image, other, own)):
        for i in range(len(rows)):
            q = torch.stack([(scale * rows[i] @ columns[j]).exp() for j in range(len(columns))])
            p = torch.stack([(known[i] @ against[j] / temperature).exp() for j in range(len(columns))])
            q, p = q / q.sum(), p / p.sum()
            total = total + sum(p[j] * (p[j] / q[j]).log() for j in range(len(columns)))
    return total / (2 * len(image))


@pytest.mark.parametrize("side", [None, 1, 4, 100])
def test_the_loss_is_the_divergence_entry_by_entry_with_gradients(side):
    (student, teacher, scale), temperature = embeddings(9, 5, 3), 0.2
    found = affinity(student, teacher, scale, temperature, side)
    expected = reference(student, teacher, scale, temperature)
    torch.testing.assert_close(found, expected, **EXACT)
    leaves = [*student, scale]
    for a, b in zip(torch.autograd.grad(found, leaves), torch.autograd.grad(expected, leaves), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-12)


def test_who_has_the_teachers_similarities_has_nothing_to_learn():
    (image, text), _, _ = embeddings(6, 4, 3)
    teacher = [3 * image.detach(), text.detach()]  # lengths do not count
    loss = affinity((image, text), teacher, torch.tensor(5.0).double(), 0.2)
    assert abs(loss.item()) < 1e-12
    assert all(x.abs().max() < 1e-12 for x in torch.autograd.grad(loss, [image, text]))


def own_part(group, pairs):
    student, teacher, scale = embeddings(pairs, 5, 3)
    rows = slice(group.rank * pairs // group.size, (group.rank + 1) * pairs // group.size)
    own = [x.detach()[rows].requires_grad_() for x in student]
    loss = affinity(own, [x[rows] for x in teacher], scale, 0.2, 2, group)
    loss.backward()
    return group.sum(loss), [x.grad for x in own], group.sum(scale.grad)


def test_over_processes_it_is_that_of_one():
    loss, (image, text), scale = own_part(ProcessGroup(), 12)
    found = together(3, own_part, 12)
    for value, _, gradient in found:
        torch.testing.assert_close(value, loss, **EXACT)
        torch.testing.assert_close(gradient, scale, rtol=1e-8, atol=0)
    for side, expected in enumerate((image, text)):
        joined = torch.cat([own[side] for _, own, _ in found])
        torch.testing.assert_close(joined, expected, rtol=1e-8, atol=1e-12)


@pytest.fixture
def taught(change, small_data, tmp_path):
    """Data whose teacher is a model of its own, embedded by the command; and the model."""
    data = shutil.copytree(small_data, tmp_path / "data")
    shutil.rmtree(data / "teachers")
    params = change("clip", SMALL)
    run = make_run(params, data)
    save_weights(tmp_path / "weights.safetensors", run.model.state_dict())
    write_atomic(tmp_path / "clip.yaml", dump(params))
    words = ["--params", tmp_path / "clip.yaml", "--data", data, "--weights", tmp_path / "weights.safetensors"]
    out = data / "teachers" / "clip" / "seed-0"
    precompute_pairs.main([str(word) for word in [*words, "--out", out]])
    return data, run.model, out


def test_embeddings_are_the_teachers_of_the_batchs_own_pairs(change, taught):
    data, teacher, _ = taught
    plain = {"crop_area": [1.0, 1.0], "crop_aspect": [0.01, 100.0], "flip": False}
    batch = make_run(change("distilled", SMALL | {"augmentation": plain}), data).loader.batch(30, 24)
    with torch.no_grad():
        text = teacher.encode_text(batch["ids"])
    torch.testing.assert_close(batch["teacher_text"], text, rtol=1e-4, atol=1e-5)
    assert batch["teacher_image"].shape == text.shape
    with torch.no_grad():  # crops of all of an image at other aspects are near it
        image = teacher.encode_image(batch["images"])
    assert (F.cosine_similarity(image, batch["teacher_image"]) > 0.9).all()


def test_a_shard_that_is_there_is_not_embedded_again(taught, monkeypatch, tmp_path):
    data, _, out = taught
    names = [shard["name"] for shard in read_json(data / "manifest.json")["shards"]]
    before = [features_path(out / part, name) for part in (IMAGES, CAPTIONS) for name in names]
    times = {path: path.stat().st_mtime_ns for path in before[1:]}
    content = before[0].read_bytes()
    before[0].unlink()
    words = ["--params", tmp_path / "clip.yaml", "--data", data, "--weights", tmp_path / "weights.safetensors"]
    precompute_pairs.main([str(word) for word in [*words, "--out", out]])
    assert before[0].read_bytes() == content
    assert times == {path: path.stat().st_mtime_ns for path in before[1:]}


def test_embeddings_of_other_pairs_or_none_are_refused(change, taught):
    data, _, out = taught
    params = change("distilled", SMALL)
    facts = out / CAPTIONS / "features.json"
    facts.write_text(facts.read_text().replace("f" * 64, "0" * 64))
    with pytest.raises(ValueError, match="manifest 0000"):
        make_run(params, data)
    shutil.rmtree(out)
    with pytest.raises(ValueError, match=r"precompute_pairs"):
        make_run(params, data)


def test_of_several_captions_the_one_that_is_drawn_has_its_embedding(change, small_data):
    loader = make_run(change("distilled", SMALL), small_data).loader
    loader.captions.drawn = lambda places, positions: [place % 3 for _, place in places]
    batch, places = loader.batch(8, 6), [loader.order.locate(position) for position in range(8, 14)]
    for row, (number, item) in enumerate(places):
        np.testing.assert_array_equal(batch["teacher_text"][row], loader.embeddings.captions(number)[item % 3])
        np.testing.assert_array_equal(batch["teacher_image"][row], loader.embeddings.images(number)[item])


@pytest.mark.parametrize(
    ("delta", "message"),
    [
        ({"distillation": {"teacher": None}}, "name another variant"),
        ({"distillation": {"teacher": "distilled"}}, "name another variant"),
        ({"noise": {"pairs": 0.5}}, "noise"),
    ],
)
def test_a_teacher_that_cannot_be_is_refused(change, delta, message):
    with pytest.raises(ParameterError, match=message):
        change("distilled", delta)


def test_the_workflow_embeds_pairs_before_it_trains_on_them(tmp_path):
    """With the teacher, or with what was imported, where that is there."""
    folder = copy_workflow(tmp_path)

    def few(tree):
        tree["scales"]["tiny"] |= {"seeds": [0], "sweep": {}}
        tree["variants"]["outside"] = tree["variants"]["distilled"] | {"distillation": {"teacher": "imported/other"}}
        tree["variants"]["outside"]["distillation"]["weight"] = 0.5
        return tree

    write_params(folder, few)
    said = snakemake(folder, "-n", "variant", "--config", "variant=outside", check=False)
    assert "variants.outside.distillation.teacher: 'imported/other/weights.safetensors': no such file; copy it" in said
    (folder / "imported" / "other").mkdir(parents=True)
    (folder / "imported" / "other" / "weights.safetensors").touch()
    jobs = planned(snakemake(folder, "-n", "variant", "--config", "variant=distilled"))
    assert (jobs["embed_pairs"], jobs["pretrain"]) == (1, 2)
    jobs = planned(snakemake(folder, "-n", "variant", "--config", "variant=outside"))
    assert (jobs["embed_pairs"], jobs["pretrain"]) == (1, 1)
