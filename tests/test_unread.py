"""Every parameter counts for every stage, unless flip/provenance/unread.py says why not; and what it says is true:
stages are run,
and what they read is looked at."""

import shlex
import shutil
import sys
import warnings
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from flip.config.frozen import dump, load, merge
from flip.config.objectives import NAMES
from flip.config.schema import Params, Section
from flip.files import read_json, write_atomic
from flip.metrics.names import HEADS
from flip.model.weights import save_weights
from flip.provenance import specs, unread
from flip.provenance.unread import NOT_READ, UPSTREAM
from flip.synthetic import testsets
from flip.train import __main__ as pretrain
from flip.train import image_tokenizer as codebook
from flip.train import precompute_features as embed
from flip.train import precompute_pairs as pairs
from flip.train.step import build_model
from tests.conftest import SMALL
from tests.miniature import ROOT
from tests.variants import EVERY_KIND

pytestmark = pytest.mark.long(1)

STAGES = specs.DATA | {"translations": specs.TRANSLATIONS, "translated_set": specs.TRANSLATED_SET}
STAGES |= {
    "pretrain": specs.PRETRAIN,
    "embed": specs.EMBED,
    "embed_pairs": specs.EMBED_PAIRS,
    "codebook": specs.CODEBOOK,
    "evaluate": specs.EVALUATE,
}
STAGES |= specs.CURATION
STAGES |= {"cost": specs.COST, "tables": specs.TABLES, "candidate": specs.SWEEP, "choose": specs.CHOOSE}
STAGES |= {"transfer": specs.TRANSFER[HEADS], "finetuning": specs.TRANSFER["finetuning"]}


def leaves(section, above=""):
    """Every key of the parameters, with its value."""
    for name in type(section).model_fields:
        value, key = getattr(section, name), f"{above}{name}"
        if isinstance(value, Section):
            yield from leaves(value, f"{key}.")
        else:
            yield key, value


def replaced(section, key, value):
    """The parameters with another value of a key, whatever the schema says to it."""
    name, _, below = key.partition(".")
    inner = replaced(getattr(section, name), below, value) if below else value
    return section.model_copy(update={name: inner})


def other(value):
    """Another value of the same kind; of what is null, any."""
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case list() | tuple():
            return type(value)(map(other, value)) or ["x"]
        case dict():
            return value | {"another": "world"}
    return f"{value}x"


def reason(stage, key):
    """Why a key does not count for a stage, by the most specific line of flip/provenance/unread.py; None if it
    counts."""
    parts = key.split(".")
    names = (".".join(parts[:end]) for end in range(len(parts), 0, -1))
    return next((stage.unread[name] for name in names if name in stage.unread), None)


def section_of(params, key):
    """The objective that a key belongs to; None for other keys."""
    name = key.partition(".")[0]
    return getattr(params, name) if name in NAMES else None


def idle(params, key):
    """Whether it belongs to an objective that these parameters give no weight."""
    return (one := section_of(params, key)) is not None and not one.wanted


def is_weight(params, key):
    return (one := section_of(params, key)) is not None and key.partition(".")[2] in type(one).weights


@pytest.fixture(scope="module")
def params(project):
    return project.resolve("flava")


@pytest.mark.parametrize("name", [name for name, stage in STAGES.items() if stage.unread is not None])
def test_a_changed_parameter_changes_what_a_stage_depends_on_unless_a_reason_says_otherwise(params, name):
    stage, seen = STAGES[name], set()
    warnings.filterwarnings("ignore", "Pydantic serializer")  # null becomes a text, whatever should stand there
    before = stage.parameters(params)
    for key, value in leaves(params):
        changed = stage.parameters(replaced(params, key, other(value))) != before
        assert changed == (reason(stage, key) is None and (not idle(params, key) or is_weight(params, key))), key
        parts = key.split(".")
        seen |= {".".join(parts[:end]) for end in range(1, len(parts) + 1)}
    assert stage.unread.keys() <= seen  # none of them is misspelt, or left over


