"""Tars are read as webdataset reads them: equal keys, extensions and bytes, or they are refused by name. So the
images of a test set that are compared with the training data are those that it is evaluated on."""

import io
import itertools
import pickle
import random
import re
import shutil
import tarfile
import warnings
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import webdataset
from PIL import Image
from webdataset.tariterators import base_plus_ext

import flip.data.torchvision_operators  # noqa: F401  (before clip_benchmark imports torchvision)
from flip.data import fingerprints
from flip.files import read_json, write_json
from flip.formats.contents import contents
from flip.formats.tar_members import members, split_name
from flip.testsets import fingerprints as of_sets
from flip.testsets.reader import prompts, read_set, to_square
from flip.testsets.revision import make, revision
from tests.dropping import drop
from tests.layouts import CLASSES, Marker, add, captioned, classified, photo, write

pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning",
    "ignore::ResourceWarning",
    r"ignore:WebDataset\(shardshuffle:UserWarning",
)
FORMATS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)


def expected(path):
    """What webdataset makes of a tar: (key, files) of each sample; None where it refuses it."""
    found = []
    try:
        for sample in webdataset.WebDataset(str(path), shardshuffle=False, empty_check=False):
            files = {name: content for name, content in sample.items() if not name.startswith("__")}
            found.append((sample["__key__"], files))
    except ValueError:
        return None
    return found


def ours(path):
    """None where it is refused, by a message that names the tar."""
    try:
        return list(contents(path))
    except ValueError as error:
        return check_message(path, error)


def check_message(path, error):
    assert str(path) in str(error)
    assert len(str(error).splitlines()) == 1


def name_of(rng):
    """A member's name with what strangers' tools put into names."""
    folder = rng.choice(["", "", "", "./", "a/", "val.2014/", "./v.1/b/", "/", "../", "d//", "long/" * 30, "__meta__/"])
    stem = rng.choice(
        [f"{rng.randrange(4):03d}", "x", "image.jpg", "._0", ".hidden", "é", "n" * 120, "__y__", "a b", ""]
    )
    ending = rng.choice([".jpg", ".JPG", ".cls", ".txt", ".seg.png", ".tar.gz", "", ".", "..", ".JsOn", ".__key__"])
    return folder + stem + ending


def random_members(rng):
    """Mostly samples in order, sometimes shuffled."""
    names = []
    for number in range(rng.randrange(6)):
        stem = rng.choice(["", "./", "a.b/"]) + f"{number:03d}"
        names += [stem + ending for ending in rng.sample([".jpg", ".cls", ".x.seg.png", ".TXT"], rng.randrange(1, 4))]
    names[rng.randrange(len(names) + 1) : 0] = [name_of(rng) for _ in range(rng.choice([0, 0, 1, 2]))]
    if rng.random() < 0.2:
        rng.shuffle(names)
    if names and rng.random() < 0.1:
        names.append(rng.choice(names))
    return names


def write_random(path, rng):
    with tarfile.open(path, "w", format=rng.choice(FORMATS)) as tar:
        for name in random_members(rng):
            info = tarfile.TarInfo(name)
            info.type = rng.choice([tarfile.REGTYPE] * 12 + [tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE])
            info.linkname = "000.jpg"
            content = rng.randbytes(rng.choice([0, 1, 511, 512, 513])) if info.type == tarfile.REGTYPE else b""
            info.size = len(content)
            try:
                tar.addfile(info, io.BytesIO(content))
            except ValueError:  # a name that the format has no room for
                continue


def test_random_tars_are_read_as_webdataset_reads_them(tmp_path):
    rng, same, refused = random.Random(0), 0, 0
    for _ in range(600):
        write_random(tmp_path / "0.tar", rng)
        found, wanted = ours(tmp_path / "0.tar"), expected(tmp_path / "0.tar")
        if found is None:
            refused += 1
            keys = [key for key, _ in wanted or []]
            assert wanted is None or len(set(keys)) < len(keys)
        else:
            same += 1
            assert found == wanted
    assert same > 300
    assert refused > 50


