"""Heads on frozen features: scores of captions equal pycocoevalcap's, their values per image have the set's score as
mean and the spread that resampling finds; blocks equal torch's; heads learn what can be learned and no more; questions
have one right answer; sets of others are checked."""

import json
import tarfile
from collections import Counter
from io import BytesIO
from random import Random

import numpy as np
import pytest
import torch
from PIL import Image
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from torch import nn

from flip.config.consistency import transferable
from flip.config.faults import ParameterError
from flip.config.frozen import dump, merge
from flip.config.kinds import LEARNED
from flip.config.kinds.vqa import Question
from flip.config.resolve import Project
from flip.config.schema import Tower
from flip.files import read_json, write_json
from flip.formats.contents import add
from flip.losses import build_towers
from flip.metrics.names import Metric, transferred
from flip.model.weights import save_weights
from flip.provenance.specs import stages
from flip.synthetic import testsets
from flip.synthetic.questions import ANNOTATORS, questions
from flip.synthetic.scenes import stream
from flip.synthetic.shifts import captions_of, scene_of
from flip.transfer import __main__ as command
from flip.transfer import captioning, finetuning, vqa
from flip.transfer.fit import batches, fit, learning_rate
from flip.transfer.heads import FORM, Answerer, Captioner, DecoderBlock
from flip.transfer.scores import bleu, cider, ratio
from flip.transfer.splits import TaskSplit, read_split
from flip.transfer.words import END, PAD, START, UNKNOWN, Vocabulary, words
from tests.conftest import SMALL

# clip-benchmark leaves the order of shards open and files unclosed.
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning", r"ignore:WebDataset:UserWarning"
)
SMALL_TOWER = Tower(layers=1, width=16, heads=2)


# Scores.


@pytest.fixture(scope="module")
def said():
    """Captions and five references for each of 30 images of the world: some right, some cut, some of others."""
    from flip.config.resolve import read_project

    world = read_project("params.yaml", "tiny").resolve("clip").world
    references = [[words(text) for text in captions_of(world, index)] for index in range(30)]
    random, found = Random(0), []
    for index in range(30):
        right = random.choice(captions_of(world, random.choice((index, index, (index + 1) % 30))))
        found.append(words(right)[: random.randint(2, 20)])
    return found, references


def theirs(metric, said):
    captions, references = said
    pairs = [dict(enumerate(one)) for one in (references, captions)]
    right = {number: [" ".join(one) for one in some] for number, some in pairs[0].items()}
    return metric.compute_score(right, {number: [" ".join(one)] for number, one in pairs[1].items()})


def test_cider_equals_pycocoevalcap(said):
    whole, each = theirs(Cider(), said)
    found = cider(*said)
    assert found == pytest.approx(each, rel=1e-6)
    assert found.mean() == pytest.approx(whole, rel=1e-6)
    assert 0.5 < whole < 9


@pytest.mark.parametrize("longest", [20, 5])
def test_bleu_equals_pycocoevalcap(said, longest):
    """With a brevity penalty, too."""
    captions, references = [one[:longest] for one in said[0]], said[1]
    (*_, whole), _ = theirs(Bleu(4), (captions, references))
    assert bleu(captions, references).mean() == pytest.approx(whole, rel=1e-6)
    assert whole > 0.05