def test_a_section_that_nobody_has_named_counts_for_every_stage(params):
    """As a new loss does, before anyone has thought about it."""

    class Consistency(Section):
        weight: float

    class Extended(Params):
        consistency: Consistency

    values = {name: getattr(params, name) for name in Params.model_fields}
    few, many = (Extended.model_construct(**values, consistency=Consistency(weight=w)) for w in (0.25, 9.0))
    for name, stage in STAGES.items():
        if stage.unread is not None:
            assert stage.parameters(few) != stage.parameters(many), name


def test_stages_without_parameters_are_given_none():
    rules = "\n".join(path.read_text() for path in (ROOT / "rules").glob("*.smk"))
    for name, stage in STAGES.items():
        if name != "finetuning":
            text = rules.split(f"rule {name}:")[1].split("\nrule ")[0]
            assert ("--params" in text) == (stage.unread is not None), name


class Watch:
    """What of each parameters that are loaded is read afterwards, by key."""

    def __init__(self, monkeypatch):
        self.sections, self.loaded, self.monkeypatch = {}, [], monkeypatch
        original, watch = Section.__getattribute__, self

        def look(section, name):
            above, read = watch.sections.get(id(section), (None, None))
            if read is not None and name in type(section).model_fields:
                read.add(f"{above}{name}")
            return original(section, name)

        monkeypatch.setattr(Section, "__getattribute__", look)

    def add(self, section, read, above=""):
        for name in type(section).model_fields:
            value = object.__getattribute__(section, "__dict__")[name]
            if isinstance(value, Section):
                self.add(value, read, f"{above}{name}.")
        self.sections[id(section)] = above, read

    def load(self, path):
        found, read = load(path), set()
        self.add(found, read)
        self.loaded.append((found, read))
        return found

    @property
    def read(self):
        return {key for _, read in self.loaded for key in read}

    def follow(self, module):
        """Looks at what a module loads, and those of the package that it hands its work to."""
        for one in [one for name, one in sys.modules.items() if name.startswith("flip.")]:
            hands_over = one is module or module.__name__.startswith("flip.synthetic")
            if hands_over and getattr(one, "load", None) is load:
                self.monkeypatch.setattr(one, "load", self.load)

    def untrue(self, stage):
        """Keys that were read and do not count: by what is said of the stage, or as their objective has no weight.
        Of a section that is read whole, its fields were looked at, too."""
        return {
            key
            for params, read in [(params, read.copy()) for params, read in self.loaded]
            for key, _ in leaves(params)
            if key in read and (reason(stage, key) == NOT_READ or (idle(params, key) and not is_weight(params, key)))
        }


@pytest.fixture(scope="module")
def folder(made, tmp_path_factory):
    return Path(shutil.copytree(made, tmp_path_factory.mktemp("unread") / "flip", symlinks=True))


RUN = [
    "table",
    "download",
    "mirror_set",
    "test_sets",
    "buckets",
    "duplicates",
    "shards",
    "tokenizer",
    "pretrain",
    "evaluate",
    "cost",
]


def command(receipt):
    """The module and the arguments of a job, without what starts its processes."""
    words = shlex.split(receipt["command"])
    at = max(place for place, word in enumerate(words) if word == "-m")
    return words[at + 1], words[at + 2 :]


def jobs(folder, name):
    return [
        one for path in sorted(folder.glob("receipts/**/*.json")) if (one := read_json(path))["spec"]["stage"] == name
    ]


@pytest.mark.parametrize("name", RUN)
def test_no_stage_of_the_miniature_reads_what_is_said_not_to_be_read(folder, name, monkeypatch):
    monkeypatch.chdir(folder)
    warnings.filterwarnings("ignore", module="sklearn")  # a probe of so few images
    for receipt in jobs(folder, name)[:6]:
        module, words = command(receipt)
        stage = import_module(module if find_spec(module).submodule_search_locations is None else f"{module}.__main__")
        for product in receipt["made"]:
            Path(product).unlink(missing_ok=True)
        with monkeypatch.context() as patch:
            watch = Watch(patch)
            watch.follow(stage)
            stage.main(words)
        assert watch.read, "nothing was looked at"
        assert watch.untrue(STAGES[name]) == set()


