"""The world's test sets: clip-benchmark reads each of them, classes are balanced, equal images give equal files and
a changed one another revision; a public set is checked, not touched; what a probe is fitted to is no test image, and
is kept out of pre-training like one."""

import shutil
from collections import Counter
from hashlib import sha256

import pytest
import webdataset

import flip.data.torchvision_operators  # noqa: F401  (before clip_benchmark imports torchvision)
from flip.config.faults import ParameterError
from flip.config.frozen import dump
from flip.files import file_hash, read_json
from flip.formats.tar_members import members
from flip.synthetic import testsets
from flip.synthetic.scenes import COARSE, FINE
from flip.synthetic.shifts import SETS, SHIFTED
from flip.testsets import fingerprints
from flip.testsets.revision import main as check_main
from flip.testsets.revision import make as check
from flip.testsets.revision import revision

# clip-benchmark leaves the order of shards open and files unclosed.
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning",
    "ignore::ResourceWarning",
    r"ignore:WebDataset\(shardshuffle:UserWarning",
)
SIZES = {"coarse": 48, "fine": 256, "shifted": 32, "retrieval": 20, "pointing": 24, "entailment": 40}
FITTED = {"coarse": 32, "fine": 128, "entailment": 64}
CLASSES = {"fine": 128, "validation": 128, "retrieval": 0, "pointing": 0, "entailment": 2, "composition": 0}


def build(folder, name, task="zeroshot_classification"):
    from clip_benchmark.datasets.builder import build_dataset

    return build_dataset(f"wds/{name}", root=str(folder), transform=lambda image: image, task=task)


@pytest.fixture(scope="module")
def make(change, tmp_path_factory):
    """make(name, delta) runs the command and gives the set's folder."""

    def made(name, delta=None):
        folder = tmp_path_factory.mktemp("tests")
        params = change("clip", {"world": {"tests": SIZES, "probe": FITTED}} | (delta or {}))
        (folder / "params.yaml").write_text(dump(params))
        run = testsets.main if params.evaluate.sets.get(name, "world") == "world" else check_main
        run(["--params", str(folder / "params.yaml"), "--set", name, "--out", str(folder / name)])
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
        assert revision["classes"] == CLASSES.get(name, 16)


def test_equal_parameters_make_equal_files(folders, make):
    again = make("rendition")
    assert file_hash(again / "test" / "0.tar") == file_hash(folders["rendition"] / "test" / "0.tar")
    assert read_json(again / "revision.json") == read_json(folders["rendition"] / "revision.json")


def random_images(folder, split):
    """SHA-256 of each image of a split, and its class."""
    found = webdataset.WebDataset(str(folder / split / "0.tar"), shardshuffle=False)
    return [(sha256(sample["jpg"]).digest(), int(sample["cls"])) for sample in found]