def test_every_short_name_is_split_as_webdataset_splits_it():
    for length in range(1, 9):
        for letters in itertools.product("./a", repeat=length):
            name = "".join(letters)
            wanted = base_plus_ext(name)
            assert split_name(name) == (None if wanted == (None, None) else wanted), name
    assert split_name("a/B.Seg.PNG") == ("a/B", "seg.png")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["0.jpg", "0.cls", "0.jpg"], "'0.jpg': sample '0' has a .jpg already"),
        (["0.jpg", "0.JPG"], "'0.JPG': sample '0' has a .jpg already"),
        (["0.jpg", "1.jpg", "0.cls"], "'0.cls': sample '0' began before, and others came between"),
        (["0.jpg", "0.__url__"], "'0.__url__': a sparse file, or a name with a line end or an extension that begins"),
        (["0.jpg", "a\nb.jpg"], "'a\\nb.jpg': a sparse file, or a name with a line end"),
    ],
)
def test_what_webdataset_would_overwrite_or_split_is_refused_by_name(tmp_path, names, said):
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        for name in names:
            add(tar, name, b"x")
    with pytest.raises(ValueError, match="write the tar again") as error:
        members(tmp_path / "0.tar")
    assert str(error.value).startswith(f"{tmp_path / '0.tar'}: {said}")


def test_damaged_tars_are_refused_and_never_hang(tmp_path):
    """Bytes of the headers changed at random, one of them in each; and a size below zero, which led back for ever."""
    path, rng = tmp_path / "0.tar", random.Random(1)
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name in ("a" * 200 + ".jpg", "b.jpg", "é.cls"):
            add(tar, name, b"x" * 600)
    whole = path.read_bytes()
    for _ in range(400):
        damaged = bytearray(whole)
        place = rng.randrange(len(whole) // 512) * 512 + rng.randrange(512)
        damaged[place] = rng.randrange(256)
        path.write_bytes(damaged)
        ours(path)
    info = tarfile.TarInfo("a.jpg")
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 10 + b"\xfe\x00"  # -512
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + 8 * 32 + sum(header[156:]))
    path.write_bytes(bytes(header) + bytes(1024))
    with pytest.raises(ValueError, match="not a whole tar"):
        members(path)


# A test set, from its tar to the training data


def shards_of(folder, tmp_path):
    """A downloaded part that has the 18 test images of `classified`, each with a caption, among 4 others."""
    part = tmp_path / "download" / "0000"
    part.mkdir(parents=True)
    rows = []
    with webdataset.TarWriter(str(part / "00000.tar"), encoder=False) as tar:
        for number in range(22):
            encoded = photo(number if number < 18 else 100 + number)
            tar.write({"__key__": f"{number:07d}", "jpg": encoded, "txt": b"a boat"})
            rows.append({"key": f"{number:07d}", "row": number, "url": "http://x", "sha256": f"{number:064x}"})
    pq.write_table(pa.Table.from_pylist(rows), part / "00000.parquet")
    write_json(part.with_suffix(".json"), {"wanted": 22, "arrived": 22, "failed": {}})
    return part.with_suffix(".json")


def dropped(revision, tmp_path):
    """How many images of `shards_of` the contamination check drops."""
    fingerprints.write(of_sets.of_tests([revision]), of_sets.TESTS, tmp_path / "tests.parquet")
    download = shards_of(revision, tmp_path)
    fingerprints.write(fingerprints.part_fingerprints(download), fingerprints.PART, tmp_path / "0000.parquet")
    (found,) = drop(tmp_path, tmp_path / "tests.parquet", [tmp_path / "0000.parquet"])
    reasons = pq.read_table(found)["reason"].to_pylist()
    return sum(reason == "in a test set" for reason in reasons)


FORMS = {
    "plain": {},
    "dot slash": {"key": "./{:03d}", "first": [("./", None)]},
    "folder with a dot": {"key": "val.2014/{:03d}", "first": [("val.2014/", None)]},
    "upper case": {"ext": "JPG"},
    "jpeg": {"ext": "Jpeg"},
    "strays": {"first": [("README", b"hello"), ("._000.jpg", b"\0\1"), ("__MACOSX__/000.jpg", b"\0")]},
    "pickles": {"extra": [(f"017.{kind}", pickle.dumps(Marker())) for kind in ("pyd", "pickle", "pth", "npz", "pt")]},
}


