"""Every parameter refuses what cannot be meant; names become paths and collide with nothing; metrics exist; and all
faults are told at once."""

import copy
import re
import subprocess
import sys
from collections import Counter

import pytest
from annotated_types import Ge, Gt, Le, Lt

from flip.config import consistency, roles
from flip.config.faults import SHOWN, ParameterError, check
from flip.config.frozen import to_yaml
from flip.config.resolve import Project, read_project
from flip.config.schema import Params
from flip.config.sections.types import Section
from flip.evaluate import retrieval
from flip.metrics import sets as set_names
from flip.synthetic import composition, questions, shifts
from tests.commands import flip
from tests.test_params import broken

pytestmark = pytest.mark.long(2)

SMALL = {"embedding": 8, "tokens": 9} | {side: {"layers": 1, "width": 8, "heads": 1} for side in ("vision", "text")}
HUGE = (float("inf"), float("-inf"), float("nan"), 1e31, -1e31, 2**70, -(2**70))
NO_TEXT = ("", " ", " x", "x\n", "a\0b", "a\x1bb", "\u200b", "x" * 20_000)


def leaves(tree, path=()):
    """Paths and values; a list is a value."""
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, (*path, key))
        else:
            yield (*path, key), value


def replaced(tree: dict, path, value) -> dict:
    tree = copy.deepcopy(tree)
    place = tree
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return tree


def accepted(tree: dict) -> bool:
    try:
        check(Params, tree, "test")
    except ParameterError:
        return False
    return True


@pytest.fixture(scope="module")
def trees(project):
    """Parameters of variants that between them have a number where others have null."""
    tree = project.resolve("sigmoid").model_dump(mode="json")
    full = project.resolve("msiglip-bottleneck").model_dump(mode="json")
    full["source"]["filters"] = {"similarity": {"column": "c", "at_least": 0.3}, "size": {
        "width_column": "w", "height_column": "h", "min_side": 1, "max_aspect_ratio": 2.0}}  # fmt: skip
    full["shards"]["compact"] = {"image_size": 64, "quality": 90}
    full["source"] |= {"sample": 5, "sha256_column": "s", "translations": "t"}
    full["train"] |= {"checkpoint_samples": 5, "micro_batch": 16}
    full["resources"]["pretrain"]["gpu_memory_mb"] = 5
    full["logits"]["max_scale"], full["codebook"]["weights"] = 50.0, "x.safetensors"
    assert accepted(tree)
    assert accepted(full)
    return tree, full


def test_no_number_may_be_infinite_none_or_of_another_type(trees):
    wrong = []
    for tree in trees:
        for path, value in leaves(tree):
            if isinstance(value, bool):
                others = (0, 1, 0.0, "true", None, [True])
            elif isinstance(value, int | float):
                others = (
                    *HUGE,
                    True,
                    False,
                    str(value),
                    [value],
                    {},
                    *([value + 0.5] if isinstance(value, int) else []),
                )
            else:
                continue
            wrong += [(path, other) for other in others if accepted(replaced(tree, path, other))]
    assert not [(path, other) for path, other in wrong if not (path[-1] == "bias" and other is None)]


def test_every_text_can_be_seen_and_every_name_is_there_once(trees):
    wrong = []
    for tree in trees:
        for path, value in leaves(tree):
            if isinstance(value, str):
                others = (*NO_TEXT, 5, True, {"a": 1}, [value])
            elif isinstance(value, list) and value:
                others = ([*value, value[0]], [*value, None], 5, "x", {"a": 1}, [[value[0]]])
            else:
                continue
            wrong += [(path, other) for other in others if accepted(replaced(tree, path, other))]
    # What else a bias may be; and values of a sweep are of any kind, until they meet their key (tests/test_sweep.py).
    assert not [
        (path, other) for path, other in wrong if (path, other) != (("sigmoid", "bias"), 5) and path[0] != "sweep"
    ]


