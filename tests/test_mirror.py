"""Public test sets are fetched once, at their commit, by the real huggingface_hub client from a stand-in for the public
hub (tests/hub.py; there is no Hugging Face here): whole, continued where they were cut off, and named where anything is
missing or has changed. FLIP's 25 sets are all known."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from flip.config import public
from flip.config.faults import ParameterError
from flip.config.frozen import dump
from flip.config.resolve import read_project
from flip.files import read_json
from flip.testsets import mirror
from flip.testsets.reader import prompts
from flip.testsets.revision import make
from tests.colour_sets import write_set
from tests.hub import COMMIT, serving
from tests.miniature import ROOT

REPOSITORY = "clip-benchmark/wds_vtab-kitti_closest_vehicle_distance"  # four classes, as there are colours
NAME = "wds/vtab/kitti_closest_vehicle_distance"
PLACE = f"{NAME}@{COMMIT}"
OWN = ["{c}", "a {c} image"]  # prompts of `write_set`


@pytest.fixture
def files(tmp_path):
    folder = write_set(tmp_path / "upstream")
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    found["test/0.tar"] += bytes(200_000)  # tars may end in zeros: large enough to be cut off in the middle
    del found["revision.json"]
    return found | {".gitattributes": b"*.tar filter=lfs\n", "train/nshards.txt": b"1\n", "train/0.tar": b"large"}


@pytest.fixture
def hub(files):
    with serving(REPOSITORY, files) as found:
        yield found


@pytest.fixture
def call(tmp_path, change):
    """call(hub, place) runs the command in an empty project; gives its process and the folder of the copy."""
    home = tmp_path / "project"
    home.mkdir()

    def called(hub, place=PLACE, *words):
        params = change("clip", {"evaluate": {"sets": {"cars": place}}})
        (home / "params.yaml").write_text(dump(params))
        quiet = dict.fromkeys(("HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_PROGRESS_BARS", "HF_HUB_DISABLE_XET"), "1")
        quiet |= {"HF_HUB_OFFLINE": "0"}
        environment = os.environ | quiet | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")}
        stage = ("flip.testsets.mirror", "--params", "params.yaml", "--set", "cars")
        command = [sys.executable, "-m", *(("flip", "mirror", *words) if words else stage)]
        environment |= {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, check=False)
        return done, home / public.folder(place)

    return called


def test_a_set_is_fetched_once_without_its_training_split(hub, call, files, monkeypatch):
    done, folder = call(hub)
    assert done.returncode == 0, done.stderr
    record = read_json(folder / "mirror.json")
    kept = {name for name in files if not name.startswith(("train", "."))}
    assert record["files"].keys() == kept
    assert (record["commit"], record["repository"], record["splits"]) == (COMMIT, REPOSITORY, ["test"])
    assert all((folder / name).read_bytes() == files[name] for name in kept)
    assert not (folder / "train").exists()
    monkeypatch.chdir(folder.parents[2])
    assert mirror.faults(PLACE) == []
    hub.asked.clear()
    assert call(hub)[0].returncode == 0
    assert hub.asked == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [("objectnet", ["{c}"]), ("imagenet-r", OWN), ("imagenet1k", None), ("imagenetv2", None)],
)
def test_imagenets_have_the_papers_prompts_and_other_sets_their_own(tmp_path, monkeypatch, name, expected):
    """FLIP takes 7 of CLIP's prompts, all of them for ImageNet-R (which its folder has), and bare names for
    ObjectNet."""
    monkeypatch.chdir(tmp_path)
    folder = public.folder(f"wds/{name}@{COMMIT}")
    for place in (folder, folder.parent):
        write_set(place)
        _, found = prompts(place)
        assert len(found) == 7 if expected is None else found == expected
    write_set(tmp_path / "mine")
    assert prompts(tmp_path / "mine")[1] == OWN


def test_a_fetch_that_was_cut_off_continues_in_the_middle_of_its_file(hub, call, files):
    _, folder = call(hub)
    tar = folder / "test" / "0.tar"
    (folder / "mirror.json").unlink()
    tar.unlink()
    begun = files["test/0.tar"][:150_000]
    tar.with_name("0.tar.part").write_bytes(begun)
    hub.asked.clear()
    assert call(hub)[0].returncode == 0
    sent = {path.rpartition("/")[2]: range_ for command, path, range_ in hub.asked if "resolve" in path}
    assert sent == {"0.tar": f"bytes={len(begun)}-"}
    assert tar.read_bytes() == files["test/0.tar"]
    assert not tar.with_name("0.tar.part").exists()


def test_a_fetch_that_ends_in_the_middle_leaves_no_whole_file(hub, call):
    hub.cut = {"test/0.tar"}
    done, folder = call(hub)
    assert done.returncode == 1
    assert "could not be fetched" in done.stderr
    assert not (folder / "mirror.json").exists()
    assert not (folder / "test" / "0.tar").exists()
    hub.cut = set()
    assert call(hub)[0].returncode == 0


def test_a_file_that_arrives_otherwise_is_refused(hub, call, files):
    hub.swapped = {"test/0.tar": files["test/0.tar"][:-1] + b"x"}
    done, folder = call(hub)
    assert done.returncode == 1
    assert "0.tar: arrived otherwise than the hub has it" in done.stderr
    assert not (folder / "mirror.json").exists()
    hub.swapped = {}
    assert call(hub)[0].returncode == 0


def test_a_commit_that_is_not_there_is_named(hub, call):
    done, folder = call(hub, f"{NAME}@{'f' * 40}")
    assert done.returncode == 1
    assert "could not be fetched" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (folder / "mirror.json").exists()


def test_the_newest_commit_can_be_asked_for(hub, call):
    done, _ = call(hub, PLACE, "newest", NAME)
    assert done.stdout.strip() == PLACE


SCALES = """# the sets  of two scales
scales:
  cc12m: {{evaluate: {{sets: {{fine: {0}, own: ./wds_other}}}}}}  # testsets/wds_others
  laion400m:
    evaluate:
      sets: {{fine: {1}, coarse: {2}}}
