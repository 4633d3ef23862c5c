"""Each text of a test set has one parser, for those who check and those who read: lines end at line feeds alone, what
is blank or no UTF-8 is named, and nothing that stands in a file is looked into as code."""

import io
import re

import numpy as np
import pytest
import torch

import flip.data.torchvision_operators  # noqa: F401  (before clip_benchmark imports torchvision)
from flip.config.kinds import LEARNED, composition, entailment
from flip.config.kinds import pointing as boxes
from flip.evaluate import zeroshot
from flip.formats import layout
from flip.testsets.reader import prompts, read_set
from flip.testsets.revision import revision
from tests.layouts import CLASSES, captioned, classified, photo, write

NAMES, PROMPTS = "classnames.txt", "zeroshot_classification_templates.txt"


def both(folder):
    """What the check says of a set, and what its reader does."""
    return revision(folder, "mine", "x"), list(read_set(folder, 16, 4)), prompts(folder)


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        (NAMES, b"boat\n\nkey\nstar\n", "classnames.txt: line 2 is blank"),
        (NAMES, b"\nboat\nkey\nstar\n", "classnames.txt: line 1 is blank"),
        (NAMES, "boat\nkey\n \u00a0\t\nstar".encode(), "classnames.txt: line 3 is blank"),
        (NAMES, b"\n\n", "classnames.txt: empty"),
        (NAMES, b"boat\nk\xe9y\nstar\n", "classnames.txt: not UTF-8 (invalid continuation byte at byte 6)"),
        (NAMES, b"boat\nkey\n", "0.tar: 002.cls is 2, but there are 2 lines in classnames.txt, so classes 0 to 1"),
        (PROMPTS, b"{c}\n\na {c}\n", "templates.txt: line 2 is blank"),
        (PROMPTS, b"{c}\na photo\n", "templates.txt: line 2, 'a photo': each line needs {c}"),
        (
            PROMPTS,
            b"{c} {0}\n",
            "line 1, '{c} {0}': each line needs {c} where the class name goes, and no other",
        ),
        (PROMPTS, b"{c.__class__.__mro__}\n", "line 1, '{c.__class__.__mro__}'"),
        (PROMPTS, b"{c!r:>99999999999}\n", "line 1"),
        (PROMPTS, b"{{c}}\n", "line 1"),
        (PROMPTS, b"\xff{c}\n", "templates.txt: not UTF-8"),
        (
            "dataset_type.txt",
            b"classifcation",
            "dataset_type.txt: 'classifcation' is not a kind of test set; allowed: class",
        ),
        ("dataset_type.txt", b"\xff", "dataset_type.txt: not UTF-8"),
        ("test/nshards.txt", b"+1", "nshards.txt: '+1' is not a number of tars"),
        ("test/nshards.txt", "\u0661".encode(), "is not a number of tars"),
        ("test/nshards.txt", b"0", "'0' is not a number of tars"),
        ("test/nshards.txt", b"\xff", "nshards.txt: not UTF-8"),
    ],
)
def test_texts_with_a_fault_are_refused_by_the_check_and_by_the_reader(tmp_path, file, content, said):
    folder = classified(tmp_path / "mine")
    (folder / file).write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(said)) as error:
        revision(folder, "mine", "x")
    assert len(str(error.value).splitlines()) == 1
    with pytest.raises(ValueError, match=re.escape(said)):
        both_read(folder)


def both_read(folder):
    return list(read_set(folder, 16, 4)), prompts(folder)


@pytest.mark.parametrize(
    "content",
    [b"boat\nkey\nstar", b"boat\nkey\nstar\n\n\n", b"\xef\xbb\xbfboat\r\nkey\r\nstar\r\n", b" boat \nkey\t\nstar\n \n"],
)
def test_well_formed_class_names_are_what_clip_benchmark_reads(tmp_path, content):
    folder = classified(tmp_path / "mine")
    (folder / NAMES).write_bytes(content)
    found, batches, (names, templates) = both(folder)
    assert (found["classes"], names, templates) == (3, list(CLASSES), ["a photo of a {c}", "{c}"])
    assert torch.cat([labels for _, labels in batches]).tolist() == [n % 3 for n in range(18)]


@pytest.mark.parametrize("end", ["\u2028", "\u0085", "\x0b", "\x0c", "\x1c", "\r"])
def test_only_line_feeds_end_lines(tmp_path, end):
    """36 captions were 72, and 3 classes 4."""
    folder = classified(tmp_path / "classes", names=["boat", f"ke{end}y", "star"])
    found, _, (names, _) = both(folder)
    assert (found["classes"], names) == (3, ["boat", f"ke{end}y", "star"])
    texts = [f"a boat{end}at sea {n}\r\n\n \nthe key {n}\n\n".encode() for n in range(18)]
    folder = captioned(tmp_path / "captions", texts)
    found, batches, _ = both(folder)
    captions = [caption for _, batch in batches for one in batch for caption in one]
    assert captions == [caption for n in range(18) for caption in (f"a boat{end}at sea {n}", f"the key {n}")]
    noted = [LEARNED["caption"].notes({"txt": text}, "x") for text in texts]
    assert [caption for one in noted for caption in one] == captions
    pair = composition.samples(one_sample(tmp_path / "pair", txt=f"swap\ta{end}b\tb a\n\n".encode()))
    assert next(pair)[1] == [("swap", f"a{end}b", "b a")]
    two = one_sample(tmp_path / "two", txt=f"a{end}b\r\n\nb a\n".encode())
    assert entailment.texts([two]) == [[f"a{end}b", "b a"]]