def test_no_section_is_a_list_or_takes_more_keys(trees):
    tree = trees[0]
    sections = {path[:n] for path, _ in leaves(tree) for n in range(1, len(path))}
    free = {("sweep",), ("evaluate", "sets"), ("evaluate", "languages"), ("evaluate", "measures")}
    assert not [path for path in sections for other in ([], 3, "x", [1]) if accepted(replaced(tree, path, other))]
    assert not [path for path in sections - free if accepted(replaced(tree, (*path, "more"), 1))]


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["train", "betas"], [1, 1], r"train.betas.0: Input should be less than 1 \(value: 1\)"),
        (["train", "betas"], [0.9, 1.0], r"train.betas.1: Input should be less than 1"),
        (["train", "betas"], [0.9], r"train.betas"),
        (["train", "base_lr"], 1e30, r"train.base_lr: Input should be less than or equal to 10"),
        (["train", "weight_decay"], -0.1, r"train.weight_decay: Input should be greater than or equal to 0"),
        (["train", "epochs"], 1e-5, r"train.epochs x train.epochs_scale = 1e-05 .* less than one batch of 32"),
        (["train", "warmup_samples"], 10**6, r"1,000,000 are not before the end of the schedule, 105,600"),
        (["augmentation", "crop_area"], [0.0, 1.0], r"crop_area.0: Input should be greater than 0"),
        (["augmentation", "crop_area"], [1.0, 0.5], r"crop_area: 1 to 0.5 is not a range; put the smaller"),
        (["augmentation", "crop_aspect"], [1.3, 0.75], r"crop_aspect: 1.3 to 0.75 is not a range"),
        (["simclr", "views", "blur_sigma"], [2.0, 0.1], r"blur_sigma: 2 to 0.1 is not a range"),
        (["simclr", "views", "crop_area"], [1.0, 0.08], r"crop_area: 1 to 0.08 is not a range"),
        (["transfer", "finetuning", "augmentation", "crop_area"], [1.0, 0.08], r"crop_area: 1 to 0.08 is not a range"),
        (["seeds"], [0, 0], r"seeds: '0' is there twice; leave one of them"),
        (["seeds"], [-1], r"seeds.0: Input should be greater than or equal to 0 \(value: -1\)"),
        (["seeds"], [2**32], r"seeds.0: Input should be less than 4294967296"),
        (["seeds"], [], r"seeds: List should have at least 1 item"),
        (["seeds"], [True], r"seeds.0: Input should be a valid integer"),
        (["evaluate", "probe"], ["fine", "fine"], r"evaluate.probe: 'fine' is there twice"),
        (["evaluate", "measures"], {"retrieval": "auc"}, r"evaluate.measures.retrieval: is for sets with classes"),
        (["bootstrap", "confidence"], 0.9999999, r"resamples = 2000 leave none beyond either end .* allowed: 2000000"),
        (["bootstrap", "resamples"], 10, r"resamples = 10 leave none .* allowed: 40 and more"),
        (["logits", "temperature"], 0.001, r"temperature = 0.001 begins at a scale of 1000; allowed: 0.01 to 1"),
        (["reconstruction", "width"], 66, r"reconstruction: width 66 is not a multiple of 4"),
        (["reconstruction", "heads"], 3, r"reconstruction: width 64 is not a multiple of heads 3"),
        (["codebook", "batch"], 10**6, r"codebook: samples = 40000 are less than a batch of 1000000"),
        (["codebook", "decay"], 1.0, r"codebook.decay: Input should be less than 1"),
        (["download", "timeout"], 0, r"download.timeout: Input should be greater than 0"),
        (["source", "table"], "--help", r"source.table: begins with '-', as options do"),
        (["source", "url_column"], "", r"source.url_column: blank"),
        (["source", "filters"], {"unsafe": {"column": "n", "keep": ["A", "A"]}}, r"keep: 'A' is there twice"),
        (["tokenizer", "kind"], "bert", r"tokenizer: path = null, and kind = 'bert' needs a folder"),
        (["evaluate", "sets", "mine"], "world", r"evaluate: sets.mine = 'world', which has no such set; known: fine"),
        (["evaluate", "sets", "../x"], "./mine", r"evaluate.sets.../x.\[key\]: String should match"),
        (["evaluate", "sets", "retrieval-de"], "./mine", r"sets.retrieval-de has the name of a set of languages"),
        (["model"], {"image": 10**6}, r"model.image: Input should be less than or equal to 8192"),
        (["model"], SMALL | {"image": 4096, "patch": 1}, r"image 4096 has 16,777,216 patches .* allowed: up to 65,536"),
        (["model"], {"tokens": 0}, r"model.tokens: Input should be greater than 0"),
        (["model"], ["tiny"], r"unknown model '\['tiny'\]'; did you mean 'tiny'\?"),
        (["larger"], "huge", r"unknown model 'huge'; known: b16"),
        (["to_fit"], 3, r"scales\.tiny\.to_fit: no mapping of variants to keys of train; .*\(value: 3\)"),
        (["to_fit"], {"clip": {"micro_bach": 2}}, r"to_fit\.clip: unknown key 'micro_bach'; did you mean"),
        (["tuning"], 3, r"tuning at scale 'tiny': not a mapping of keys \(value: 3\)"),
        (["train"], [], r"train: Input should be an object"),
    ],
)  # fmt: skip
def test_values_that_would_train_in_vain_are_refused(project, path, value, message):
    tree = copy.deepcopy(project.tree)
    place = tree["scales"]["tiny"]
    for key in path[:-1]:
        place = place.setdefault(key, {})
    place[path[-1]] = value
    with pytest.raises(ParameterError, match=message):
        Project(tree, "tiny").check()