"""
FOLDER = f"testsets/{REPOSITORY.rpartition('/')[2]}"


@pytest.mark.parametrize("places", [(FOLDER, FOLDER, NAME), (NAME, f"{NAME}@{'f' * 40}", PLACE)])
def test_all_sets_of_params_yaml_are_pinned_at_once(hub, call, tmp_path, places):
    (tmp_path / "scales.yaml").write_text(SCALES.format(*places))
    done, _ = call(hub, PLACE, "pin", str(tmp_path / "scales.yaml"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == PLACE
    assert (tmp_path / "scales.yaml").read_text() == SCALES.format(PLACE, PLACE, PLACE)
    assert len(hub.asked) == 1


def test_what_cannot_be_pinned_is_named_and_the_file_stays(hub, call, tmp_path):
    path = tmp_path / "scales.yaml"
    for places, said in (
        ((NAME, NAME, "wds/cars"), "wds/cars could not be fetched"),  # the hub has no such data set
        (("world", "./own", "wds/carts"), "no set to pin; write wds/NAME"),
    ):
        path.write_text(SCALES.format(*places))
        done, _ = call(hub, PLACE, "pin", str(path))
        assert done.returncode == 1
        assert said in done.stderr
        assert "Traceback" not in done.stderr
        assert path.read_text() == SCALES.format(*places)
    assert "ask again where there is a network" in call(hub, PLACE, "newest", "wds/cars")[0].stderr


def test_the_sets_of_the_large_scales_can_be_pinned(tmp_path, monkeypatch):
    """Folders become public sets with the same names on the hub, by one that answers at once."""
    monkeypatch.setattr(mirror, "newest", lambda name: f"{name}@{COMMIT}")
    path = tmp_path / "params.yaml"
    path.write_text((ROOT / "params.yaml").read_text())
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    pinned = mirror.pin(path)
    for scale in ("cc12m", "laion400m"):
        before = read_project(ROOT / "params.yaml", scale).baseline.evaluate.sets
        after = read_project(path, scale).baseline.evaluate.sets
        assert set(after.values()) == set(pinned)
        assert {role: Path(public.named(place).hub).name for role, place in after.items()} == {
            role: Path(place).name for role, place in before.items()
        }


def test_no_network_is_named(hub, call):
    hub.url = "http://127.0.0.1:9"
    done, _ = call(hub)
    assert done.returncode == 1
    assert "where there is a network" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def here(files, tmp_path, monkeypatch):
    """A copy as `fetch` leaves it, in the working directory."""
    monkeypatch.chdir(tmp_path)
    folder = public.folder(PLACE)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    known = {
        name: {"bytes": len(content), "sha256": mirror.file_hash(folder / name)} for name, content in files.items()
    }
    (folder / "mirror.json").write_text(json.dumps({"splits": ["test"], "files": known}))
    return folder


def test_a_copy_that_is_missing_or_has_changed_is_refused(here):
    assert mirror.set_faults({"cars": PLACE, "fine": "world", "own": "some/folder"}) == []
    tar = here / "test" / "0.tar"
    content = tar.read_bytes()
    tar.write_bytes(content[:-1] + b"x")
    (here / "classnames.txt").unlink()
    changed, missing = sorted(mirror.set_faults({"cars": PLACE}), key=lambda one: "missing" in one)
    assert changed.startswith(f"evaluate.sets.cars: {public.folder(PLACE)}/test/0.tar: changed since it was fetched")
    assert f"classnames.txt: missing; delete {public.folder(PLACE)}" in missing
    (here / "mirror.json").unlink()
    with pytest.raises(ValueError, match="is not here; `snakemake mirror` fetches it"):
        mirror.require({"cars": PLACE})


def test_its_classes_are_those_of_the_registry(here, change, tmp_path, monkeypatch):
    params = change("clip", {"evaluate": {"sets": {"cars": PLACE}}})
    make(params, "cars", tmp_path / "tests" / "cars")
    assert read_json(tmp_path / "tests/cars/revision.json")["classes"] == 4
    facts = public.known() | {NAME: public.PublicSet("", REPOSITORY, "classification", 5, ())}
    monkeypatch.setattr(public, "known", lambda: facts)
    with pytest.raises(ValueError, match=r"4 classes, but wds/vtab/kitti.* has 5 by flip/config/public.yaml"):
        make(params, "cars", tmp_path / "tests" / "cars")


@pytest.mark.parametrize(
    ("evaluate", "said"),
    [
        ({"sets": {"cars": "wds/cars"}}, "'wds/cars' is not pinned: write wds/cars@COMMIT"),
        ({"sets": {"cars": "wds/cars@main"}}, "'wds/cars@main' is not pinned"),
        (
            {"sets": {"cars": f"wds/carts@{COMMIT}"}},
            "'wds/carts' is no public set of flip/config/public.yaml; allowed: ",
        ),
        ({"sets": {"cars": f"wds/ucf101@{COMMIT}"}}, "publishes no wds/ucf101 on the hub; name a folder"),
        (
            {"sets": {"cars": f"wds/cars@{COMMIT}"}, "measures": {"cars": "map"}},
            "measures.cars: map is not for images with one class",
        ),
        (
            {"sets": {"cars": f"wds/cars@{COMMIT}"}, "measures": {"cars": "auc"}},
            "measures.cars: auc is for 2 classes, not 196",
        ),
        ({"measures": {"bikes": "auc"}}, "measures names 'bikes', which sets has not"),
        ({"languages": {"de": f"wds/cars@{COMMIT}"}}, "languages.de"),
    ],
)
def test_what_is_wrong_with_a_name_is_said_before_any_job(change, evaluate, said):
    with pytest.raises(ParameterError, match=said):
        change("clip", {"evaluate": evaluate})


def test_flips_sets_are_known():
    paper = [one.paper for one in public.known().values()]
    assert len(paper) == len(set(paper)) == 33
    measures = {one.paper: one.measure for one in public.known().values() if one.measure != "accuracy"}
    per_class = dict.fromkeys(("Aircraft", "OxfordPets", "Caltech101", "Flowers102"), "mean-per-class")
    assert measures == per_class | {"Kinetics700": "top1-top5", "HatefulMemes": "auc", "VOC2007": "map-11"}
    for name, one in public.known().items():
        assert one.undefined(one.measure) is None
        assert one.sources
        # As clip-benchmark's command names the set on the hub.
        assert one.hub in (None, f"clip-benchmark/wds_{name.removeprefix('wds/').replace('/', '-')}")
    assert np.mean([one.hub is None for one in public.known().values()]) * 33 == pytest.approx(4)


OUTSIDE = (
    "test/../../../../outside", "../classnames.txt", "/etc/outside.txt", "test//0.tar", "./classnames.txt", "test/.",
    "test/.git/hooks/post-checkout", ".GIT/config", "test\\..\\0.tar", "C:outside.txt", "test/0\0.tar", "test/a\n.tar",
    "",
)  # fmt: skip


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_name_that_leads_out_of_the_folder_is_refused(here, name, monkeypatch, tmp_path):
    """In the hub's list before anything is fetched, and in the list of a set that was copied from somewhere."""
    record = json.loads((here / "mirror.json").read_text())
    (tmp_path / "testsets" / "outside").write_text("known")
    facts = {"bytes": 5, "sha256": mirror.file_hash(tmp_path / "testsets" / "outside")}
    (here / "mirror.json").write_text(json.dumps(record | {"files": record["files"] | {name: facts}}))
    said = f"a file called {name!r} leads out of the set's folder"
    (fault,) = mirror.faults(PLACE)
    assert said in fault
    (here / "mirror.json").unlink()
    listed = dict.fromkeys((*record["files"], name))
    monkeypatch.setattr(mirror, "stated", lambda *_: (COMMIT, listed))
    monkeypatch.setattr(mirror, "download", None)
    with pytest.raises(ValueError, match=re.escape(said)):
        mirror.fetch(PLACE, ["test"])


