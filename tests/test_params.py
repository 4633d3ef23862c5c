"""params.yaml resolves to what it says; each way of getting it wrong is named with what is allowed; the paper's recipe
is there to the letter; and nothing on the way to a dry run needs torch."""

import copy
import subprocess
import sys

import pytest

from flip.config.faults import ParameterError
from flip.config.frozen import dump, load, merge
from flip.config.resolve import Project, read_project
from flip.metrics.names import lacking

SCALES = ("tiny", "gpu", "cc12m", "laion400m")


def broken(project, path, value):
    """The project with one value replaced."""
    tree = copy.deepcopy(project.tree)
    place = tree
    for key in path[:-1]:
        place = place.setdefault(key, {})
    place[path[-1]] = value
    return Project(tree, "tiny")


@pytest.mark.parametrize("scale", SCALES)
def test_every_scale_resolves(scale):
    project = read_project("params.yaml", scale).check()
    assert len(project.variants) == len({p.model_dump_json() for p in project.variants.values()})


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["base", "train", "bacth"], 1, r"train.bacth: unknown key; did you mean 'batch'\? known: base_lr, batch"),
        (["base", "masking", "image"], "half", r"masking.image: Input should be a valid number .*'half'"),
        (["base", "train", "weight_decay"], "1e-3", r"train.weight_decay: Input should be a valid number .*'1e-3'"),
        (["base", "masking", "image"], 1.5, r"masking.image: .*less than or equal to 1 .*1.5"),
        (
            ["base", "masking", "text_policy"],
            "some",
            r"masking.text_policy: Input should be 'random', 'prioritized', 'truncation', 'block', 'frequency' or ",
        ),
        (
            ["variants", "clip", "masking"],
            {"image": 0.99},
            r"masking.image keeps none of the 36 positions; allowed: 0 to 0.9722",
        ),
        (
            ["variants", "clip"],
            {"source": {"sample": 5}},
            r"variant 'clip'.*source belongs to the whole scale; move it",
        ),
        (
            ["variants", "twin"],
            {"masking": {"image": 0.5}, "train": {"batch_scale": 2}},
            "'flip-50' and 'twin' resolve to",
        ),
        (
            ["variants", "flip-50-tuned", "start"],
            "flop-50",
            r"start: unknown variant 'flop-50'; did you mean 'flip-50'\?",
        ),
        (["variants", "flip-50-tuned", "start"], "flip-50-tuned", "flip-50-tuned -> flip-50-tuned is a circle"),
        (["variants", "resize-75", "resolution"], 0, "resize-75' at scale 'tiny': resolution: .*greater than or equal"),
        (["variants", "resize-75", "resolution"], "half", "resize-75' at scale 'tiny': resolution: .*valid number"),
        (
            ["tables", "a", "variants"],
            ["clip", "flop-50"],
            r"tables.a.variants: unknown variant 'flop-50'; did you mean",
        ),
        (["tables", "a", "report"], "system", r"tables.a.report: unknown report 'system'; did you mean 'systems'\?"),
        (["reports", "more"], {"title": "t", "question": "q", "about": "a"}, "reports.more: no table names it"),
        (["tables", "a", "scales"], ["cc12"], r"tables.a.scales: unknown scale 'cc12'; did you mean 'cc12m'\?"),
        (["tables", "a", "metric"], ["fine"], r"metric: unknown key; did you mean 'metrics'"),
        (["tradeoff", "curves"], {"x": ["nothing"]}, r"tradeoff.curves.x: unknown variant 'nothing'"),
        (["scales", "tiny", "model"], "huge", r"unknown model 'huge'; known: b16, h14"),
        (["models", "tiny", "patch"], 7, "image 48 is not a multiple of patch 7"),
        (["models", "tiny", "vision", "heads"], 5, "model.vision: width 96 is not a multiple of heads 5"),
        (["base", "world", "faults", "html"], 0.99, "world.faults: the shares add up to"),
        (
            ["base", "download", "per_host"],
            1,
            "at_once = 2 parts share it, and each needs .*lower at_once to 1 at most",
        ),
        (
            ["scales", "tiny", "evaluate", "sets", "fine"],
            None,
            "primary_set = 'fine', which sets has not; allowed: co",
        ),
        (
            ["scales", "gpu", "evaluate", "primary_set"],
            "retr",
            "'gpu': evaluate: primary_set = 'retr', which sets has",
        ),
        (["scales", "tiny", "evaluate", "sets", "primary"], "./mine", "sets.primary has the name that stands for"),
        (["scales", "tiny", "evaluate", "sets", "coarse"], 3, "evaluate.sets.coarse: Input should be a valid string"),
        (
            ["tables", "a", "metrics"],
            ["fine", "pointin"],
            "tables.a.metrics: metric 'pointin': of none of the test s",
        ),
        (
            ["scales", "tiny", "evaluate", "probe"],
            ["fin"],
            "evaluate: probe names 'fin', which sets has not; allowed: fine, coarse",
        ),
        (
            ["scales", "tiny", "evaluate", "probe"],
            ["sketch"],
            "'sketch', of which the world has no .* allowed: coarse, fine, validation, entailment, or",
        ),
        (
            ["base", "resources", "pretrain", "stop_seconds"],
            7200,
            "resources.pretrain: stop_seconds = 7200 leaves none of the 120 minutes; allowed: 1 to 7199",
        ),
        (["base", "source", "filters"], {"unsafe": {"colum": "NSFW", "keep": ["UNLIKELY"]}}, "did you mean 'column'"),
        (["variants", "clip", "reconstruction"], {"weight": 1.0}, "reconstruction.weight needs removed patches"),
        (
            ["variants", "clip", "contrastive"],
            {"weight": 0.0},
            "no loss: give one of these a value above 0: captioning.weight, contrastive.weight",
        ),
        (["variants", "mae", "masking"], {"image": 0.75, "text": 0.5}, "masking.text has no text tower"),
        (["variants", "mae", "form"], {"vision": {"pooling": "map"}}, "nothing that would train it"),
        (["variants", "clip", "captions"], {"fill": True}, "captions: fill = true repeats the end token"),
        (["variants", "clip", "captions"], {"start": True, "pad": 0}, "captions.pad: unknown key"),
        (["variants", "clip", "form"], {"text": {"pooling": "last"}}, "set captions.end to true, or use 'mean'"),
        (["variants", "clip", "form"], {"vision": {"pooling": "sum"}}, "vision.pooling: Input should be 'mean', 'cl"),
        (
            ["variants", "text-random"],
            {"masking": {"text": 0.5}, "captions": {"end": True}, "form": {"text": {"pooling": "last"}}},
            "masking.text would remove the end token",
        ),
        (
            ["variants", "clip"],
            {"model": {"tokens": 1}, "captions": {"end": True}},
            "leaves no token position for words",
        ),
        (["variants", "clip"], {"model": {"tokns": 9}}, r"model.tokns: unknown key; did you mean 'tokens'\?"),
        (["variants", "clip"], {"tokenizer": {"kind": "clip"}}, "tokenizer belongs to the whole scale; move it"),
        (["variants", "clip"], {"sigmoid": {"bias": "equal"}}, "sigmoid.bias.*'matched'"),
        (
            ["scales", "tiny", "train", "batch"],
            20000,
            r"train.batch x train.batch_scale = 20000 .* allowed: 1 to 16500",
        ),
        (
            ["scales", "tiny", "shards"],
            {"compact": {"image_size": 8, "quality": 90}},
            "shards.compact.image_size = 8 has fewer pixels than model.image = 48",
        ),
    ],
)
def test_mistakes_are_named(project, path, value, message):
    with pytest.raises(ParameterError, match=message):
        broken(project, path, value).check()


