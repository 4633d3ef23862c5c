"""What lies outside the project and is read is an input: a job is told of each such place, and a change there plans
what was made of it."""

import re
import shutil

import pytest
import yaml

from flip.files import read_json, write_atomic
from tests.miniature import call, copy_workflow, edit, planned, snakemake, write_params

pytestmark = pytest.mark.long(1)

PLACES = {
    "table": "lists/*.tsv",
    "translations": "translated/*.parquet",
    "shards": "wanted.parquet",
    "tokenizer": "words",
    "test_sets": "./mine",
    "translated_set": "./german",
    "codebook": "dalle.safetensors",
    "pretrain": "tower.safetensors",
    "embed": "tower.safetensors",
    "transfer": "./captioned",
}


def with_places(tree):
    """Every kind of place from outside, each of its own."""
    base, scale = tree["base"], tree["scales"]["tiny"]
    base["source"] |= {"table": PLACES["table"], "translations": PLACES["translations"]}
    base["shards"]["only"] = PLACES["shards"]
    scale["tokenizer"] = {"kind": "bert", "path": PLACES["tokenizer"], "multilingual": 3000}
    scale["evaluate"]["sets"]["sketch"] = PLACES["test_sets"]
    base["evaluate"]["languages"]["de"] = PLACES["translated_set"]
    scale["codebook"] |= {"weights": PLACES["codebook"], "codes": 8192}
    scale["transfer"] |= {"caption": PLACES["transfer"], "vqa": None}
    for name in ("lit", "siglit"):
        tree["variants"][name]["image_tower"]["weights"] = PLACES["pretrain"]
    return tree


@pytest.fixture
def copy(tmp_path):
    folder = copy_workflow(tmp_path)
    write_params(folder, with_places)
    for name in ("tower.safetensors", "dalle.safetensors"):
        (folder / name).touch()
    return folder


def test_a_job_is_told_of_every_place_that_it_reads(copy):
    said = snakemake(copy, "-n", "-p", "siglip", "hybrids", "languages", "transfers")
    for rule, place in PLACES.items():
        texts = re.findall(rf"^rule {rule}:\n(.*?)(?=^(?:local)?rule |\Z)", said, re.MULTILINE | re.DOTALL)
        told = {words for text in texts for words in re.findall(r"--sources (.*?) --(?:\w| )", text)}
        assert any(place in words for words in told), (rule, told)
    for rule in set(re.findall(r"^rule (\w+):", said, re.MULTILINE)) - PLACES.keys():
        assert f"rule {rule}" in said
        texts = re.findall(rf"^rule {rule}:\n(.*?)(?=^(?:local)?rule |\Z)", said, re.MULTILINE | re.DOTALL)
        assert not any(place in text for text in texts for place in PLACES.values() if place.startswith("./")), rule


def test_weights_that_are_not_there_are_refused_before_anything_is_planned_all_at_once(copy):
    for name in ("tower.safetensors", "dalle.safetensors"):
        (copy / name).unlink()
    said = snakemake(copy, "-n", "ablations", check=False)
    for key in ("variants.lit.image_tower.weights", "variants.siglit.image_tower.weights", "codebook.weights"):
        assert re.search(rf"params.yaml, {re.escape(key)}: '\w+\.safetensors': no such file", said), key
    assert "Traceback" not in said
    assert not planned(said)


@pytest.fixture(scope="module")
def own(made, tmp_path_factory):
    """The miniature with a test set of its own in ./mine: a copy of the world's, so that no training changes."""
    folder = tmp_path_factory.mktemp("own") / "flip"
    shutil.copytree(made, folder, symlinks=True)
    shutil.copytree(folder / "data/tiny/tests/sketch", folder / "mine")
    (folder / "mine/revision.json").unlink()
    path = folder / "params.yaml"
    tree = yaml.safe_load(path.read_text())
    tree["scales"]["tiny"]["evaluate"]["sets"]["sketch"] = "./mine"
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    weights = folder / "results/tiny/clip/seed-0/weights.safetensors"
    before = weights.stat().st_mtime_ns
    snakemake(folder, "variant", "--config", "variant=clip")
    assert weights.stat().st_mtime_ns == before
    return folder


def test_a_change_in_a_set_of_ones_own_plans_what_it_was_read_for(own):
    """A class name; then back, and nothing is to be done; then the set is away, as in a clone."""
    names = own / "mine/classnames.txt"
    before = names.read_text()
    write_atomic(names, before.replace("\n", "x\n", 1))
    plan = planned(snakemake(own, "-n", "variant", "--config", "variant=clip"))
    assert plan["test_sets"] == 1
    assert {"test_fingerprints", "evaluate"} <= plan.keys()
    write_atomic(names, before)
    assert "Nothing to be done" in snakemake(own, "-n", "variant", "--config", "variant=clip")
    (own / "mine").rename(own / "away")
    assert "Nothing to be done" in snakemake(own, "-n", "variant", "--config", "variant=clip")
    (own / "away").rename(own / "mine")


def test_a_set_that_changed_since_it_was_checked_is_not_evaluated_under_the_old_revision(own):
    """Other labels of the same images, while what was decoded is gone: another number, under the same name."""
    shutil.rmtree(own / "data/tiny/squares")
    content = (own / "mine/test/0.tar").read_bytes()
    old = re.search(rb"\d+\.cls.{502}(\d+)\0", content, re.DOTALL)
    changed = bytearray(content)
    changed[old.start(1)] = ord("1") if content[old.start(1)] != ord("1") else ord("2")
    (own / "mine/test/0.tar").write_bytes(changed)
    receipt = own / "receipts/tiny/variants/clip/seed-0/evaluate.json"
    words = read_json(receipt)["command"].split()
    said = call(own, *words, check=False)
    (own / "mine/test/0.tar").write_bytes(content)
    assert "mine: changed since" in said


def test_a_word_changes_nothing_and_a_meaning_does(made, tmp_path):
    """In the real workflow: docstrings of the logger and of an evaluation, a comment of a rule; then a derived
    property."""
    folder = tmp_path / "flip"
    shutil.copytree(made, folder, symlinks=True)
    edit(folder, "flip/train/loggers.py", '"""', '"""Words. ')
    edit(folder, "flip/synthetic/textures.py", '"""', '"""Words. ')
    edit(folder, "flip/evaluate/retrieval.py", '"""', '"""Words. ')
    edit(folder, "flip/config/schema.py", "    @property\n", "    # A comment.\n    @property\n")
    edit(folder, "rules/pretrain.smk", "    # Long jobs first", "    # The longest jobs come first")
    assert "Nothing to be done" in snakemake(folder, "-n", "ablations")
    edit(
        folder,
        "flip/config/schema.py",
        "return int(self.model.patches * (1 - self",
        "return -1 + int(self.model.patches * (1 - self",
    )
    plan = planned(snakemake(folder, "-n", "ablations"))
    assert plan["pretrain"] == plan["evaluate"] == 5