def test_a_hub_that_lists_a_file_outside_writes_none(hub, call, tmp_path):
    hub.files = hub.files | {"test/../../../../outside": b"x"}
    done, folder = call(hub)
    assert done.returncode == 1
    assert "a file called 'test/../../../../outside' leads out of the set's folder" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("outside*"))
    assert not folder.exists()


def test_a_link_that_leads_out_of_the_folder_is_refused(here, tmp_path):
    tar = here / "test" / "0.tar"
    tar.rename(tmp_path / "0.tar")
    tar.symlink_to(tmp_path / "0.tar")
    (fault,) = mirror.faults(PLACE)
    assert "a file called 'test/0.tar' leads out" in fault


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", "[" * 100_000, '{"splits": ["test"], "files": [1]}', '{"splits": 1, "files": {}}',
     '{"files": {"a": {"bytes": 1}}}', '{"splits": ["test"], "files": {"a": {"bytes": Infinity, "sha256": ""}}}'],
)  # fmt: skip
def test_a_list_that_is_none_is_named(here, content):
    (here / "mirror.json").write_text(content)
    (fault,) = mirror.faults(PLACE)
    assert fault.startswith(f"{here}/mirror.json: no list of a set's files")
    with pytest.raises(ValueError, match=r"mirror\.json: no list of a set's files"):
        mirror.fetch(PLACE, ["test"])
