"""What a scale reads from elsewhere is looked at before any job: each fault is a line that names the file and what is
right. Damaged test sets are refused where they are checked, and no damage of theirs is a traceback."""

import json
import os
import random
import re
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from flip.config.frozen import merge, to_yaml
from flip.config.resolve import read_project
from flip.config.tree import read_tree
from flip.plan import doctor
from flip.testsets.revision import revision
from tests.layouts import captioned, classified, photo
from tests.miniature import ROOT

ROWS = {"url": ["http://x/1.jpg"] * 5000, "caption": ["a boat"] * 5000}
# The scale of one's own that the documentation shows.
DOCS = (ROOT / "docs/data.md").read_text().partition("## Your own scale")[2]
MINE = yaml.safe_load(re.search(r"```yaml\n(.*?)```", DOCS, re.DOTALL)[1])["scales"]["mine"]
HERE = {"source": {"table": "mine.parquet"}, "evaluate": {"sets": {"birds": "./birds"}}}


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """mine(changes): the faults of a scale of one's own, which the documentation shows, with changes."""
    tree = read_tree(ROOT / "params.yaml")
    monkeypatch.chdir(tmp_path)
    classified(tmp_path / "birds")
    pq.write_table(pa.table(ROWS), "mine.parquet")

    def found(changes=None):
        own = {"mine": merge(merge(MINE, HERE), changes or {})}
        (tmp_path / "params.yaml").write_text(to_yaml(tree | {"scale": "mine", "scales": tree["scales"] | own}))
        return doctor.faults(read_project(tmp_path / "params.yaml").check())

    return found


def test_ten_lines_are_a_scale_of_ones_own(mine):
    assert mine() == []
    project = read_project("params.yaml")
    assert {"ablations", "siglip", "scaling"} <= project.reports.keys()
    assert [*project.left_out] == ["languages"]
    assert "msiglip: source.translations = null" in project.left_out["languages"]
    assert {str(one) for name in project.tables for one in project.metrics(name)} >= {"birds"}


TABLES = {
    "no caption": (
        {"url": ["x"], "text": ["x"]},
        "mine.parquet: no column 'caption'; there are: url, text; set",
    ),
    "lists": ({"url": ["x"], "caption": [[1]]}, "mine.parquet: column 'caption' is list<"),
    "structs": ({"url": ["x"], "caption": [{"en": "x"}]}, "mine.parquet: column 'caption' is struct<"),
    "numbers": (
        {"url": ["x"], "caption": [1.5]},
        "mine.parquet: column 'caption' is double, not text; name another",
    ),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_that_cannot_be_read_is_named_with_the_key_to_change(mine, name):
    columns, said = TABLES[name]
    pq.write_table(pa.table(columns), "mine.parquet")
    (found,) = [one for one in mine() if "mine.parquet" in one]
    assert said in found


def test_a_folder_or_a_pipe_that_is_called_a_table_is_no_file(mine, tmp_path):
    (tmp_path / "spark.parquet").mkdir()
    os.mkfifo(tmp_path / "pipe.csv")
    for name, said in (("spark.parquet", "name the files in it, as spark.parquet/*.parquet"), ("pipe.csv", "no file")):
        assert any(one.startswith(name) and said in one for one in mine({"source": {"table": name}}))


def test_a_column_that_is_there_twice_is_named(mine):
    pq.write_table(pa.Table.from_arrays([pa.array(["x"])] * 3, ["url", "caption", "caption"]), "mine.parquet")
    assert any("mine.parquet: 2 columns 'caption'" in one for one in mine())


def test_paths_that_are_not_there_are_named_all_at_once(mine, tmp_path):
    found = mine({"source": {"table": "none/*.parquet"}, "evaluate": {"sets": {"cars": "./cars", "dogs": "./dogs"}}})
    assert found[0] == "source.table 'none/*.parquet': no such file; copy it there, or name another one"
    assert found[1].startswith("no such folder: evaluate.sets.cars ('cars'), evaluate.sets.dogs ('dogs'); put the sets")
    assert len(found) == 2
    (tmp_path / "mine.parquet").rename(tmp_path / "mine[1].parquet")
    assert (
        "mine[1].parquet': [ ] means one of several letters; write [[]"
        in mine({"source": {"table": "mine[1].parquet"}})[0]
    )
    assert mine({"source": {"table": "mine[[]1].parquet"}}) == []


def test_what_is_the_worlds_or_for_more_data_is_not_taken_in_silence(mine):
    world = {"fine": "world", "retrieval": "world"}
    found = mine({"train": {"batch": 16384}, "evaluate": {"sets": world}})
    assert "train.batch = 16384: the 5000 rows of source.table are 0 steps an epoch; lower it" in found[0]
    assert "evaluate.sets: fine, retrieval are the synthetic world's, and source.table is 'mine.parquet'" in found[1]


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("zeroshot_classification_templates.txt", "a photo\n", "line 1, 'a photo': each line needs {c}"),
        ("classnames.txt", "", "classnames.txt: empty"),
        ("test/nshards.txt", "many", "nshards.txt"),
        ("dataset_type.txt", "guessing", "guessing"),
    ],
)
def test_what_all_samples_of_a_set_share_is_looked_at(mine, tmp_path, file, content, said):
    (tmp_path / "birds" / file).write_text(content)
    try:
        found = mine()
    except ValueError as error:  # a kind that is none is a fault of params.yaml
        found = [str(error)]
    assert len(found) == 1
    assert said in found[0]
    assert "birds" in found[0]