def test_bleu_by_hand():
    """One image: 4 of 5 words match, 3 of 4 pairs, 2 of 3 triples, 1 of 2 of four; as long as its reference."""
    reference = [["a", "red", "star", "on", "grass"]]
    score = bleu([["a", "red", "star", "on", "sand"]], [reference])
    assert score == pytest.approx([(4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25])
    assert bleu([["a", "red", "star", "on"]], [reference]) == pytest.approx([np.exp(1 - 5 / 4)])
    assert bleu([["no"]], [reference]).tolist() == [0]


def test_right_captions_score_most(said):
    references = said[1]
    first = [some[0] for some in references]
    alone = [[one] for one in first]
    assert bleu(first, references) == pytest.approx(np.ones(30))
    assert cider(first, alone) == pytest.approx([2.5 * min(len(one), 4) for one in first])
    assert cider([["nothing"]] * 30, references) == pytest.approx(np.zeros(30))


@pytest.mark.parametrize("longest", [20, 5])
def test_values_per_image_have_the_spread_of_resampled_scores(said, longest):
    """The standard error of their mean is that of the score of images drawn anew, within 30 % (of 80 draws)."""
    captions, references = [one[:longest] for one in said[0]] * 4, said[1] * 4
    values, random = bleu(captions, references), np.random.default_rng(0)
    drawn = [random.integers(0, 120, 120) for _ in range(80)]
    scores = [bleu([captions[i] for i in some], [references[i] for i in some]).mean() for some in drawn]
    assert values.std() / 120**0.5 == pytest.approx(np.std(scores), rel=0.3)


def test_a_ratio_is_the_mean_over_all_answers():
    values = ratio(np.array([2.0, 0.0, 1.0]), np.array([2.0, 1.0, 3.0]))
    assert values.mean() == pytest.approx(3 / 6)
    assert ratio(np.array([1.0, 0.0]), np.array([1.0, 1.0])).tolist() == [1, 0]


# Words.


def test_words_and_their_numbers():
    assert words("A red star's ball, on GRASS! (2)") == ["a", "red", "star's", "ball", "on", "grass", "2"]
    known = Vocabulary(["a red star", "A red ball!"], least=2, slots=3)
    assert len(known) == 6
    ids = known.encode(["a red star on grass", "red"], framed=True)
    a, red = known.ids["a"], known.ids["red"]
    assert ids.tolist() == [[START, a, red, UNKNOWN, END], [START, red, END, PAD, PAD]]
    assert known.encode(["red"]).tolist() == [[red, PAD, PAD]]
    assert known.decode(ids[1].tolist()) == "red"
    assert known.decode([a, UNKNOWN, END, red]) == "a unknown"


# Heads.


def test_a_decoder_block_equals_torchs():
    torch.manual_seed(0)
    ours = DecoderBlock(SMALL_TOWER, FORM).double()
    other = nn.TransformerDecoderLayer(16, 2, 64, 0.0, nn.GELU(), 1e-6, batch_first=True, norm_first=True).double()
    cross = ours.cross_attention
    pairs = {
        other.self_attn.in_proj_weight: ours.attention.qkv.weight,
        other.self_attn.in_proj_bias: ours.attention.qkv.bias,
        other.multihead_attn.in_proj_weight: torch.cat([cross.query.weight, cross.keys_values.weight]),
        other.multihead_attn.in_proj_bias: torch.cat([cross.query.bias, cross.keys_values.bias]),
    }
    modules = [
        (other.self_attn.out_proj, ours.attention.out),
        (other.multihead_attn.out_proj, cross.out),
        (other.linear1, ours.mlp[0]),
        (other.linear2, ours.mlp[2]),
        (other.norm1, ours.norm1),
        (other.norm2, ours.norm2),
        (other.norm3, ours.norm3),
    ]
    for theirs, mine in modules:
        pairs |= {theirs.weight: mine.weight, theirs.bias: mine.bias}
    for theirs, mine in pairs.items():
        theirs.data = mine.data.clone()
    x, states = torch.randn(3, 5, 16, dtype=torch.float64), torch.randn(3, 7, 16, dtype=torch.float64)
    mask = nn.Transformer.generate_square_subsequent_mask(5, dtype=torch.float64)
    inputs = (
        [one.clone().requires_grad_() for one in (x, states)],
        [one.clone().requires_grad_() for one in (x, states)],
    )
    found, expected = ours(*inputs[0]), other(*inputs[1], tgt_mask=mask, tgt_is_causal=True)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    found.square().sum().backward()
    expected.square().sum().backward()
    for mine, theirs in zip(*inputs, strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-9, atol=1e-12)


def test_what_a_captioner_says_is_the_likeliest_word_each_time():
    torch.manual_seed(0)
    head = Captioner(SMALL_TOWER, 8, 12, 7).eval()
    states = torch.randn(4, 5, 8)
    ids = head.say(states)
    assert ids.shape[1] <= 6
    begun = torch.cat([torch.full((4, 1), START), ids], dim=1)
    following = head.decode(head.encoder(head.embed(states)), begun)[:, :-1].argmax(dim=-1)
    assert torch.equal(following, ids)


def test_padding_changes_no_answer_and_no_loss():
    torch.manual_seed(0)
    answerer, captioner = Answerer(SMALL_TOWER, 8, 12, 9, 5).eval(), Captioner(SMALL_TOWER, 8, 12, 9).eval()
    states, ids = torch.randn(2, 5, 8), torch.tensor([[START, 4, 5, END], [START, 6, END, PAD]])
    longer = torch.cat([ids, torch.full((2, 4), PAD)], dim=1)
    torch.testing.assert_close(answerer(states, ids), answerer(states, longer))
    torch.testing.assert_close(captioner.loss(states, ids), captioner.loss(states, longer))
    assert not torch.allclose(answerer(states, ids)[0], answerer(states, ids.flip(0))[0])


def test_the_learning_rate_grows_and_falls(change):
    transfer = change("clip", {"transfer": {"steps": 100, "warmup": 0.2, "lr": 0.5}}).transfer
    rates = [learning_rate(transfer, step) for step in range(100)]
    assert np.argmax(rates) == 20
    assert rates[20] == 0.5
    assert (np.diff(rates[:21]) > 0).all()
    assert (np.diff(rates[20:]) < 0).all()
    assert 0 < rates[0] < 0.05 > rates[-1] > 0


def test_every_item_comes_before_any_comes_again():
    drawn = batches(10, 4, seed=0)
    found = torch.cat([next(drawn) for _ in range(5)]).tolist()
    assert sorted(found[:10]) == sorted(found[10:]) == list(range(10))
    assert found[:10] != found[10:]


# Learning. Four images' colours are states that anyone can tell apart.

COLOURS = ("red", "green", "blue", "white")


def coloured(count, note, told=True):
    """A split whose images have one of four colours, which their states tell or not."""
    colours = [COLOURS[index % 4] for index in range(count)]
    states = torch.eye(4)[torch.arange(count) % 4] if told else torch.zeros(count, 4)
    return TaskSplit(states[:, None].repeat(1, 3, 1).half(), [[note(one)] for one in colours], [""] * count)


def asked(colour):
    return Question("colour", "what colour is it?", [colour] * 10)


@pytest.fixture(scope="module")
def transfer(change):
    return change("clip", SMALL | {"transfer": SMALL["transfer"] | {"steps": 60}}).transfer


def test_a_captioner_learns_what_states_tell(transfer):
    note = lambda colour: f"a {colour} thing on a big table"  # noqa: E731
    training, test = coloured(64, note), coloured(12, note)
    found = captioning.outcomes(training, {"caption": test}, transfer, [], 0, "cpu")
    assert found.keys() == {"caption-cider", "caption-bleu4"}
    assert all(values.dtype == np.float32 and values.shape == (12,) for values in found.values())
    assert found["caption-bleu4"].mean() == pytest.approx(1)
    again = captioning.outcomes(training, {"caption": test, "nocaps": test}, transfer, [], 0, "cpu")
    assert all(np.array_equal(again[name], values) for name, values in found.items())
    assert np.array_equal(again["nocaps-cider"], found["caption-cider"])
    blind = captioning.outcomes(
        coloured(64, note, False), {"caption": coloured(12, note, False)}, transfer, [], 0, "cpu"
    )
    assert blind["caption-bleu4"].mean() < 0.9


def test_domains_are_sets_of_their_own(said):
    captions, references = ([" ".join(one) for one in said[0]], [[" ".join(one) for one in some] for some in said[1]])
    test = TaskSplit(torch.zeros(30, 1, 1), references, ["near-domain"] * 10 + ["in-domain"] * 20)
    found = captioning.by_domain(captions, test, [])
    names = {"cider", "bleu4", "in-domain-cider", "in-domain-bleu4", "near-domain-cider", "near-domain-bleu4"}
    assert found.keys() == names
    assert found["cider"] == pytest.approx(cider(*said), rel=1e-6)
    assert found["in-domain-cider"] == pytest.approx(cider(said[0][10:], said[1][10:]), rel=1e-6)


def test_an_answerer_learns_what_states_tell_and_guesses_without(transfer):
    """Of four colours, equally frequent, none is better than chance."""
    found = vqa.outcomes(coloured(64, asked), coloured(12, asked), transfer, 0, "cpu")
    assert found.keys() == {"vqa", "vqa-colour"}
    assert found["vqa"].mean() == pytest.approx(1)
    blind = vqa.outcomes(coloured(64, asked, False), coloured(12, asked, False), transfer, 0, "cpu")
    assert blind["vqa"].mean() == pytest.approx(0.25)  # one and the same answer everywhere


def test_answers_to_choose_from_are_frequent_ones_and_have_their_worth():
    notes = [[Question("", "?", ["Red"] * 9 + ["rose"])], [Question("", "?", ["red"] * 8 + ["blue"] * 2)]]
    assert vqa.known_answers(notes, 2) == ["red"]
    assert vqa.targets(notes[1], ["blue", "green", "red"]).tolist() == [[pytest.approx(0.6), 0, 1]]


def test_scores_by_kind_are_means_over_questions():
    kinds = [Question(kind, "?", ["x"]) for kind in ("colour", "count", "colour", "count", "colour")]
    found = vqa.by_kind(kinds, [0, 0, 1, 2, 2], [1.0, 0.0, 1.0, 1.0, 0.5])
    assert {kind: values.mean() for kind, values in found.items()} == pytest.approx(
        {"": 3.5 / 5, "colour": 2.5 / 3, "count": 0.5}
    )
    assert {kind: len(values) for kind, values in found.items()} == {"": 3, "colour": 3, "count": 2}


# Fine-tuning.


def test_a_layers_rate_is_a_share_of_the_next_ones(change):
    tuning = change("clip", {"transfer": {"finetuning": {"layer_decay": 0.5, "weight_decay": 0.1}}}).transfer.finetuning
    delta = {"model": SMALL["model"] | {"vision": {"layers": 2, "width": 16, "heads": 2}}}
    classifier = finetuning.Classifier(build_towers(change("siglip", merge(SMALL, delta)), 50), 3)
    groups = finetuning.layered(classifier, tuning)
    scale = {id(p): (group["lr_scale"], group["weight_decay"]) for group in groups for p in group["params"]}
    assert len(scale) == len(list(classifier.parameters()))
    vision = classifier.vision
    expected = {
        vision.embed.weight: (0.125, 0.1),
        vision.embed.bias: (0.125, 0),
        vision.positions: (0.125, 0),
        vision.transformer.blocks[0].mlp[0].weight: (0.25, 0.1),
        vision.transformer.blocks[1].norm1.weight: (0.5, 0),
        vision.transformer.norm.weight: (1, 0),
        vision.attention_pooling.query.weight: (1, 0.1),
        classifier.head.weight: (1, 0.1),
    }
    assert all(scale[id(parameter)] == wanted for parameter, wanted in expected.items())


def test_a_tower_learns_classes_and_the_model_stays_as_it_was(change):
    """Plain colours with noise, in crops; the first step of a schedule of one changes the tower, too."""
    params = change("clip", merge(SMALL, {"transfer": {"finetuning": {"steps": 40}}}))
    torch.manual_seed(0)
    model = build_towers(params, 50).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    labels = torch.arange(64) % 4
    colours = torch.tensor([(220, 30, 30), (30, 200, 40), (40, 60, 220), (240, 240, 240)])
    images = (colours[labels][:, None, None] - torch.randint(0, 30, (64, 16, 16, 3))).clamp(0).byte()
    training, test = [(images[:48], labels[:48])], [(images[48:], labels[48:])]
    tuning = params.transfer.finetuning
    found = finetuning.outcomes(model, training, test, 4, "accuracy", tuning, 0, "cpu")
    assert found.dtype == np.float32
    assert found.shape == (16,)
    assert found.mean() > 0.9
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    tuned = finetuning.train(model, training, 4, tuning, 0, "cpu").vision
    assert not torch.equal(tuned.embed.weight, model.vision.embed.weight)


def test_crops_are_as_large_as_images(change):
    augmentation = change("clip", {}).transfer.finetuning.augmentation
    images = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
    found = finetuning.augmented(images, augmentation, np.random.default_rng(0))
    assert found.shape == (5, 16, 16, 3)
    assert found.dtype == torch.uint8
    assert torch.equal(found, finetuning.augmented(images, augmentation, np.random.default_rng(0)))
    plain = augmentation.model_copy(update={"crop_area": (1.0, 1.0)})
    assert torch.equal(finetuning.augmented(images, plain, np.random.default_rng(0)), torch.from_numpy(images))


# The world's questions.


@pytest.fixture(scope="module")
def world(project):
    return project.resolve("clip").world


def test_questions_have_answers_that_the_scene_gives(world):
    from flip.synthetic.languages.english import ENGLISH

    found = Counter()
    for index in range(300):
        scene = scene_of(world, "retrieval", index)
        for one in questions(scene, stream(world, "test", "questions", index)):
            assert len(one.answers) == ANNOTATORS
            found[one.kind] += 1
            named = [thing for thing in scene.things if any(n in one.text for n in ENGLISH.shapes[thing.shape])]
            if one.kind == "colour":
                assert any(set(one.answers) <= set(ENGLISH.colours[thing.colour]) for thing in named)
            elif one.kind == "count":
                assert set(one.answers) <= {str(len(scene.things)), ("one", "two", "three")[len(scene.things) - 1]}
            elif one.kind == "place":
                assert set(one.answers) <= set(ENGLISH.backgrounds[scene.background])
            elif one.kind == "relation":
                assert len(scene.things) > 1
    assert found["count"] == found["place"] == 300
    assert found["relation"] > 30
    assert found["colour"] > 250 < found["shape"]
    assert questions(scene, Random(3)) == questions(scene, Random(3))


def test_captions_of_the_retrieval_set_are_what_they_were(world):
    """And those of training images are others'."""
    assert captions_of(world, 3) == captions_of(world, 3, name="retrieval", split="test")
    training = captions_of(world, 3, name="fine", split="train")
    assert len({text.lower() for text in training}) == 5
    assert training != captions_of(world, 3, name="fine")


# Sets and the command.


@pytest.fixture(scope="module")
def data(change, small_data, tmp_path_factory):
    """The world's two sets in small, beside a tokenizer."""
    import shutil

    folder = tmp_path_factory.mktemp("transferred") / "data"
    shutil.copytree(small_data, folder)
    sizes = {"tests": {"fine": 128, "retrieval": 16}, "probe": {"fine": 128}}
    params = change("clip", {"world": sizes})
    for name in ("fine", "retrieval"):
        testsets.make(params, name, folder / "tests" / name)
    return folder


def parameters(change, variant, **transfer):
    sizes = {"tests": {"fine": 128, "retrieval": 16}, "probe": {"fine": 128}}
    delta = {"world": sizes, "transfer": {"steps": 4} | transfer}
    return change(variant, merge(SMALL, delta))


def weights_of(params, data, folder):
    torch.manual_seed(0)
    save_weights(
        folder / "w.safetensors", build_towers(params, read_json(data / "tokenizer.json")["vocabulary"]).state_dict()
    )
    return folder / "w.safetensors"


def test_the_command_writes_metrics_with_their_evidence(change, data, tmp_path):
    tasks = ["caption", "vqa", "fine-finetuned"]
    params = parameters(change, "clip")
    (tmp_path / "params.yaml").write_text(dump(params))
    given = ["--params", tmp_path / "params.yaml", "--data", data, "--weights", weights_of(params, data, tmp_path)]
    command.main([str(word) for word in [*given, "--seed", 0, "--out", tmp_path / "out", "--tasks", *tasks]])
    facts, outcomes = read_json(tmp_path / "out" / "metrics.json"), np.load(tmp_path / "out" / "outcomes.npz")
    kinds = {f"vqa-{kind}" for kind in ("colour", "shape", "count", "place", "relation")}
    assert set(facts["metrics"]) == set(outcomes) == {"caption-cider", "caption-bleu4", "vqa", "fine-finetuned", *kinds}
    assert {task for name in facts["metrics"] for task in Metric.parse(name, ("fine", "caption", "vqa")).tasks} == set(
        tasks
    )
    for name, value in facts["metrics"].items():
        assert value == pytest.approx(100 * outcomes[name].mean(dtype=float), abs=1e-3)
    assert len(outcomes["vqa"]) == len(outcomes["caption-cider"]) == 16
    assert facts["sets"]["vqa"]["samples"] == facts["sets"]["caption"]["samples"] == 16
    assert facts["sets"]["vqa"]["train"]["samples"] == 128
    assert facts["sets"]["vqa"]["sha256"] != facts["sets"]["caption"]["sha256"]
    assert facts["manifest"] == read_json(data / "manifest.json")["id"]


def test_states_are_those_of_the_tower_and_computed_once_for_both_tasks(change, data):
    params, seen = parameters(change, "clip-class"), []
    torch.manual_seed(0)
    model = build_towers(params, 50).eval()
    model.vision.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    found = read_split(model, data, "world", ["caption", "vqa"], "test", "cpu")
    assert sum(map(len, seen)) == 16
    assert found["caption"].states is found["vqa"].states
    with torch.no_grad():
        expected = model.vision(torch.cat(seen))
    torch.testing.assert_close(found["vqa"].states.float(), expected, rtol=1e-3, atol=1e-3)
    assert found["vqa"].states.shape == (16, 17, 16)
    assert found["caption"].notes == [captions_of(params.world, index) for index in range(16)]


def test_a_variant_without_an_image_tower_is_refused(change, data, tmp_path):
    with pytest.raises(ValueError, match="variant 'flava-text' has no image tower"):
        command.transfer(parameters(change, "flava-text"), data, "none", 0, ["vqa"])


def test_a_set_without_a_training_split_is_left_out_with_its_reason(change, data, tmp_path):
    params = parameters(change, "clip")
    write_json(data / "tests" / "coarse" / "revision.json", {"train": {"missing": "no training split"}})
    found, evidence = command.transfer(params, data, weights_of(params, data, tmp_path), 0, ["coarse-finetuned"])
    assert found == evidence["sets"] == {}
    assert evidence["skipped"] == {"coarse-finetuned": "no training split"}


def public(folder, beside, splits=("train", "test")):
    """A set of six coloured images per split."""
    file = BytesIO()
    Image.new("RGB", (20, 24), "red").save(file, "JPEG")
    for split in splits:
        (folder / split).mkdir(parents=True)
        (folder / split / "nshards.txt").write_text("1")
        with tarfile.open(folder / split / "0.tar", "w") as tar:
            for index in range(6):
                add(tar, f"{index:06d}.jpg", file.getvalue())
                for extension, text in beside.items():
                    add(tar, f"{index:06d}.{extension}", text.encode())
    return folder


def test_public_sets_are_read(change, data, tmp_path):
    text = json.dumps([{"question": "What colour?", "answers": ["red"] * 10}, {"question": "Why?", "answers": ["no"]}])
    place = public(tmp_path / "set", {"txt": "a red image\nred\n", "json": text})
    params = parameters(change, "clip", caption=str(place), vqa=str(place))
    weights = weights_of(params, data, tmp_path)
    found, evidence = command.transfer(params, data, weights, 0, ["caption", "vqa"])
    sets = evidence["sets"]
    assert found.keys() == {"caption-cider", "caption-bleu4", "vqa"}
    assert sets["vqa"]["source"] == str(place)
    assert sets["vqa"]["samples"] == 6
    alone, evidence = command.transfer(params, data, weights, 0, ["caption"])
    assert evidence["sets"].keys() == {"caption"}
    assert all(np.array_equal(found[name], values) for name, values in alone.items())
    with pytest.raises(ValueError, match=r"transfer.vqa = null: the scale has no such set"):
        command.transfer(parameters(change, "clip", vqa=None), data, weights, 0, ["vqa"])


def test_a_score_that_java_is_missing_for_is_left_out_with_its_reason(change, data, tmp_path, monkeypatch):
    """And one that is there comes with the others, of nocaps by domain, too."""
    monkeypatch.setattr(command.java, "missing", lambda score: "no parser" if score == "spice" else None)
    monkeypatch.setitem(command.java.SCORES, "meteor", lambda said, _: np.array([len(one) for one in said]))
    caption = public(tmp_path / "coco", {"txt": "a red image\nred\n"})
    nocaps = public(tmp_path / "nocaps", {"txt": "a red image", "domain": "near-domain"}, ["test"])
    params = parameters(change, "clip", caption=str(caption), nocaps=str(nocaps))
    tasks = ["caption", "meteor", "nocaps", "spice"]
    found, evidence = command.transfer(params, data, weights_of(params, data, tmp_path), 0, tasks)
    sets = ("caption", "nocaps", "nocaps-near-domain")
    assert found.keys() == {f"{name}-{score}" for name in sets for score in ("cider", "bleu4", "meteor")}
    assert evidence["skipped"] == {"spice": "no parser"}
    assert Metric("nocaps", "near-domain", "spice").left_out(evidence["skipped"]) == "no parser"
    assert evidence["sets"]["nocaps"]["train"] == evidence["sets"]["caption"]["train"]


@pytest.mark.parametrize("text", [None, "[]", "no", '[{"question": "?"}]', '[{"question": "?", "answers": []}]'])
def test_an_image_without_questions_is_named(text):
    content = {} if text is None else {"json": text.encode()}
    with pytest.raises(ValueError, match=r'0.tar: 000000.json needs \[{"question": text, "answers": \[text, ...\]}'):
        LEARNED["vqa"].notes(content, "0.tar: 000000")


def test_a_public_set_with_a_fault_is_named(change, data, tmp_path):
    with pytest.raises(ValueError, match=r"0.tar: 000000.txt has no caption"):
        LEARNED["caption"].notes({"txt": b"\n"}, "0.tar: 000000")
    place = public(tmp_path / "set", {"txt": "an image"}, ["train"])
    params = parameters(change, "clip", caption=str(place), vqa=None)
    with pytest.raises(ValueError, match=r"set/test/nshards.txt: missing"):
        command.transfer(params, data, weights_of(params, data, tmp_path), 0, ["caption"])


# What is planned, and what tables read.


def test_what_is_trained_is_what_a_table_shows_of_a_variant(project):
    all_three = {"heads": ["caption", "vqa"], "coarse-finetuned": ["coarse-finetuned"]}
    assert transferred(project.of("transfers")) == dict.fromkeys(["clip-short", "flip-50-short", "siglip"], all_three)
    assert transferred(project.of("ablations")) == transferred(project.of("systems")) == {}
    asked = {"variants": ["flava-text", "clip-short"], "metrics": ["fine", "vqa-colour"]}
    tuned = project.tree["tables"]["transfers"] | {"variants": ["clip-short", "siglip"], "metrics": ["fine-finetuned"]}
    text = merge(project.tree, {"tables": {"transfers": asked, "tuned": tuned}})
    own = {"fine-finetuned": ["fine-finetuned"]}
    assert transferred(Project(text, "tiny")) == {"clip-short": own | {"heads": ["vqa"]}, "siglip": own}
    assert list(transferable(project)) == []


def test_a_column_more_runs_its_own_job_alone(project):
    """Specs are what jobs depend on: others' stay as they are, to the letter."""

    def of(metrics):
        tree = merge(project.tree, {"tables": {"transfers": {"metrics": metrics}}})
        found = stages(Project(tree, "tiny"))
        return {spec.path: spec.parameters for spec in found if spec.path.endswith("transfer.json")}

    before, after = of(["caption-cider"]), of(["caption-cider", "coarse-finetuned"])
    assert len(before) == 3
    assert before.items() <= after.items()
    assert {path.split("/")[5] for path in after.keys() - before.keys()} == {"coarse-finetuned"}
    assert before["specs/tiny/tables/transfers/siglip/heads/transfer.json"]["tasks"] == ["caption"]
    asked = of(["caption-cider", "vqa"])
    assert asked["specs/tiny/tables/transfers/siglip/heads/transfer.json"]["tasks"] == ["caption", "vqa"]


def test_a_world_without_their_images_is_refused(project):
    tree = merge(project.tree, {"scales": {"tiny": {"evaluate": {"probe": ["coarse"]}}}})
    with pytest.raises(ParameterError, match=r"transfer.caption = 'world' shows .* or give a folder"):
        Project(tree, "tiny").check()
    lone = merge(project.tree, {"base": {"transfer": {"caption": None, "nocaps": "nocaps"}}})
    lone = merge(lone, {"tables": {"transfers": {"metrics": ["nocaps-cider"]}}})
    with pytest.raises(ParameterError, match=r"transfer.nocaps needs transfer.caption, from whose"):
        Project(lone, "tiny").check()
    with pytest.raises(ParameterError, match=r"nocaps = 'world', which has no such set"):
        Project(merge(project.tree, {"base": {"transfer": {"nocaps": "world"}}}), "tiny").check()
    tuned = merge(tree, {"scales": {"tiny": {"evaluate": {"probe": ["fine"]}}}})
    with pytest.raises(ParameterError, match=r"'coarse-finetuned': coarse has no training split here; name it in"):
        Project(tuned, "tiny").check()
    tree = merge(tree, {"base": {"transfer": {"caption": None, "vqa": None}}})
    assert Project(tree, "tiny").check().tables["transfers"].metrics == ["fine", "coarse-finetuned"]
    taken = merge(project.tree, {"base": {"evaluate": {"sets": {"vqa": "world"}}}})
    with pytest.raises(ParameterError, match=r"sets.vqa has the name of a task of transfer"):
        Project(taken, "tiny").check()


def test_tables_show_what_heads_do(project, tmp_path):
    from flip.report.cells import Builder
    from flip.report.results import read_results
    from flip.report.tables import markdown
    from tests.results_world import write_world

    part = project.of("transfers")
    places = write_world(tmp_path, part)
    (table,) = Builder(read_results(part, *places)).tables()
    cells = {str(cell.metric): cell for cell in table.rows[1].metrics}
    assert cells["caption-cider"].paper == 127.7
    assert cells["vqa-relation"].low < cells["vqa-relation"].value < cells["vqa-relation"].high
    assert cells["caption-cider"].difference is not None
    assert cells["coarse-finetuned"].value is not None
    assert "caption CIDEr-D" in markdown(table)
    path = tmp_path / "tables" / "siglip" / "coarse-finetuned" / "seed-0" / "metrics.json"
    content = path.read_text()
    path.write_text(content.replace('"skipped": {}', '"skipped": {"coarse-finetuned": "no training split"}'))
    assert read_results(part, *places).runs["siglip"].missing(Metric("coarse", "finetuned")) == "no training split"
    path.write_text(content.replace("ab" * 32, "cd" * 32))
    with pytest.raises(ValueError, match=r"weights: .*siglip/coarse-finetuned/seed-0 has cdcd"):
        read_results(part, *places)
    path.unlink()
    with pytest.raises(ValueError, match=r"siglip/coarse-finetuned/seed-0/metrics.json: missing"):
        read_results(part, *places)


def test_a_head_that_diverges_is_refused(transfer):
    head = torch.nn.Linear(2, 1)
    with pytest.raises(
        ValueError, match=r"Linear: weights are not finite after 60 steps; lower its lr = 0.01 in transfer"
    ):
        fit(head, lambda rows: head(torch.ones(len(rows), 2)).sum() * float("inf"), 20, transfer, 0)
