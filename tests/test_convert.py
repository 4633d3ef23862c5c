"""Annotations as they are published become sets that heads read: the same images, captions, domains and questions; a
run that was stopped goes on; what does not fit is named."""

import json

import pytest
from PIL import Image

from flip.config.kinds import LEARNED
from flip.formats.contents import contents
from flip.transfer import convert as module
from flip.transfer.convert import convert, main

COCO = {
    "images": [
        {"filepath": "val2014", "filename": f"{index}.jpg", "split": split, "sentences": [{"raw": f"A {index}\n."}] * 2}
        for index, split in enumerate(("train", "val", "restval", "test", "train"))
    ]
}
NOCAPS = {
    "images": [
        {"id": 7, "file_name": "0.jpg", "domain": "in-domain"},
        {"id": 9, "file_name": "1.jpg", "domain": "out"},
    ],
    "annotations": [{"image_id": 9, "caption": "nine"}, {"image_id": 7, "caption": "seven"}],
}
QUESTIONS = {
    "data_subtype": "val2014",
    "questions": [
        {"image_id": 42, "question": "Why?", "question_id": 1},
        {"image_id": 42, "question": "Who?", "question_id": 2},
    ],
}
ANSWERS = {"annotations": [{"question_id": one, "answers": [{"answer": f"a{one}"}] * 10} for one in (2, 1)]}


@pytest.fixture
def place(tmp_path):
    """Annotations, and images that differ."""
    for name, content in {"coco": COCO, "nocaps": NOCAPS, "questions": QUESTIONS, "answers": ANSWERS}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    (tmp_path / "val2014").mkdir()
    names = [*(f"val2014/{index}.jpg" for index in range(5)), "0.jpg", "1.jpg", "COCO_val2014_000000000042.jpg"]
    for number, name in enumerate(names):
        Image.new("RGB", (8, 8), (30 * number, 0, 0)).save(tmp_path / name)
    return tmp_path


def read(folder):
    count = int((folder / "nshards.txt").read_text())
    return [content for number in range(count) for _, content in contents(folder / f"{number}.tar")]


def test_karpathys_splits_with_images_as_they_are(place):
    for split, rows in {"train": (0, 2, 4), "test": (3,)}.items():
        convert("coco", [place / "coco.json"], place, split, place / "out", 2)
        found = read(place / "out" / split)
        assert [one["jpg"] for one in found] == [(place / f"val2014/{row}.jpg").read_bytes() for row in rows]
        assert [LEARNED["caption"].notes(one, "") for one in found] == [[f"A {row} ."] * 2 for row in rows]
    assert (place / "out/train/nshards.txt").read_text() == "2\n"


def test_nocaps_has_domains(place):
    convert("nocaps", [place / "nocaps.json"], place, "test", place / "out", 10)
    found = read(place / "out/test")
    assert [(LEARNED["nocaps"].notes(one, ""), one["domain"]) for one in found] == [
        (["seven"], b"in-domain"),
        (["nine"], b"out"),
    ]


def test_questions_have_their_answers_whichever_file_comes_first(place):
    files = [place / "questions.json", place / "answers.json"]
    for number, given in enumerate((files, files[::-1])):
        convert("vqa", given, place, "test", place / f"out{number}", 10)
        (found,) = read(place / f"out{number}/test")
        assert [(one.text, set(one.answers)) for one in LEARNED["vqa"].notes(found, "")] == [
            ("Why?", {"a1"}),
            ("Who?", {"a2"}),
        ]


def test_a_stopped_run_goes_on(place, monkeypatch):
    write, written = module.write_tar, []

    def stops(path, some, start):
        if len(written) == 1:
            written.append(None)
            raise KeyboardInterrupt
        written.append(path.name)
        write(path, some, start)

    monkeypatch.setattr(module, "write_tar", stops)
    given = ("coco", [place / "coco.json"], place, "train", place / "out", 1)
    with pytest.raises(KeyboardInterrupt):
        convert(*given)
    assert not (place / "out/train/nshards.txt").exists()
    convert(*given)
    assert written == ["0.tar", None, "1.tar", "2.tar"]
    assert [b"A 0" in one["txt"] for one in read(place / "out/train")] == [True, False, False]
    with pytest.raises(ValueError, match="was made from other files, or with another --size; delete it"):
        convert(*given[:-1], 2)


def test_what_does_not_fit_is_named(place, capsys):
    def said(*words):
        with pytest.raises(SystemExit):
            main([str(word) for word in (*words, "--images", place, "--split", "test", "--out", place / "out")])
        return capsys.readouterr().err

    assert "nocaps.json: not what coco publishes: KeyError" in said("coco", place / "nocaps.json")
    assert "vqa is made of 2 JSON file(s), not 1" in said("vqa", place / "answers.json")
    assert "'0' is not a number above 0" in said("coco", place / "coco.json", "--size", 0)
    (place / "1.jpg").unlink()
    assert "1.jpg: missing, with 0 more of 2 images; see --images" in said("nocaps", place / "nocaps.json")
    assert not (place / "out").exists()