def test_a_result_that_holds_needs_no_source(mine):
    mine({"source": {"table": "gone.parquet"}, "evaluate": {"sets": {"birds": "./gone"}}})
    project = read_project("params.yaml")
    assert len(doctor.faults(project)) == 2
    assert doctor.faults(project, lambda receipt: True) == []


def test_a_report_of_one_scale_breaks_no_other(mine, tmp_path):
    mine()
    tree = read_tree(tmp_path / "params.yaml")
    report = {"title": "Birds", "question": "Which?", "about": "Mine.", "scales": ["mine"]}
    table = {"title": "Birds", "report": "birds", "variants": ["clip"], "metrics": ["birds", "birds-probe"]}
    tree = tree | {"reports": tree["reports"] | {"birds": report}, "tables": tree["tables"] | {"birds": table}}
    (tmp_path / "params.yaml").write_text(to_yaml(tree))
    assert "birds" in read_project("params.yaml", "mine").check().reports
    for scale in ("tiny", "cc12m"):
        project = read_project("params.yaml", scale).check()
        assert "birds" not in project.reports.keys() | project.tables.keys()


def damaged(rng, content: bytes) -> bytes:
    """Bytes that are cut, changed, doubled, empty, or something else."""
    place = rng.randrange(len(content) + 1)
    return rng.choice(
        [
            content[:place],
            content[:place] + bytes([rng.randrange(256)]) + content[place + 1 :],
            content + content,
            b"",
            rng.randbytes(40),
            b"\xff\xfe" + content,
            b'{"a": [1, {"b": null}]}',
        ]
    )


def refusal(check) -> str | None:
    """The message of what is refused."""
    try:
        check()
    except ValueError as error:
        return str(error)
    return None


def test_a_hundred_damaged_sets_are_read_or_refused_by_name(tmp_path):
    """Files of text, classes, captions and images; and the tar itself."""
    rng, refused = random.Random(0), 0
    for number in range(100):
        folder = tmp_path / str(number)
        which = rng.randrange(5)
        if which == 0:
            classified(folder, replaced={rng.randrange(18): damaged(rng, photo(number))})
        elif which == 1:
            classified(folder, content=lambda item: damaged(rng, b"1") if item == 3 else b"%d" % (item % 3))
        elif which == 2:
            captioned(folder, [b"a boat", damaged(rng, "zwölf\nboats".encode()), b"c"])
        else:
            classified(folder)
            names = ["classnames.txt", "zeroshot_classification_templates.txt", "test/nshards.txt", "dataset_type.txt"]
            path = folder / (rng.choice(names) if which == 3 else "test/0.tar")
            path.write_bytes(damaged(rng, path.read_bytes() if path.exists() else b"classification"))
        said = refusal(lambda folder=folder: revision(folder, "birds", "./birds"))
        refused += said is not None
        assert said is None or str(folder) in said
        shutil.rmtree(folder)
    assert refused > 40


def test_a_hundred_damaged_json_files_are_refused_by_name(tmp_path):
    """Questions beside images, as VQAv2's."""
    from flip.config.kinds.vqa import KIND

    rng = random.Random(1)
    whole = json.dumps([{"question": "what?", "answers": ["boat", "a boat"]}]).encode()
    assert KIND.notes({"json": whole}, "0.tar: 000")
    for _ in range(100):
        said = refusal(lambda: KIND.notes({"json": damaged(rng, whole)}, "0.tar: 000"))
        assert said is None or "0.tar: 000" in said
