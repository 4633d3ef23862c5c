"""A sweep tries every combination of its grid at one seed, chooses by the validation set alone, asks for a wider grid
where the best lies at its edge, and what it has chosen is what a variant is trained with, and no more than that."""

import re
import shutil

import pytest
import yaml

from flip.config import sweep
from flip.config.faults import ParameterError
from flip.config.frozen import to_yaml
from flip.config.resolve import read_project
from flip.config.tree import read_tree
from flip.files import read_json, write_json
from flip.provenance.specs import is_chosen, recipe, sweep_recipe
from flip.report import charts
from flip.report.swept import swept, tried
from tests.miniature import ROOT, call, planned, snakemake, write_params

pytestmark = pytest.mark.long(1)

RATES = [0.001, 0.002, 0.004]


def with_sweep(tree, **swept_by_variant):
    """Of these variants alone."""
    tree["scales"]["tiny"]["sweep"] = {}
    for name, grid in swept_by_variant.items():
        tree["variants"][name.replace("_", "-")] = (tree["variants"][name.replace("_", "-")] or {}) | {"sweep": grid}
    return tree


@pytest.fixture
def project(tmp_path):
    """(grids by variant) -> the project, read again from a file."""

    def read(**grids):
        (tmp_path / "params.yaml").write_text(to_yaml(with_sweep(read_tree(ROOT / "params.yaml"), **grids)))
        return read_project(tmp_path / "params.yaml", "tiny")

    return read


def scored(key, scores):
    return [sweep.Candidate(values={key: value}, score=score) for value, score in scores.items()]


def test_candidates_are_all_combinations_by_names_that_may_become_paths(project):
    params = project(sigmoid={"train.base_lr": RATES, "sigmoid.bias": [-10.0, "matched", None]}).resolve("sigmoid")
    found = sweep.candidates(params)
    assert len(found) == 9
    assert found["base-lr-4e-3-bias-matched"] == {"train.base_lr": 0.004, "sigmoid.bias": "matched"}
    assert all(re.fullmatch("[a-z0-9][a-z0-9-]*", name) for name in found)
    assert sweep.candidates(project(clip={"train.base_lr": None}).resolve("clip")) == {}


def test_a_candidate_differs_from_its_variant_in_the_swept_values_alone(project):
    params = project(clip={"train.base_lr": RATES}).resolve("clip")
    tried = sweep.with_values(params, {"train.base_lr": 0.5}, "test")
    before, after = params.model_dump(), tried.model_dump()
    assert after["train"].pop("base_lr") == 0.5
    assert before["train"].pop("base_lr") == params.train.base_lr
    assert before == after


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        ({0.001: 50.0, 0.002: 60.0, 0.004: 70.0}, "0.004, is at the edge .*0.001: 50.0 %.* add a larger one"),
        ({0.001: 70.0, 0.002: 60.0, 0.004: 50.0}, "0.001, is at the edge .* add a smaller one"),
        ({0.004: 50.0, 0.001: 70.0, 0.002: 60.0}, "0.001, is at the edge .* add a smaller one"),
    ],
)
def test_a_best_value_at_the_edge_asks_for_a_wider_grid(project, scores, said):
    params = project(clip={"train.base_lr": RATES}).resolve("clip")
    with pytest.raises(ParameterError, match=said):
        sweep.choose(params, scored("train.base_lr", scores))


def test_words_have_no_edge_and_numbers_inside_win(project):
    params = project(clip={"train.base_lr": RATES}).resolve("clip")
    assert sweep.choose(params, scored("train.base_lr", {0.001: 1.0, 0.002: 9.0, 0.004: 2.0})) == {
        "train.base_lr": 0.002
    }
    params = project(sigmoid={"sigmoid.bias": ["matched", None]}).resolve("sigmoid")
    assert sweep.choose(params, scored("sigmoid.bias", {"matched": 3.0, None: 4.0})) == {"sigmoid.bias": None}


@pytest.mark.parametrize(
    ("grid", "said"),
    [
        ({"train.base_rate": RATES}, "unknown key 'base_rate'; did you mean 'base_lr'"),
        ({"train": [1, 2]}, "a section"),
        ({"world.seed": [1, 2, 3]}, "belongs to the whole scale"),
        ({"train.base_lr": [0.001, 0.001]}, "is there twice"),
        ({"train.base_lr": [0.001]}, "at least 2"),
        ({"train.base_lr": [0.001, "fast"]}, "sweep: train.base_lr: Input should be a valid number"),
        ({"train.base_lr": [0.001, None]}, "sweep: train.base_lr: Input should be a valid number"),
        ({"train.base_lr": [[1], [2]]}, "sweep.train.base_lr"),
    ],
)
def test_what_cannot_be_swept_is_refused_before_anything_runs(project, grid, said):
    with pytest.raises(ParameterError, match=said):
        project(clip=grid).check()


def test_no_table_shows_what_sweeps_choose_by(tmp_path):
    tree = read_tree(ROOT / "params.yaml")
    tree["tables"]["a"]["metrics"] = ["validation"]
    (tmp_path / "params.yaml").write_text(to_yaml(tree))
    with pytest.raises(ParameterError, match="is what sweeps choose by"):
        read_project(tmp_path / "params.yaml", "tiny").check()