def test_tables_leave_out_the_metrics_of_sets_that_a_scale_does_not_have(project):
    assert project.tables["pooling"].metrics == ["fine", "coarse", "retrieval-image-r1", "pointing"]
    public = read_project("params.yaml", "cc12m")
    assert public.tables["pooling"].metrics == ["imagenet1k", "cifar10", "flickr30k-image-r1"]
    assert "pointing" not in public.baseline.evaluate.sets
    nothing = broken(project, ["scales", "tiny", "evaluate", "sets", "pointing"], None)
    nothing.tree["tables"]["pooling"]["metrics"] = ["pointing"]
    with pytest.raises(ParameterError, match=r"tables.pooling at scale 'tiny': metrics: List should have at"):
        nothing.check()


def test_tables_may_be_of_some_scales(project):
    """FLIP's Tables 4 to 6 need sets that a world has not; of those that a scale lacks, the name is known."""
    public = read_project("params.yaml", "laion400m")
    others = {"zero-shot", "robustness", "retrieval"}
    assert set(public.tables) - set(project.tables) == others
    assert not others & set(project.of("ablations").tables)
    asked = project.tree["tables"]["zero-shot"]["metrics"]
    assert len(asked) == 25
    assert lacking([public.metric(one) for one in asked], public.places) == [
        "birdsnap",
        "ucf101",
        "kinetics700",
        "hateful-memes",
    ]
    assert public.tables["zero-shot"].metrics == [one for one in asked if public.places[one]]
    measures = {public.baseline.evaluate.measure(role) for role in ("aircraft", "voc2007", "cars")}
    assert measures == {"mean-per-class", "map-11", "accuracy"}