def test_what_comes_with_an_earlier_result_counts_for_one_that_made_it():
    before = {"pretrain": {*specs.DATA, "codebook", "translations"}, "codebook": {*specs.DATA}}
    before |= {key: {*specs.DATA, "codebook", "translations"} for key in ("candidate", "choose")}
    before |= {name: {*specs.DATA, "pretrain"} for name in ("embed", "embed_pairs")}
    before |= {"cost": {*specs.DATA, "codebook"}, "translations": {*specs.DATA}}
    before |= {name: {*specs.DATA, "pretrain"} for name in specs.CURATION}
    before |= {name: {*specs.DATA, "pretrain", "translated_set"} for name in ("evaluate", "transfer", "finetuning")}
    for name, stage in STAGES.items():
        for key, why in (stage.unread or {}).items():
            if why == UPSTREAM:
                earlier = [STAGES[one].unread for one in before[name] if STAGES[one].unread is not None]
                assert any(key not in one for one in earlier), (name, key)
    assert unread.nested(["a", "a.b", "c.d"]) == {"a": True, "c": {"d": True}}


@pytest.mark.parametrize("variant", [*EVERY_KIND, "mae-class", "flava-init"])
def test_no_training_reads_what_is_said_not_to_be_read(change, small_data, tmp_path, variant, monkeypatch):
    """Of the other systems."""
    params = change(variant, SMALL | {"image_tower": {"weights": None}, "text_tower": {"weights": None}})
    write_atomic(tmp_path / "params.yaml", dump(params))
    watch = Watch(monkeypatch)
    watch.follow(pretrain)
    words = ["--params", tmp_path / "params.yaml", "--data", small_data, "--seed", 0, "--out", tmp_path / "out"]
    pretrain.main([str(word) for word in [*words, "--checkpoints", tmp_path / "checkpoints"]])
    assert "train.batch" in watch.read
    assert watch.untrue(STAGES["pretrain"]) == set()


def test_no_tower_and_no_image_tokenizer_reads_what_is_said_not_to_be_read(change, small_data, tmp_path, monkeypatch):
    params = change("lit", SMALL)
    write_atomic(tmp_path / "params.yaml", dump(params))
    vocabulary = read_json(small_data / "tokenizer.json")["vocabulary"]
    save_weights(tmp_path / "weights.safetensors", build_model(params, vocabulary, 0, "cpu").state_dict())
    words = ["--params", tmp_path / "params.yaml", "--data", small_data, "--out"]
    towers = ["--weights", tmp_path / "weights.safetensors"]
    for name, stage, more in (("embed", embed, towers), ("embed_pairs", pairs, towers), ("codebook", codebook, [])):
        with monkeypatch.context() as patch:
            watch = Watch(patch)
            watch.follow(embed if stage is pairs else stage)  # whose command it is
            stage.main([str(word) for word in [*words, tmp_path / name, *more]])
        assert watch.read
        assert watch.untrue(STAGES[name]) == set()


@pytest.mark.parametrize(("name", "task"), [("transfer", "vqa"), ("finetuning", "fine-finetuned")])
def test_nothing_that_is_trained_to_be_measured_reads_what_is_said_not_to_be_read(
    change, small_data, tmp_path, monkeypatch, name, task
):
    sizes = {"tests": {"fine": 128, "retrieval": 16}, "probe": {"fine": 128}}
    params = change("clip", merge(SMALL, {"world": sizes, "transfer": {"steps": 4}}))
    data = shutil.copytree(small_data, tmp_path / "data")
    for one in ("fine", "retrieval"):
        testsets.make(params, one, data / "tests" / one)
    write_atomic(tmp_path / "params.yaml", dump(params))
    vocabulary = read_json(data / "tokenizer.json")["vocabulary"]
    save_weights(tmp_path / "weights.safetensors", build_model(params, vocabulary, 0, "cpu").state_dict())
    watch, stage = Watch(monkeypatch), import_module("flip.transfer.__main__")
    watch.follow(stage)
    words = ["--params", tmp_path / "params.yaml", "--data", data, "--weights", tmp_path / "weights.safetensors"]
    stage.main([str(word) for word in [*words, "--seed", 0, "--out", tmp_path / "out", "--tasks", task]])
    assert "transfer.finetuning.lr" in watch.read or "transfer.lr" in watch.read
    assert watch.untrue(STAGES[name]) == set()