NAMES = ("--help", "-x", "..", "../x", "a/b", "a.b", "A", "", "é", "a b", "a\n", "x" * 65, "a_b")


@pytest.mark.parametrize("section", ["models", "scales", "variants", "reports", "tables"])
def test_names_are_words_that_no_path_and_no_option_is(project, section, tmp_path):
    for name in NAMES:
        tree = project.tree | {section: project.tree[section] | {name: next(iter(project.tree[section].values()))}}
        with pytest.raises(ParameterError, match=rf"{section}\..*\[key\]: String should"):
            read_project(written(tree, tmp_path))


def written(tree, folder):
    path = folder / "params.yaml"
    path.write_text(to_yaml(tree))
    return path


@pytest.mark.parametrize(
    "name", ["data", "report", "variant", "specs", "mirror", "table", "pretrain", "page", "shards"]
)
def test_a_report_is_no_rule(project, name):
    """Of the workflow as it is, not of a list."""
    changed = broken(project, ["reports", name], project.tree["reports"]["ablations"])
    changed.tree["tables"]["a"]["report"] = name
    with pytest.raises(ParameterError, match=rf"reports.{name}: has the name of a rule of the workflow"):
        changed.check()


def test_the_rules_are_those_of_the_workflow():
    said = subprocess.run(
        [sys.executable, "-m", "snakemake", "--list-rules"], capture_output=True, text=True, check=True
    )
    listed = set(re.findall(r"^(\w+)(?: \(.*)?$", said.stdout, re.MULTILINE))
    assert consistency.rules() <= listed
    project = read_project()
    assert listed - consistency.rules() == {*project.reports, *project.groups}


@pytest.mark.parametrize("group", ["variant", "systems"])
def test_a_group_of_reports_has_a_name_of_its_own(project, group):
    changed = broken(project, ["reports", "reductions", "group"], group)
    with pytest.raises(ParameterError, match=f"group '{group}' has the name of a report or a rule"):
        changed.check()
    assert {"reductions", "resolution", "curation"} <= {*project.groups["beyond"]}