def one_sample(folder, **beside):
    """The tar of a set with one image."""
    members = [("0.jpg", photo(0)), *((f"0.{name}", content) for name, content in beside.items())]
    return write(folder, members) / "test" / "0.tar"


@pytest.mark.parametrize(("content", "said"), [(b"\n \n", "000.txt has no caption"), (b"\xff", "000.txt: not UTF-8")])
def test_captions_that_are_none_are_named(tmp_path, content, said):
    folder = captioned(tmp_path / "mine", [content])
    for read in (lambda: revision(folder, "mine", "x"), lambda: list(read_set(folder, 16, 4))):
        with pytest.raises(ValueError, match=f"0.tar: {said}"):
            read()


@pytest.mark.parametrize("content", [b"-1", b"+1", b"1.0", b"x", b"", "\u00b2".encode(), b"1_0", b"\xff", b"9" * 5000])
def test_labels_that_are_no_class_are_named_with_tar_and_key(tmp_path, content):
    folder = classified(tmp_path / "mine", content=lambda number: content if number == 4 else b"0")
    for read in (lambda: revision(folder, "mine", "x"), lambda: list(read_set(folder, 16, 4))):
        with pytest.raises(ValueError, match=r"mine/test/0\.tar: 004\.cls") as error:
            read()
        assert "Traceback" not in str(error.value)


def test_labels_may_have_spaces_around_them(tmp_path):
    folder = classified(tmp_path / "mine", content=lambda number: f" {number % 3}\r\n".encode())
    assert both(folder)[0]["samples"] == 18


def test_a_class_without_an_image_is_a_class(tmp_path):
    folder = classified(tmp_path / "mine", names=[*CLASSES, "tree"])
    found, _, (names, _) = both(folder)
    assert (found["classes"], names) == (4, ["boat", "key", "star", "tree"])
    assert revision(folder, "mine", "x", measure="mean-per-class")["classes"] == 4


def saved(array, **options):
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


HEADER = "{'descr': '<i8', 'fortran_order': False, 'shape': %s}"
ARRAYS = {
    "too few": saved(np.array([1, 0])),
    "two dimensions": saved(np.array([[1, 0, 0]])),
    "a two": saved(np.array([1, 0, 2])),
    "fields": saved(np.array([(1,), (0,), (0,)], [("a", int)])),
    "bytes": saved(np.array([b"\1", b"\1", b"\1"], "V1")),
    "complex": saved(np.array([1, 0, 0], complex)),
    "durations": saved(np.array([1, 0, 0], "m8[s]")),
    "empty": b"",
    "a zip": b"PK\x03\x04",
    "no header": b"\x93NUMPY",
    "an open bracket": b"\x93NUMPY\x01\x00\x76\x00" + (HEADER % "(3,").encode().ljust(118),
    "terabytes": b"\x93NUMPY\x01\x00\x76\x00" + (HEADER % "(99999999999999,)").encode().ljust(118),
    "below zero": b"\x93NUMPY\x01\x00\x76\x00" + (HEADER % "(-3,)").encode().ljust(118),
    "a pickle": saved(np.array([1, None, 0], object), allow_pickle=True),
}


@pytest.mark.parametrize("content", ARRAYS.values(), ids=ARRAYS)
def test_arrays_that_are_no_labels_are_named(content):
    with pytest.raises(ValueError, match=r"^0\.tar: 7\.npy "):
        layout.labels(content, "0.tar: 7", 3)
    assert layout.labels(saved(np.array([True, False, True])), "x", 3).tolist() == [1, 0, 1]


HUGE = b"1" + b"0" * 400
JSONS = [b"[" * 100_000, b'{"box": [1, 2, 3, NaN]}', b'{"box": [1, 2, 3, ' + HUGE + b"]}", b"\xff", b""]


@pytest.mark.parametrize("content", JSONS, ids=["deep", "no number", "huge", "no text", "empty"])
def test_json_that_is_no_box_and_no_question_is_named(tmp_path, content):
    with pytest.raises(ValueError, match=r"0\.tar: 0\.json is "):
        list(boxes.samples(one_sample(tmp_path / "box", txt=b"a boat", json=content)))
    with pytest.raises(ValueError, match=r"x\.json needs "):
        LEARNED["vqa"].notes({"json": content}, "x")


def test_class_names_with_braces_stay_as_they_are(tmp_path):
    folder, seen = classified(tmp_path / "mine", names=["{0}", "{c.__class__}", "}{"]), []

    class Encoder:
        def encode_text(self, ids):
            return torch.ones(len(ids), 2)

    zeroshot.head(Encoder(), lambda texts: seen.extend(texts) or torch.zeros(len(texts)), *prompts(folder), "cpu")
    assert seen == [text for name in ("{0}", "{c.__class__}", "}{") for text in (f"a photo of a {name}", name)]