def test_an_unknown_scale_or_top_level_key_is_named(tmp_path):
    with pytest.raises(ParameterError, match=r"unknown scale 'tinny'; did you mean 'tiny'\?"):
        read_project("params.yaml", "tinny")
    (tmp_path / "params.yaml").write_text("scael: tiny\n")
    with pytest.raises(ParameterError, match=r"unknown key 'scael'; did you mean 'scale'\?"):
        read_project(tmp_path / "params.yaml")


def test_merge_replaces_leaves_and_keeps_the_rest():
    base = {"a": {"b": 1, "c": [1, 2]}, "d": 4}
    assert merge(base, {"a": {"c": [3]}}) == {"a": {"b": 1, "c": [3]}, "d": 4}
    assert base == {"a": {"b": 1, "c": [1, 2]}, "d": 4}


def test_frozen_parameters_read_back_the_same(project, tmp_path):
    for name, params in project.variants.items():
        path = tmp_path / f"{name}.yaml"
        path.write_text(dump(params))
        assert load(path) == params


def test_tuning_starts_where_its_variant_ended(project):
    start, tuned = project.variants["flip-75"], project.variants["flip-75-tuned"]
    assert tuned.masking.image == 0
    assert tuned.train.global_batch == start.train.global_batch
    assert tuned.train.epochs < start.train.epochs
    assert tuned.train.base_lr < start.train.base_lr
    assert tuned.model == start.model


def test_a_variant_names_a_model_or_changes_sizes(project):
    named = broken(project, ["variants", "clip"], {"model": "b16"}).resolve("clip").model
    changed = broken(project, ["variants", "clip"], {"model": {"tokens": 77}}).resolve("clip").model
    assert named.vision.width == 768
    assert changed == project.resolve("clip").model.model_copy(update={"tokens": 77})
    start = broken(project, ["variants", "flip-50", "model"], {"tokens": 77})
    assert start.resolve("flip-50-tuned").model.tokens == 77


def test_laion400m_is_the_papers_recipe():
    """Tables 9 and 10, and the batches of Table 1a; and what TPUs multiply in."""
    variants = read_project("params.yaml", "laion400m").variants
    params = variants["clip"]
    train, model = params.train, params.model
    assert (train.betas, train.weight_decay, train.base_lr, train.epochs) == ((0.9, 0.95), 0.2, 4e-6, 6.4)
    assert (train.warmup_samples, train.precision) == (51_200_000, "bfloat16")
    assert (params.logits.temperature, params.logits.max_scale) == (0.07, 100)
    assert (model.image, model.patch, model.embedding, model.tokens) == (224, 16, 768, 32)
    assert tuple(model.vision.model_dump().values()) == (24, 1024, 16)
    assert tuple(model.text.model_dump().values()) == (12, 768, 12)
    assert [variants[v].train.global_batch for v in ("clip", "flip-50", "flip-75")] == [16384, 32768, 65536]
    assert params.augmentation.crop_area == (0.5, 1.0)
    tuned = variants["flip-50-tuned"].train
    assert (tuned.epochs, tuned.base_lr, tuned.warmup_samples) == (0.32, 4e-8, 25_600_000)


def test_resolving_imports_no_torch():
    code = "import sys, flip.config.resolve, flip.provenance.environment as _; "
    code += "assert not {'torch', 'snakemake', 'dvc'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_command_explains_and_fails_without_a_traceback():
    words = [sys.executable, "-m", "flip", "params", "flop-50"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("params.yaml, variants: unknown variant 'flop-50'; did you mean 'flip-50'?")


def test_the_parts_of_a_project_resolve_as_it_does(project):
    """Variants are resolved once for all reports."""
    for report in project.reports:
        part = project.of(report)
        assert part.variants is project.variants
        assert {name: part.resolve(name) for name in part.named} == {name: part.variants[name] for name in part.named}