@pytest.mark.parametrize("name", ["tables", "ledger", "figure-costs", "time-jobs", "scaling-laws"])
def test_a_table_overwrites_no_other_file(project, name):
    changed = broken(project, ["tables", name], project.tree["tables"]["a"] | {"title": "Again"})
    with pytest.raises(ParameterError, match=rf"tables.{name}: has the name of a file that reports write"):
        changed.check()


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["tables", "a", "metrics"], ["fine-typo"], r"'fine-typo': fine has none; did you mean 'fine-probe'\?"),
        (
            ["tables", "a", "metrics"],
            ["retrieval-image-r7"],
            r"did you mean 'retrieval-image-r.*'\?; known: retrieval-im",
        ),
        (["tables", "a", "metrics"], ["fine-prob"], r"did you mean 'fine-probe'\?"),
        (["tables", "a", "metrics"], ["fine-image-r1"], r"'fine-image-r1': fine has none"),
        (["tables", "a", "metrics"], ["retrieval"], r"'retrieval': retrieval has none"),
        (["tables", "a", "metrics"], ["retrieval-probe"], r"'retrieval-probe': retrieval has none"),
        (["tables", "a", "metrics"], ["coarse-masked"], r"'coarse-masked': coarse has none"),
        (["tables", "a", "metrics"], ["caption-cidre"], r"did you mean 'caption-cider'\?"),
        (["tables", "a", "metrics"], ["vqa-color"], r"did you mean 'vqa-colour'\?"),
        (["tables", "a", "metrics"], ["composition-swap"], r"did you mean 'composition-swap-"),
        (["tables", "a", "metrics"], ["entailment"], r"'entailment': entailment has none"),
        (["tables", "a", "metrics"], ["pointing-image"], r"'pointing-image': pointing has none"),
        (["tables", "a", "metrics"], ["retrieval-fr-image-r1"], r"retrieval has none; did you mean 'retrieval-"),
        (["tables", "a", "metrics"], ["fine", "fine"], r"metrics: 'fine' is there twice"),
        (["tables", "a", "variants"], ["clip", "clip"], r"variants: 'clip' is there twice"),
        (["tables", "b", "metrics"], ["foo101"], r"'foo101': of none of the test sets .*did you mean 'food101'"),
        (["tables", "zero-shot", "metrics"], ["food102"], r"tables.zero-shot.metrics: .*did you mean 'food101'\?"),
        (["tables", "e", "metrics"], ["fine-ensembl"], r"did you mean 'fine-ensemble'\?"),
        (["tables", "schedules", "variants"], ["clip-short"], r"reports.scaling.scaling.laws.mask 0%: no table"),
        (["tradeoff", "metric"], "fine-typo", r"tradeoff.metric: .*did you mean 'fine-probe'\?"),
        (["tradeoff", "metric"], "fien", r"tradeoff.metric: .*did you mean 'fine'\?"),
        (["tradeoff", "curves"], {"a": []}, r"curves.a: Value should have at least 1 item"),
        (["tradeoff", "curves"], {"a": ["clip", "clip"]}, r"curves.a: 'clip' is there twice"),
        (["tradeoff", "curves"], {"a\x1b": ["clip"]}, r"tradeoff: curves.a.*character '\\x1b' cannot be printed"),
        (["reports", "scaling", "title"], "", r"reports.scaling: title: blank"),
        (["reports", "scaling", "scaling", "laws"], {}, r"laws: Dictionary should have at least 1 item"),
        (["reports", "scaling", "scaling", "metric"], "fine-prob", r"scaling.*: no table of this report has a row"),
    ],
)
def test_wrong_metrics_tables_and_figures_are_refused_when_read(project, path, value, message):
    with pytest.raises(ParameterError, match=message):
        broken(project, path, value).check()


def test_masked_inference_needs_a_variant_that_is_masked(project):
    changed = broken(project, ["tables", "sigmoid-batch", "metrics"], ["fine", "fine-masked"])
    with pytest.raises(ParameterError, match=r"sigmoid-batch.metrics: 'fine-masked', but no variant of the table has"):
        changed.check()


@pytest.mark.parametrize("role", ["fine-masked", "coarse-probe", "retrieval-image", "caption-cider", "vqa-colour"])
def test_no_set_has_the_name_of_a_metric(project, role):
    with pytest.raises(ParameterError, match=rf"a metric of '.*' goes by the name of the set '{role}'"):
        broken(project, ["scales", "tiny", "evaluate", "sets", role], "./mine").check()


def test_a_folder_has_the_metrics_of_what_it_is_for(tmp_path):
    assert roles.TestSet("mine", str(tmp_path / "absent")).has("-image-r1")  # nobody can tell yet
    (tmp_path / "dataset_type.txt").write_text("retrieval\n")
    mine = roles.TestSet("mine", str(tmp_path))
    assert mine.has("-image-r1")
    assert not mine.has("-probe")
    assert roles.TestSet("voc", "testsets/wds_voc2007_multilabel").kind == "multilabel"
    (tmp_path / "dataset_type.txt").write_text("composition\n")
    assert roles.TestSet("sugar", str(tmp_path)).has("-replace-att")  # it has pairs of its own kinds
    assert not roles.TestSet("composition", "world").has("-replace-att")
    assert roles.TestSet("nocaps", str(tmp_path)).has("-in-domain-cider")
    assert not roles.TestSet("nocaps", str(tmp_path)).has("-in-domain-cidre")
    assert not roles.TestSet("vqa", str(tmp_path)).has("-colour")  # its questions are of no kind