def test_a_training_split_has_balanced_classes_and_no_test_image(folders):
    for name, count in FITTED.items():
        training, test = random_images(folders[name], "train"), random_images(folders[name], "test")
        if classes := {"fine": FINE, "coarse": COARSE}.get(name):
            assert Counter(label for _, label in training) == dict.fromkeys(range(len(classes)), count // len(classes))
        assert not {image for image, _ in training} & {image for image, _ in test}
        assert len({image for image, _ in training}) == count
        assert read_json(folders[name] / "revision.json")["train"]["samples"] == count
    both = [{image for image, _ in random_images(folders[name], "train")} for name in ("fine", "coarse")]
    assert not set.intersection(*both)


def test_probing_a_set_leaves_its_test_split_as_it_is(folders, make):
    plain = make("coarse", {"evaluate": {"probe": []}})
    assert not (plain / "train").exists()
    assert file_hash(plain / "test" / "0.tar") == file_hash(folders["coarse"] / "test" / "0.tar")
    without = {key: value for key, value in read_json(folders["coarse"] / "revision.json").items() if key != "train"}
    assert read_json(plain / "revision.json") == without


def test_training_images_of_probes_are_kept_out_of_pre_training(folders, make, tmp_path):
    """They are among the fingerprints that downloads are compared with; those of a set that is not probed are not."""
    tables = list(fingerprints.of_tests([folders["coarse"] / "revision.json"]))
    known = {digest for table in tables for digest in table["sha256"].to_pylist()}
    for split in ("test", "train"):
        assert {image for image, _ in random_images(folders["coarse"], split)} <= known
    assert len(known) == SIZES["coarse"] + FITTED["coarse"]
    sets = {"evaluate": {"sets": {"coarse": str(folders["coarse"])}}}
    for probe, count in (([], SIZES["coarse"]), (["coarse"], len(known))):
        public = make("coarse", {"evaluate": sets["evaluate"] | {"probe": probe}})
        assert sum(map(len, fingerprints.of_tests([public / "revision.json"]))) == count


def test_a_public_set_without_a_training_split_says_so(folders, make, tmp_path):
    public = rewritten(folders["coarse"], tmp_path / "public", dict)
    out = make("coarse", {"evaluate": {"sets": {"coarse": str(public)}}})
    assert read_json(out / "revision.json")["train"] == {
        "missing": f"{public} has no train/nshards.txt, so no training split"
    }


def test_a_public_set_with_a_training_split_of_other_classes_is_refused(folders, make, tmp_path, capsys):
    public = rewritten(folders["coarse"], tmp_path / "public", dict)
    shutil.copytree(folders["fine"] / "train", public / "train")
    with pytest.raises(SystemExit):
        make("coarse", {"evaluate": {"sets": {"coarse": str(public)}}})
    assert (
        "train/0.tar: 000016.cls is 16, but there are 16 lines in classnames.txt, so classes 0 to 15"
        in capsys.readouterr().err
    )


def test_a_set_of_captions_cannot_be_probed(folders, make, capsys):
    with pytest.raises(SystemExit):
        make("retrieval", {"evaluate": {"sets": {"retrieval": str(folders["retrieval"])}, "probe": ["retrieval"]}})
    assert "evaluate.probe: 'retrieval' has captions, not classes" in capsys.readouterr().err


def rewritten(folder, target, edit):
    """A copy of a set's test split with every sample passed through `edit`."""
    (target / "test").mkdir(parents=True)
    for name in ("classnames.txt", "zeroshot_classification_templates.txt", "test/nshards.txt"):
        (target / name).write_text((folder / name).read_text())
    with webdataset.TarWriter(str(target / "test" / "0.tar"), mtime=0) as tar:
        for sample in webdataset.WebDataset(str(folder / "test" / "0.tar"), shardshuffle=False):
            tar.write(edit({key: value for key, value in sample.items() if key in ("__key__", "jpg", "cls")}))
    return target


def test_one_changed_image_or_prompt_is_another_revision(folders, tmp_path):
    def turn_a_bit(sample):
        byte = sample["jpg"][-3] ^ (sample["__key__"] == "000007")
        return sample | {"jpg": sample["jpg"][:-3] + bytes([byte]) + sample["jpg"][-2:]}

    same = rewritten(folders["coarse"], tmp_path / "same", dict)
    other = rewritten(folders["coarse"], tmp_path / "other", turn_a_bit)
    first, second = (revision(folder, "coarse", "x") for folder in (same, other))
    assert first["samples"] == second["samples"]
    assert first["sha256"] != second["sha256"]
    (same / "zeroshot_classification_templates.txt").write_text("one {c}\n")
    assert revision(same, "coarse", "x")["sha256"] != first["sha256"]


def test_a_public_set_is_checked_and_stays_where_it_is(folders, make, tmp_path):
    public = rewritten(folders["coarse"], tmp_path / "public", dict)
    out = make("coarse", {"evaluate": {"sets": {"coarse": str(public)}}})
    assert [path.name for path in out.iterdir()] == ["revision.json"]
    assert read_json(out / "revision.json") == revision(public, "coarse", str(public), probed=True)


def test_a_set_that_became_public_leaves_no_images_of_the_world(folders, make, change):
    out = make("viewpoint")
    params = change("clip", {"evaluate": {"sets": {"viewpoint": str(folders["coarse"])}}})
    check(params, "viewpoint", out)
    assert [path.name for path in out.iterdir()] == ["revision.json"]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("test/nshards.txt", None, "nshards.txt: missing; evaluate.sets wants 'world' or a folder"),
        ("test/nshards.txt", "many", "'many' is not a number of tars"),
        ("test/nshards.txt", "2", "1.tar: missing"),
        ("classnames.txt", None, "classnames.txt: missing"),
        (
            "classnames.txt",
            "ball\nstar",
            "test/0.tar: 000002.cls is 2, but there are 2 lines in classnames.txt, so classes 0 to 1",
        ),
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


def test_an_image_without_a_class_is_refused(folders, tmp_path):
    public = rewritten(folders["coarse"], tmp_path / "public", lambda sample: sample | {"cls": b"ball"})
    with pytest.raises(ValueError, match=r"000000\.cls is 'ball', not the number of a class"):
        revision(public, "coarse", str(public))


def test_unknown_sets_are_refused_with_what_is_known(make, capsys):
    with pytest.raises(SystemExit):
        make("coarser")
    assert "evaluate.sets has no 'coarser'; did you mean 'coarse'?" in capsys.readouterr().err
    with pytest.raises(ParameterError, match=r"sets.painting = 'world', which has no such set; known: fine, coarse"):
        make("painting", {"evaluate": {"sets": {"painting": "world"}}})
