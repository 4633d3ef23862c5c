"""Before any training job: everything that it would fail for is named at once, with what to do."""

import shutil
from types import SimpleNamespace

import pytest
import yaml

from flip.config.frozen import merge
from flip.config.resolve import Project
from flip.data.shard import read_index
from flip.files import read_json
from flip.plan import preflight
from tests.conftest import SMALL


@pytest.fixture
def data(small_data, tmp_path):
    return shutil.copytree(small_data, tmp_path / "data")


def project_with(project, **changes) -> Project:
    """Two small variants, with some keys of the scale replaced."""
    tree = yaml.safe_load(yaml.safe_dump(project.tree))
    tree["models"]["tiny"] = SMALL["model"]
    tree["variants"] = {name: tree["variants"][name] for name in ("clip", "flip-50")}
    tree["tables"] = {"a": {"title": "A", "report": "ablations", "variants": ["clip", "flip-50"], "metrics": ["fine"]}}
    tree["reports"] = {"ablations": tree["reports"]["ablations"]}
    tree["tradeoff"]["curves"] = {"all": ["clip"]}
    tree["scales"]["tiny"] = merge(merge(tree["scales"]["tiny"], {"train": {"batch": 16}}), changes)
    return Project(tree, "tiny")


def test_nothing_is_wrong_with_good_data(project, data, tmp_path):
    assert preflight.faults(project_with(project), data, tmp_path) == []


def test_the_command_names_all_faults_at_once(project, data, tmp_path, monkeypatch, capsys):
    shard = next((data / "shards").rglob("00000.tar"))
    content = shard.read_bytes()
    # The captions' bytes become spaces, and nine images of ten lose their beginning.
    for jpg, _, txt, length in read_index(shard).tolist():
        content = content[:txt] + b" " * length + content[txt + length :]
        if jpg % 10:
            content = content[:jpg] + b"xxxx" + content[jpg + 4 :]
    shard.write_bytes(content)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    bad = project_with(project, train={"batch": 100}, resources={"pretrain": {"memory_mb": 1}})
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(bad.tree))
    with pytest.raises(SystemExit):
        preflight.main(["--params", str(path), "--scale", "tiny", "--data", str(data), "--folder", str(tmp_path)])
    said = capsys.readouterr().err
    for fact in (
        "0 of the first 40 captions have a word; look at source.caption_column",
        "of the first 40 images can be decoded",
        "variant 'flip-50': a batch of 200 is larger than the data (120 pairs)",
        "0.0 GB are free; make room, or lower train.keep_checkpoints",
        "variant 'clip': a step needs about",
        "resources.pretrain.memory_mb = 1; raise it",
    ):
        assert fact in said


def test_a_step_must_fit_into_a_gpu_where_its_memory_is_said(project, data, tmp_path):
    """Those of clip need 0.9 MB, those of flip-50 1.1 MB; only variants that are to be trained are looked at."""
    gpu = project_with(project, resources={"pretrain": {"gpus": 1, "gpu_memory_mb": 1}})
    (fault,) = preflight.faults(gpu, data, tmp_path)
    assert fault.startswith("variant 'flip-50': a step needs about 1 MB, resources.pretrain.gpu_memory_mb = 1")
    assert preflight.faults(gpu, data, tmp_path, ["clip"]) == []
    unsaid = project_with(project, resources={"pretrain": {"gpus": 1, "gpu_memory_mb": None, "memory_mb": 1}})
    assert preflight.faults(unsaid, data, tmp_path) == []


def test_a_missing_shard_is_named(project, data, tmp_path):
    name = read_json(data / "manifest.json")["shards"][0]["name"]
    (data / "shards" / name).unlink()
    with pytest.raises(ValueError, match=f"{name}: missing"):
        preflight.faults(project_with(project), data, tmp_path)


def test_the_disk_must_hold_weights_and_checkpoints(project):
    """Weights of both variants; of one run three checkpoints (two kept, one in writing) of weights and two moments."""
    variants = project_with(project).variants
    one = 4 * preflight.weights(variants["clip"]).total
    assert preflight.disk_needed(variants, 120) == 2 * one + 3 * 3 * one


def test_a_public_set_that_is_not_here_is_named(project, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pinned = project_with(project, evaluate={"sets": {"cars": f"wds/cars@{'0' * 40}"}})
    (fault,) = preflight.faults(pinned, data, tmp_path)
    assert fault.startswith("evaluate.sets.cars: testsets/wds_cars/0000")
    assert "is not here; `snakemake mirror` fetches it" in fault


def test_an_empty_port_range_is_named(monkeypatch):
    def refuse(*_):
        raise OSError("no more ports")

    monkeypatch.setattr(preflight.socket, "create_server", refuse)
    assert "no more ports" in next(preflight.port_faults())


def test_float8_without_its_package_is_named(project, data, tmp_path, monkeypatch):
    wanted = project_with(project, train={"precision": "float8"})
    assert preflight.faults(wanted, data, tmp_path) == []
    monkeypatch.setattr(preflight, "find_spec", lambda name: None)
    assert preflight.faults(wanted, data, tmp_path) == [
        f"variant '{name}': train.precision: float8 needs torchao; pip install 'flip[gpu]', or set bfloat16"
        for name in ("clip", "flip-50")
    ]