def choice(project, variant, rate, **others):
    """As `snakemake sweep` writes it for a project."""
    candidates = [{"values": {"train.base_lr": one}, "score": 50.0 + (one == rate)} for one in RATES]
    return {
        "values": {"train.base_lr": rate},
        "metric": "validation",
        "images": 128,
        "seed": 0,
        "recipe": sweep.recipe_hash(sweep_recipe(project, variant)),
        "candidates": candidates,
    } | others


def test_what_was_chosen_replaces_the_swept_value_alone_and_a_changed_recipe_is_told(project, tmp_path):
    grid = {"train.base_lr": RATES}
    first = project(clip=grid, flip_50=grid)
    write_json(tmp_path / "chosen/tiny/sweeps/clip.json", choice(first, "clip", 0.002))
    write_json(tmp_path / "chosen/tiny/sweeps/flip-50.json", choice(first, "flip-50", 0.004, recipe="0" * 64))
    found = project(clip=grid, flip_50=grid)
    assert [found.resolve(name).train.base_lr for name in ("clip", "flip-50")] == [0.002, 0.004]
    assert found.resolve("flip-75") == first.resolve("flip-75")
    assert (is_chosen(found, "clip"), is_chosen(found, "flip-50"), is_chosen(found, "flip-75")) == (True, False, False)
    assert recipe(found, "clip") != recipe(first, "clip")  # so it trains again
    assert sweep_recipe(found, "clip") == sweep_recipe(first, "clip")  # and is not swept again
    notes = "\n".join(swept(found, ["clip", "flip-50", "flip-75"]))
    assert "clip 0.001: 50.0 %, 0.002: 51.0 % (chosen), 0.004: 50.0 %" in notes
    assert re.search("another recipe.*flip-50", notes)
    assert re.search("Not swept.*flip-75", notes)
    # Once it is no longer swept, params.yaml counts.
    assert project(flip_50=grid).resolve("clip").train.base_lr == first.resolve("clip").train.base_lr


def test_the_curve_is_drawn_for_the_rows_whose_recipe_was_swept(project, tmp_path):
    """A drawing per row, with every value in its order and one that is chosen, in Vega-Lite that compiles."""
    import vl_convert

    grid = {"train.base_lr": RATES}
    first = project(clip=grid, flip_50=grid)
    for name, rate, others in (("clip", 0.002, {}), ("flip-50", 0.004, {}), ("flip-75", 0.002, {"recipe": "0" * 64})):
        write_json(tmp_path / f"chosen/tiny/sweeps/{name}.json", choice(first, name, rate, **others))
    found = tried(project(clip=grid, flip_50=grid), ["clip", "flip-75", "flip-50"])
    rates = ["0.001", "0.002", "0.004"]
    assert [(one["variant"], one["values"]) for one in found] == [
        (name, rate) for name in ("clip", "flip-50") for rate in rates
    ]
    assert [one["values"] for one in found if one["chosen"]] == ["0.002", "0.004"]
    assert [one["score"] for one in found] == [50.0, 51.0, 50.0, 50.0, 50.0, 51.0]
    figure = charts.sweeps(found)
    assert figure["data"]["values"] == found
    assert vl_convert.vegalite_to_svg(figure).count("M0,") > 6
    assert charts.sweeps([]) == {}


def test_a_damaged_choice_is_named(project, tmp_path):
    (tmp_path / "chosen/tiny/sweeps").mkdir(parents=True)
    for content in ("<<<<<<< ours", '{"values": {}}', "[]"):
        (tmp_path / "chosen/tiny/sweeps/clip.json").write_text(content)
        with pytest.raises(ParameterError, match=r"chosen/tiny/sweeps/clip\.json"):
            project()


def widest(tree):
    """A grid whose middle must win: one end learns nothing, the other diverges."""
    grid = {"train.base_lr": [1e-9, 0.01, 9.0]}
    return with_sweep(tree, flip_50_tuned=grid, flip_50=grid)


def test_the_workflow_sweeps_then_trains_with_what_was_chosen(made, tmp_path):
    folder = tmp_path / "flip"
    shutil.copytree(made, folder, symlinks=True)
    write_params(folder, widest)
    said = snakemake(folder, "sweep")
    assert "flip-50-tuned waits for flip-50" in said
    found = read_json(folder / "chosen/tiny/sweeps/flip-50.json")
    assert found["values"] == {"train.base_lr": 0.01}
    scores = {one["values"]["train.base_lr"]: one["score"] for one in found["candidates"]}
    assert scores[0.01] == max(scores.values())
    assert len(scores) == 3
    assert found["metric"] == "validation"
    assert not list(folder.glob("sweeps/**/weights.safetensors"))
    assert not list(folder.glob("checkpoints/**/*.pt"))
    assert planned(snakemake(folder, "-n", "sweep"))["candidate"] == 3  # of the one that was to wait
    shutil.rmtree(folder / "receipts/tiny/choices")  # as after `git clone`
    said = snakemake(folder, "-n", "sweep", "--config", "variant=flip-50")
    assert "Chosen before, from the same recipe: flip-50." in said
    assert planned(said) == {"sweep": 1}
    # The rate of the miniature is the one chosen.
    assert "pretrain" not in planned(snakemake(folder, "-n", "ablations"))
    shown = yaml.safe_load(call(folder, "python", "-m", "flip", "params", "flip-50"))
    assert shown["train"]["base_lr"] == 0.01
    snakemake(folder, "ablations")
    assert "flip-50 1e-09: " in (folder / "tables/tiny/ablations/a.md").read_text()
