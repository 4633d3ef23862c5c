"""A schedule that takes another variant's time: computed from what was timed of both, told apart from one that was
not, and refused where the other has no time of its own."""

import shutil

import numpy as np
import pytest

from flip.config.chosen import CHOSEN
from flip.config.equal_time import schedule
from flip.config.faults import ParameterError
from flip.config.frozen import to_yaml
from flip.config.resolve import read_project
from flip.config.sweep import recipe_hash
from flip.config.tree import read_tree
from flip.files import read_json, write_json
from flip.provenance.specs import is_timed, timed_recipe
from flip.report.equal_time import equal_times
from flip.report.results import read_results
from flip.sweep.times import MOST, settled, uncertainty
from tests.miniature import ROOT, planned, snakemake, write_params
from tests.results_world import write_world

pytestmark = pytest.mark.long(2)

NAME = "flip-50-equal-time"


@pytest.fixture
def read(tmp_path):
    """(variants to add or replace) -> the project at tiny, without what is chosen in the repository."""

    def project(**variants):
        tree = read_tree(ROOT / "params.yaml")
        tree["variants"] |= {name.replace("_", "-"): delta for name, delta in variants.items()}
        tree["scales"]["tiny"] |= {"seeds": [0], "sweep": {}}
        (tmp_path / "params.yaml").write_text(to_yaml(tree))
        return read_project(tmp_path / "params.yaml", "tiny")

    return project


def time(project, folder, name, rounds, **others):
    """As `snakemake sweep` writes it for a project."""
    content = {
        "of": project.variants[name].train.equal_time,
        "relative_rounds": rounds,
        "device": "CPU",
        "threads": 1,
        "recipe": recipe_hash(timed_recipe(project, name)),
    }
    write_json(folder / CHOSEN / "tiny/times" / f"{name}.json", content | others)


def test_a_schedule_takes_as_long_as_the_others(read):
    params = read().variants
    clip, small = params["clip"].train, params["clip-small-data"].train
    found = schedule(params[NAME].train, clip, 0.5)
    assert found == {"train.epochs_scale": 2.0, "train.warmup_scale": 2.0}
    # An eighth of the pairs, 2 x 3.2 epochs of it: a quarter of clip's samples, at the same time for each.
    assert schedule(clip, small, 1.0) == {"train.epochs_scale": 0.25, "train.warmup_scale": 0.25}
    assert schedule(small, clip, 1.0)["train.epochs_scale"] == 8.0


def test_the_median_round_decides_and_what_was_timed_otherwise_is_told(read, tmp_path):
    before = read()
    assert before.variants[NAME].train.total_epochs == 2 * before.variants["clip"].train.total_epochs
    assert (is_timed(before, NAME), is_timed(before, "clip")) == (False, True)
    time(before, tmp_path, NAME, [0.4, 9.0, 0.5])
    found = read()
    assert found.variants[NAME].train.total_epochs == pytest.approx(found.variants["clip"].train.total_epochs / 0.5)
    assert {name for name in found.variants if found.variants[name] != before.variants[name]} <= {NAME}
    assert is_timed(found, NAME)
    # Another rate leaves a step as long as it was; another mask does not.
    assert is_timed(read(clip={"train": {"base_lr": 0.5}}), NAME)
    assert not is_timed(read(clip={"masking": {"image": 0.25}}), NAME)
    # What was timed against another variant says nothing.
    time(before, tmp_path, NAME, [0.25], of="flip-75")
    assert read().variants[NAME] == before.variants[NAME]


@pytest.mark.parametrize(
    ("delta", "said"),
    [
        ({"equal_time": "clop"}, "unknown variant 'clop'; did you mean 'clip'"),
        ({"equal_time": "mine"}, "takes another one's time, or is this one"),
        ({"equal_time": NAME}, "takes another one's time, or is this one"),
        ({"equal_time": "flip-50-tuned"}, "the time of flip-50, trained before, would not count"),
    ],
)
def test_a_time_that_is_none_is_refused(read, delta, said):
    with pytest.raises(ParameterError, match=f"variants.mine.train.equal_time: .*{said}"):
        read(mine={"train": delta | {"epochs_scale": 0.7}}).check()


def test_a_damaged_time_is_named(read, tmp_path):
    time(read(), tmp_path, NAME, [0.0])
    with pytest.raises(ParameterError, match=rf"{NAME}\.json.*relative_rounds"):
        read()


def test_a_table_says_whether_the_time_was_equal(read, tmp_path):
    """Steps at mask 50 % take 0.55 of clip's in the invented costs."""
    for ratio, said in ((0.55, "holds within 3%"), (0.5, "more than 3% off")):
        time(read(), tmp_path, NAME, [ratio])
        project = read().of("ablations")
        found = read_results(project, *write_world(tmp_path / str(ratio), project))
        table = project.tables["a-equal-time"].variants
        taken, untimed = equal_times(found, table)
        assert said in taken
        assert f"{NAME} {0.55 / ratio:.3f}x" in taken
        assert "not timed: flip-75-equal-time" in untimed
        assert equal_times(found, ["clip", "flip-50"]) == []


def test_rounds_are_added_until_their_median_is_precise():
    """Of six values the 95% interval of the median, which is distribution-free, is from the least to the largest: each
    end misses the truth once in 64 times."""
    assert uncertainty([1.0, 0.9, 1.0, 1.0, 1.2, 1.0]) == pytest.approx(0.15)
    noisy = [0.5, 1.0, 1.5]
    assert settled(iter([noisy, noisy, *[[1.0] * 30] * 5]).__next__) == [*noisy, *noisy, *[1.0] * 30]
    assert len(settled(lambda: noisy)) == MOST * len(noisy)


def timed_of_flip_50(tree):
    tree["variants"]["flip-75-mae"] |= {"train": {"equal_time": "flip-50"}}
    return tree


def test_the_workflow_times_then_trains_as_long(made, tmp_path):
    folder = tmp_path / "flip"
    shutil.copytree(made, folder, symlinks=True)
    write_params(folder, timed_of_flip_50)
    sweep = ("sweep", "--config", "variant=flip-75-mae")
    snakemake(folder, *sweep)
    found = read_json(folder / "chosen/tiny/times/flip-75-mae.json")
    assert found["of"] == "flip-50"
    assert len(found["relative_rounds"]) in range(6, 31, 3)  # three at a time, until precise
    project = read_project(folder / "params.yaml", "tiny")
    epochs = {name: project.variants[name].train.total_epochs for name in ("flip-50", "flip-75-mae")}
    expected = epochs["flip-50"] / np.median(found["relative_rounds"])
    assert epochs["flip-75-mae"] == pytest.approx(expected, rel=1e-3)
    assert "step_time" not in planned(snakemake(folder, "-n", *sweep))
    assert planned(snakemake(folder, "-n", "ablations"))["pretrain"] == 1
