"""The world's test sets: clip-benchmark reads each of them, classes are balanced, equal pictures give equal files and
a changed one another revision; a public set is checked, not touched."""

from collections import Counter

import pytest
import webdataset

import flip.torchvision_operators  # noqa: F401  (before clip_benchmark imports torchvision)
from flip.data import testsets
from flip.data.index import members
from flip.data.scenes import COARSE, FINE
from flip.data.shifts import SETS, SHIFTED
from flip.files import file_hash, read_json
from flip.params import dump

# clip-benchmark leaves the order of shards open and files unclosed.
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning",
    "ignore::ResourceWarning",
    r"ignore:WebDataset\(shardshuffle:UserWarning",
)
SIZES = {"coarse": 48, "fine": 256, "shifted": 32, "retrieval": 20, "pointing": 24}


def build(folder, name, task="zeroshot_classification"):
    from clip_benchmark.datasets.builder import build_dataset

    return build_dataset(f"wds/{name}", root=str(folder), transform=lambda image: image, task=task)


@pytest.fixture(scope="module")
def make(change, tmp_path_factory):
    """make(name, delta) runs the command and gives the set's folder."""

    def made(name, delta=None):
        folder = tmp_path_factory.mktemp("tests")
        params = change("clip", {"world": {"tests": SIZES}} | (delta or {}))
        (folder / "params.yaml").write_text(dump(params))
        testsets.main(["--params", str(folder / "params.yaml"), "--set", name, "--out", str(folder / name)])
        return folder / name

    return made


@pytest.fixture(scope="module")
def folders(make):
    return {name: make(name) for name in SETS}


@pytest.mark.parametrize("name", ["coarse", "fine", *SHIFTED])
def test_clip_benchmark_reads_balanced_classes(folders, name):
    dataset = build(folders[name], name)
    assert tuple(dataset.classes) == (FINE if name == "fine" else COARSE)
    assert all("{c}" in template for template in dataset.templates)
    samples = list(dataset)
    found = Counter(label for _, label in samples)
    size = SIZES["shifted" if name in SHIFTED else name]
    assert found == dict.fromkeys(range(len(dataset.classes)), size // len(dataset.classes))
    assert all(image.mode == "RGB" and min(image.size) >= 96 for image, _ in samples)


def test_clip_benchmark_reads_five_captions(folders):
    samples = list(build(folders["retrieval"], "retrieval", "zeroshot_retrieval"))
    assert len(samples) == SIZES["retrieval"]
    for _, captions in samples:
        assert len({caption.lower() for caption in captions}) == 5
        assert all(3 <= len(caption.split()) <= 20 for caption in captions)


def test_revisions_say_what_is_there(folders):
    for name, folder in folders.items():
        revision = read_json(folder / "revision.json")
        assert revision["set"] == name
        assert revision["source"] == "world"
        assert revision["samples"] == len(members(folder / "test" / "0.tar"))
        assert revision["classes"] == {"fine": 128, "retrieval": 0, "pointing": 0}.get(name, 16)


def test_equal_parameters_make_equal_files(folders, make):
    again = make("rendition")
    assert file_hash(again / "test" / "0.tar") == file_hash(folders["rendition"] / "test" / "0.tar")
    assert read_json(again / "revision.json") == read_json(folders["rendition"] / "revision.json")


def rewritten(folder, target, edit):
    """A copy of a set with every sample passed through `edit`."""
    (target / "test").mkdir(parents=True)
    for name in ("classnames.txt", "zeroshot_classification_templates.txt", "test/nshards.txt"):
        (target / name).write_text((folder / name).read_text())
    with webdataset.TarWriter(str(target / "test" / "0.tar"), mtime=0) as tar:
        for sample in webdataset.WebDataset(str(folder / "test" / "0.tar"), shardshuffle=False):
            tar.write(edit({key: value for key, value in sample.items() if key in ("__key__", "jpg", "cls")}))
    return target


def test_one_changed_picture_or_prompt_is_another_revision(folders, tmp_path):
    def turn_a_bit(sample):
        byte = sample["jpg"][-3] ^ (sample["__key__"] == "000007")
        return sample | {"jpg": sample["jpg"][:-3] + bytes([byte]) + sample["jpg"][-2:]}

    same = rewritten(folders["coarse"], tmp_path / "same", dict)
    other = rewritten(folders["coarse"], tmp_path / "other", turn_a_bit)
    first, second = (testsets.revision(folder, "coarse", "x") for folder in (same, other))
    assert first["samples"] == second["samples"]
    assert first["sha256"] != second["sha256"]
    (same / "zeroshot_classification_templates.txt").write_text("one {c}\n")
    assert testsets.revision(same, "coarse", "x")["sha256"] != first["sha256"]


def test_a_public_set_is_checked_and_stays_where_it_is(folders, make, tmp_path):
    public = rewritten(folders["coarse"], tmp_path / "public", dict)
    out = make("coarse", {"evaluate": {"sets": {"coarse": str(public)}}})
    assert [path.name for path in out.iterdir()] == ["revision.json"]
    assert read_json(out / "revision.json") == testsets.revision(public, "coarse", str(public))


def test_a_set_that_became_public_leaves_no_pictures_of_the_world(folders, make, change):
    out = make("viewpoint")
    params = change("clip", {"evaluate": {"sets": {"viewpoint": str(folders["coarse"])}}})
    testsets.make(params, "viewpoint", out)
    assert [path.name for path in out.iterdir()] == ["revision.json"]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("test/nshards.txt", None, "nshards.txt: missing; evaluate.sets wants 'world' or a folder"),
        ("test/nshards.txt", "many", "'many' is no number of tars"),
        ("test/nshards.txt", "2", "1.tar: missing"),
        ("classnames.txt", None, "classnames.txt: missing"),
        ("classnames.txt", "ball\nstar", "2 lines in classnames.txt, but labels from 0 to 15"),
        ("zeroshot_classification_templates.txt", None, "templates.txt: missing"),
        ("zeroshot_classification_templates.txt", "a photo", "each line needs {c}"),
        ("test/0.tar", "no tar at all", "not a whole tar"),
    ],
)
def test_a_public_set_with_a_fault_is_refused(folders, make, tmp_path, capsys, file, content, message):
    public = rewritten(folders["coarse"], tmp_path / "public", dict)
    if content is None:
        (public / file).unlink()
    else:
        (public / file).write_text(content)
    with pytest.raises(SystemExit) as stop:
        make("coarse", {"evaluate": {"sets": {"coarse": str(public)}}})
    assert stop.value.code == 1
    assert message in capsys.readouterr().err


def test_a_picture_without_a_class_is_refused(folders, tmp_path):
    public = rewritten(folders["coarse"], tmp_path / "public", lambda sample: sample | {"cls": b"ball"})
    with pytest.raises(ValueError, match=r"000000\.cls is 'ball', not the number of a class"):
        testsets.revision(public, "coarse", str(public))


def test_unknown_sets_are_refused_with_what_is_known(make, capsys):
    with pytest.raises(SystemExit):
        make("coarser")
    assert "evaluate.sets has no 'coarser'; did you mean 'coarse'?" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        make("painting", {"evaluate": {"sets": {"painting": "world"}}})
    assert "evaluate.sets.painting: the world has no such set" in capsys.readouterr().err
