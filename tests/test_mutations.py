"""What becomes of params.yaml under fingers, merges and editors: it is refused in words, or means what it says.

Whether a file that is accepted means what it says is judged without the code under test: by PyYAML (YAML 1.1) and
ruamel (1.2) reading it, and by merging what they read here once more.
"""

import copy
import json
import re
import shutil

import pytest
import yaml
from ruamel.yaml import YAML

from flip.config.faults import ParameterError
from flip.config.resolve import read_project
from tests.miniature import ROOT
from tests.mutations import TEXT, mutated, short

pytestmark = pytest.mark.long(2)

SHORT = short()
SOME, ALL = range(200), range(10_000)
FULL_FILE = 20  # each so many-th mutation is one of the whole file
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")


def merged(base, delta):
    """`base` with what `delta` says, key by key."""
    if not isinstance(base, dict) or not isinstance(delta, dict):
        return delta
    return {**base, **{key: merged(base.get(key), value) for key, value in delta.items()}}


def sized(tree: dict, models: dict) -> dict:
    """With the sizes of the model that is named."""
    name = tree["model"]
    name = tree["larger"] if name == "larger" else name
    return tree if isinstance(name, dict) else {**tree, "model": copy.deepcopy(models[name])}


def expected(tree: dict, scale: str, variant: str) -> dict:
    """What the variant's parameters have to be."""
    found = merged(tree["base"], tree["scales"][scale] or {})
    tuning, own = found.pop("tuning", {}), tree["variants"][variant] or {}
    fitted = {"train": found.pop("to_fit", {}).get(variant, {})}
    start = [tree["variants"][own["start"]] or {}, tuning] if own.get("start") else []
    found = sized(found, tree["models"])
    for delta in [*start, own, fitted]:
        found = sized(merged(found, delta), tree["models"])
    found.pop("larger")
    model, ratio = found["model"], found.pop("resolution", 1.0)
    if ratio != 1:  # fewer or more complete patches
        side = model["patch"] * max(round(model["image"] * ratio / model["patch"]), 1)
        whole = {"full_image": model["image"]} if side < model["image"] and not model["image"] % model["patch"] else {}
        found["model"] = {**model, "image": side, **whole}
    if start and found["form"]["vision"]["positions"] == "sincos":  # positions are those of the first stage
        first = expected(tree, scale, own["start"])["model"]
        first = first.get("first_image") or first["image"]
        found["model"] = {**found["model"], "first_image": first if first != found["model"]["image"] else None}
    for sets in ("sets", "languages"):
        places = found["evaluate"][sets]
        found["evaluate"] = {
            **found["evaluate"],
            sets: {role: place for role, place in places.items() if place is not None},
        }
    return {**found, "scale": scale, "variant": variant}


def alike(entries: dict) -> dict:
    """The entries, each with what it is like below it."""

    def whole(name: str) -> dict:
        own = dict(entries[name] or {})
        return merged(whole(own.pop("like")), own) if "like" in own else own

    return {name: whole(name) for name in entries}


def gathered(tree: dict, folder) -> dict:
    """The tree with what the reports' files hold, and with what is like something else."""
    tables, tradeoff, reports = {}, None, {}
    for name, report in tree["reports"].items():
        report = read_twice((folder / report).read_text()) if isinstance(report, str) else dict(report)
        tables |= {one: {**table, "report": name} for one, table in report.pop("tables", {}).items()}
        figure = report.pop("tradeoff", None)
        tradeoff = {**figure, "report": name} if figure else tradeoff
        reports[name] = report
    found = {**tree, "reports": reports, "tables": tables, "tradeoff": tradeoff}
    return {**found, **{one: alike(found[one]) for one in ("scales", "variants", "tables")}}


def unsaid(said, found, path="") -> list[str]:
    """Where what was said is not what was found; what is found besides was left to its default, null or absent."""
    if isinstance(said, dict) and isinstance(found, dict):
        more = [key for key in found.keys() - said.keys() if found[key] not in (None, False, 0)]
        return [f"{path}.{key} unsaid" for key in more] + [
            fault for key in said for fault in unsaid(said[key], found.get(key), f"{path}.{key}")
        ]
    same_kind = isinstance(said, bool) == isinstance(found, bool) and isinstance(said, str) == isinstance(found, str)
    if isinstance(said, list) and isinstance(found, list) and len(said) == len(found):
        return [fault for one, other in zip(said, found, strict=True) for fault in unsaid(one, other, f"{path}[]")]
    return [] if same_kind and said == found else [f"{path}: {said!r} became {found!r}"]