def test_a_folder_for_nothing_that_is_measured_is_named(project, tmp_path):
    (tmp_path / "dataset_type.txt").write_text("pointin\n")
    changed = broken(project, ["scales", "tiny", "evaluate", "sets", "mine"], str(tmp_path))
    with pytest.raises(ParameterError, match=r"evaluate.sets.mine: '.*' is for 'pointin', .*did you mean 'pointing'\?"):
        changed.check()
    (tmp_path / "dataset_type.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(ParameterError, match=r"evaluate.sets.mine: '.*' is for 'what is no text', .*known: class"):
        Project(changed.tree, "tiny").check()


def test_metrics_are_named_where_they_are_made():
    assert set_names.RECALLS is retrieval.RECALLS
    assert tuple(composition.CHANGES) == set_names.PAIRS
    assert tuple(set_names.WORLD) == shifts.SETS
    with_classes = {name for name, kind in set_names.WORLD.items() if kind in ("classification", "entailment")}
    assert with_classes == {name for name in shifts.SETS if shifts.classes(name)}
    asked = questions.questions.__code__.co_consts + questions.between.__code__.co_consts
    assert set(set_names.QUESTIONS) <= set(asked)


def test_all_faults_are_told_at_once_and_each_once(project):
    tree = copy.deepcopy(project.tree)
    tree["base"]["train"]["weight_decay"] = -1.0
    tree["variants"]["clip-half"] = {"train": {"epochs_scale": 0.0}}
    tree["tables"]["a"]["metrics"] = ["fine-typo"]
    tree["tables"]["b"]["variants"] = ["flop-50"]
    tree["scales"]["gpu"]["train"]["bacth"] = 5
    tree["models"]["h14"]["image"] = -5
    with pytest.raises(ParameterError) as refused:
        Project(tree, "tiny").check()
    said = str(refused.value)
    assert said.count("weight_decay: Input should be greater than or equal to 0 (value: -1.0)") == 1
    assert f"(so in {len(tree['variants']) + len(tree['scales'])} variants and scales)" in said
    for one in (
        "variant 'clip-half' at scale 'tiny': train.epochs_scale: Input should be greater than 0",
        "tables.b.variants: unknown variant 'flop-50'; did you mean 'flip-50'?",
        "scale 'gpu': train.bacth: unknown key; did you mean 'batch'?",
        "models.h14: image: Input should be greater than 0",
    ):
        assert one in said
    assert len(said.splitlines()) < 12


def test_many_faults_are_counted(project):
    tree = copy.deepcopy(project.tree)
    for number, name in enumerate(tree["variants"]):
        tree["variants"][name] = {"train": {"epochs_scale": -1.0 - number}}
    with pytest.raises(ParameterError) as refused:
        Project(tree, "tiny").check()
    lines = str(refused.value).splitlines()
    assert len(lines) == SHOWN + 2
    assert lines[-1] == f"  and {len(tree['variants']) - SHOWN} more"


@pytest.mark.parametrize(
    "words",
    [
        ["params", "../x"],
        ["params", "--", "--help"],
        ["params", "clip", "--scale", "../x"],
        ["params", "clip", "--params", "nowhere.yaml"],
        ["trace", "a", "../x", "fine"],
        ["trace", "../a", "clip", "fine"],
        ["show", "../x", "text"],
        ["curve", "../x"],
        ["curve", "--", "--help"],
        ["export", "--variant", "../x", "--format", "timm", "--out", "nowhere"],
        ["export", "--variant=", "--format", "timm", "--out", "nowhere"],
        ["import", "--variant", "../x", "--format", "timm", "--source", "nowhere", "--out", "nowhere"],
    ],
)
def test_commands_take_no_path_for_a_variant(words, capsys, monkeypatch):
    monkeypatch.setattr("os.nice", lambda _: None)  # of this process
    flip(*words, code=1)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "nowhere" in said or "../" in said or "--help" in said or "''" in said


def sections(section=Params):
    """A section's class, and those of the sections in it."""
    yield section
    for field in section.model_fields.values():
        for one in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(one, type) and issubclass(one, Section):
                yield from sections(one)


def test_each_field_has_one_limit_a_side():
    """Of two, pydantic heeds one, and not the stricter."""
    for section in set(sections()):
        for name, field in section.model_fields.items():
            limits = Counter(type(one) for one in field.metadata if isinstance(one, Le | Lt | Ge | Gt))
            assert not limits or max(limits.values()) == 1, (section, name)


def test_limits_of_their_own_hold(project):
    for path, value in {
        ("download", "parts"): 10**5 + 1,
        ("download", "timeout"): 3601,
        ("train", "batch_scale"): 10_001,
        ("world", "images"): 10**9 + 1,
        ("resources", "evaluate", "minutes"): 525_601,
    }.items():
        tree = replaced(project.resolve("clip").model_dump(mode="json"), path, value)
        with pytest.raises(ParameterError, match=f"{'.'.join(path)}: Input should be less than or equal to"):
            check(Params, tree, "test")