@pytest.mark.parametrize("form", FORMS)
def test_all_training_images_that_are_test_images_are_dropped(form, tmp_path, change, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = classified(tmp_path / "mine", **FORMS[form])
    params = change("clip", {"evaluate": {"sets": {"coarse": str(folder)}, "probe": []}})
    make(params, "coarse", tmp_path / "tests" / "coarse")
    revision = tmp_path / "tests" / "coarse" / "revision.json"
    assert read_json(revision)["samples"] == 18
    assert dropped(revision, tmp_path) == 18
    images, targets = zip(*read_set(folder, 32, 8), strict=True)
    assert torch.cat(targets).tolist() == [number % 3 for number in range(18)]
    assert len(torch.cat(images)) == 18
    assert not Path("CODE_HAS_RUN").exists()


def test_images_that_fingerprints_cannot_decode_are_hashed_as_the_evaluation_sees_them(tmp_path):
    """CMYK: the decoder of training images gives up on it."""
    file = io.BytesIO()
    Image.open(io.BytesIO(photo(0))).convert("CMYK").save(file, "JPEG")
    folder = classified(tmp_path / "mine", replaced={0: file.getvalue()})
    found = revision(folder, "mine", str(folder))
    write_json(tmp_path / "made" / "revision.json", found)
    (table,) = of_sets.of_tests([tmp_path / "made" / "revision.json"])
    assert len(table) == 18
    assert table["looks"].null_count == 0


@pytest.mark.parametrize("change_of", ["a sample more", "a sample less"])
def test_other_images_than_the_revision_says_are_refused(tmp_path, change_of):
    folder = classified(tmp_path / "mine")
    found = revision(folder, "mine", str(folder))
    write_json(tmp_path / "made" / "revision.json", found | {"samples": {"a sample more": 17}.get(change_of, 19)})
    with pytest.raises(ValueError, match=r"mine/test: 18 images, but its revision.json says 1\d samples"):
        list(of_sets.of_tests([tmp_path / "made" / "revision.json"]))


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ([("900.jpg", b"\xff\xd8\xff"), ("900.cls", b"0")], "0.tar: 900: cannot be read as an image"),
        ([("900.jpg", b""), ("900.cls", b"0")], "0.tar: 900: cannot be read as an image"),
        ([("900.jpg", b"%!PS\n(x) run"), ("900.cls", b"0")], "0.tar: 900: cannot be read as an image"),
        ([("900.cls", b"0")], "0.tar: 900 has no image; each sample needs one of .jpg, .jpeg, .png, .webp"),
        ([("017.png", photo(3)), ("900.cls", b"0")], "0.tar: 017 has images .jpg and .png"),
        ([("a/._900.jpg", b"x")], "0.tar: a/ has no image"),
        ([("900.jpg", photo(1))], "0.tar: 900.cls is '', not the number of a class"),
    ],
)
def test_samples_that_cannot_be_evaluated_are_refused_by_name(tmp_path, extra, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        revision(classified(tmp_path / "mine", extra=extra), "mine", "x")


def test_all_images_that_cannot_be_decoded_are_named_at_once_before_any_training(tmp_path):
    """In each tar, and in the training split of a probe, whose images no revision decodes."""
    folder = classified(tmp_path / "mine", replaced={2: photo(2)[:200], 7: b"GIF89a"})
    shutil.copy(classified(tmp_path / "b", replaced={4: b"%!PS"}) / "test/0.tar", folder / "test/1.tar")
    (folder / "test/nshards.txt").write_text("2\n")
    with pytest.raises(ValueError, match="cannot be read as an image") as error:
        revision(folder, "mine", "x")
    said = [line.removeprefix(f"{folder}/test/") for line in str(error.value).splitlines()]
    assert [line.partition(": cannot be read as an image (")[0] for line in said] == [
        "0.tar: 002",
        "0.tar: 007",
        "1.tar: 004",
    ]
    assert "its format is none of JPEG, PNG" in said[2]
    folder = classified(tmp_path / "probed")
    shutil.copytree(classified(tmp_path / "c", replaced={3: b"x", 17: photo(1)[:300]}) / "test", folder / "train")
    write_json(tmp_path / "made/revision.json", revision(folder, "probed", str(folder), probed=True))
    with pytest.raises(
        ValueError, match=r"^.*train/0.tar: 003: cannot be read.*\n.*train/0.tar: 017: cannot be read[^\n]*$"
    ):
        list(of_sets.of_tests([tmp_path / "made/revision.json"]))


def test_a_set_without_samples_is_refused(tmp_path):
    for kind in ("retrieval", "pointing"):
        folder = write(tmp_path / kind, [("README", b"x")], dataset_type_txt=kind)
        with pytest.raises(ValueError, match=f"{kind}/test: no samples in its tars"):
            revision(folder, "mine", "x")


def theirs(folder, split="test"):
    """What clip-benchmark reads: images, targets, class names, templates."""
    from clip_benchmark.datasets.builder import build_wds_dataset

    dataset = build_wds_dataset("x", lambda image: to_square(image, 16), split, str(folder))
    images, targets = zip(*dataset, strict=True)
    return torch.stack(images), list(targets), dataset.classes, dataset.templates


@pytest.mark.parametrize("form", [one for one in FORMS if one != "pickles"])
def test_sets_of_classes_are_read_as_clip_benchmark_reads_them(tmp_path, form):
    folder = classified(tmp_path / "mine", **FORMS[form])
    images, targets, names, templates = theirs(folder)
    found, labels = zip(*read_set(folder, 16, 5), strict=True)
    assert torch.equal(torch.cat(found), images)
    assert torch.cat(labels).tolist() == targets
    assert prompts(folder) == (names, templates) == (list(CLASSES), ["a photo of a {c}", "{c}"])


def test_several_tars_with_equal_keys_are_read_as_clip_benchmark_reads_them(tmp_path):
    folder = classified(tmp_path / "mine")
    shutil.copy(classified(tmp_path / "other", key="z/{:03d}") / "test" / "0.tar", folder / "test" / "1.tar")
    shutil.copy(folder / "test" / "0.tar", folder / "test" / "2.tar")
    (folder / "test" / "nshards.txt").write_text("3\n")
    images, targets, *_ = theirs(folder)
    found, labels = zip(*read_set(folder, 16, 7), strict=True)
    assert torch.equal(torch.cat(found), images)
    assert torch.cat(labels).tolist() == targets
    assert len(targets) == revision(folder, "mine", "x")["samples"] == 54


def test_sets_of_several_labels_are_read_as_clip_benchmark_reads_them(tmp_path):
    def labels(number):
        file = io.BytesIO()
        np.save(file, np.array([number & bit > 0 for bit in (1, 2, 4)], np.uint8))
        return file.getvalue()

    folder = classified(tmp_path / "mine", target="npy", content=labels)
    (folder / "dataset_type.txt").write_text("multilabel\n")
    images, targets, names, templates = theirs(folder)
    found, batches = zip(*read_set(folder, 16, 5), strict=True)
    assert torch.equal(torch.cat(found), images)
    assert torch.cat(batches).tolist() == np.stack(targets).tolist()
    assert prompts(folder) == (names, templates)


def test_sets_of_captions_are_read_as_clip_benchmark_reads_them(tmp_path):
    folder = captioned(tmp_path / "mine", [f"a boat {n}\nthe key, {n}".encode() for n in range(9)])
    images, targets, names, _ = theirs(folder)
    found, texts = zip(*read_set(folder, 16, 4), strict=True)
    assert torch.equal(torch.cat(found), images)
    assert [one for batch in texts for one in batch] == targets
    assert prompts(folder) == (None, None) == (names, None)


def test_no_member_is_unpickled(tmp_path, monkeypatch):
    """Not by a class in an .npy, and whatever else lies in the tar."""
    monkeypatch.chdir(tmp_path)
    file = io.BytesIO()
    np.save(file, np.array([Marker(), 1], object), allow_pickle=True)
    folder = classified(tmp_path / "mine", extra=[("017.npy", file.getvalue()), ("017.pyd", pickle.dumps(Marker()))])
    assert len(list(read_set(folder, 16, 18))) == 1
    (folder / "dataset_type.txt").write_text("multilabel")
    with pytest.raises(ValueError, match=r"000\.npy is"):
        revision(folder, "mine", "x", measure="map")
    several = classified(tmp_path / "several", target="npy", content=lambda number: file.getvalue())
    (several / "dataset_type.txt").write_text("multilabel")
    for read in (
        lambda: revision(several, "mine", "x", measure="map"),
        lambda: list(read_set(several, 16, 4)),
    ):
        with pytest.raises(ValueError, match=r"000\.npy is not an array .Object arrays cannot be loaded"):
            read()
    assert not Path("CODE_HAS_RUN").exists()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pickle.loads(pickle.dumps(Marker())).close()  # the marker marks
    assert Path("CODE_HAS_RUN").exists()


def test_an_image_in_a_tar_is_what_opencv_decodes_too(tmp_path):
    """So that the images of these tests are images."""
    assert cv2.imdecode(np.frombuffer(photo(0), np.uint8), cv2.IMREAD_COLOR).shape == (64, 64, 3)