def read_twice(text: str) -> dict:
    """By both versions of YAML, which have to agree, without a key twice, a date, or a number that is none."""
    old, new = yaml.load(text, yaml.CSafeLoader), YAML(typ="safe", pure=True).load(text)
    assert json.dumps(old, sort_keys=True, allow_nan=False) == json.dumps(new, sort_keys=True, allow_nan=False)
    return new


def must_mean_what_it_says(path, tree: dict) -> None:
    """Of an accepted file, at each scale where it is accepted."""
    for key in ("models", "scales", "variants", "reports", "tables"):
        assert all(NAME.fullmatch(name) for name in tree[key]), f"names in {key}"
    for scale in tree["scales"]:
        try:
            project = read_project(path, scale).check()
        except ParameterError:
            assert scale != tree["scale"]
            continue
        for name, params in project.variants.items():
            assert not (faults := unsaid(expected(tree, scale, name), params.model_dump(mode="json"))), (name, faults)
        assert project.variants.keys() == tree["variants"].keys()
        assert project.reports.keys() == tree["reports"].keys()
        for name, report in project.reports.items():
            said = copy.deepcopy(tree["reports"][name])
            if law := said.get("scaling"):
                law["metric"] = led(law["metric"], project.baseline.evaluate.model_dump())
            assert not (faults := unsaid(said, report.model_dump(mode="json"))), (name, faults)
        must_show_what_it_says(project, tree)


def led(metric: str, evaluate: dict) -> str:
    """The metric, of the set that leads where it says so."""
    return re.sub("^primary(?=-|$)", evaluate["primary_set"], metric)


def must_show_what_it_says(project, tree: dict) -> None:
    """Of tables, but for metrics of sets that the scale does not have, and of the figure."""
    evaluate, transfer = (
        merged(tree["base"], tree["scales"][project.scale] or {})[one] for one in ("evaluate", "transfer")
    )
    places = {**evaluate["sets"], **{f"retrieval-{one}": place for one, place in evaluate["languages"].items()}}
    there = [role for role, place in (places | transfer).items() if place is not None]
    for name, said in tree["tables"].items():
        if project.scale in (said.get("scales") or [project.scale]):
            asked = [led(one, evaluate) for one in said["metrics"]]
            shown = [one for one in asked if any(re.fullmatch(rf"{role}(-.*)?", one) for role in there)]
            if shown or name in project.tables:
                found = project.tables[name].model_dump(mode="json")
                assert not (faults := unsaid({**said, "metrics": shown}, found)), (name, faults)
    if tree["tradeoff"]:
        figure = {**tree["tradeoff"], "metric": led(tree["tradeoff"]["metric"], evaluate)}
        assert not unsaid(figure, project.tradeoff.model_dump(mode="json"))


def outcome(path, content: bytes) -> str:
    """What becomes of a file: 'refused', 'accepted', or what is wrong with that."""
    path.write_bytes(content)
    try:
        read_project(path).check()
    except ParameterError as error:
        return "refused" if str(error).strip() else "refused without a word"
    except Exception as error:  # any other is a traceback to the user
        return f"traceback: {type(error).__name__}: {error}"
    try:
        must_mean_what_it_says(path, gathered(read_twice(content.decode("utf-8-sig")), path.parent))
    except Exception as error:
        return f"accepted in silence: {type(error).__name__}: {str(error)[:300]}"
    return "accepted"


@pytest.fixture(scope="module")
def seeds(request):
    return ALL if request.config.getoption("--full") else SOME


@pytest.fixture
def folder(tmp_path):
    """With the files of the reports that the whole file names."""
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    return tmp_path


def test_what_is_not_mutated_means_what_it_says(folder):
    for text in (TEXT, SHORT):
        assert outcome(folder / "params.yaml", text.encode()) == "accepted"


def test_mutations_are_refused_in_words_or_mean_what_they_say(seeds, folder):
    wrong, counts = {}, {"refused": 0, "accepted": 0}
    for seed in seeds:
        way, content = mutated(SHORT if seed % FULL_FILE else TEXT, seed)
        found = outcome(folder / "params.yaml", content)
        counts[found] = counts.get(found, 0) + 1
        if found not in ("refused", "accepted"):
            wrong[seed] = way, found
    print(f"{len(seeds)} mutations: {counts['refused']} refused, {counts['accepted']} accepted")
    assert not wrong
    assert counts["accepted"] > len(seeds) // 20 < counts["refused"]
