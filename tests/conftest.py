"""Small parameters and models that the tests share."""

import copy
import fcntl
import os
import shutil
from pathlib import Path

import pytest
import torch

import flip.data.torchvision_operators  # noqa: F401  (before anything that imports torchvision)

torch.set_num_threads(1)  # forked children (flip.train.step_cost) must not inherit a thread pool

os.environ.setdefault("HF_HUB_OFFLINE", "1")


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="all 10,000 mutations of params.yaml, which take half an hour")


def pytest_collection_modifyitems(items):
    """Begin with the files that take longest, as each is one process's."""
    items.sort(key=lambda item: -sum(mark.args[0] for mark in item.iter_markers("long")))


@pytest.fixture(scope="session")
def project():
    """params.yaml at tiny, with one seed and nothing swept or timed, as most tests ask for no more."""
    from flip.config.chosen import CHOSEN
    from flip.config.resolve import Project, read_project

    tree = read_project("params.yaml", "tiny").tree
    few = {key: value for key, value in tree["scales"]["tiny"].items() if key not in ("seeds", "sweep")}
    few["tuning"] = {key: value for key, value in few["tuning"].items() if key != "sweep"}
    return Project(tree | {"scales": tree["scales"] | {"tiny": few}, CHOSEN: {}}, "tiny")


@pytest.fixture(scope="session")
def change(project):
    """change(variant, {"model": {"patch": 16}}): a tiny variant's parameters with some replaced, checked again."""
    from flip.config.faults import check
    from flip.config.frozen import merge
    from flip.config.schema import Params

    def changed(variant="clip", delta=None):
        tree = copy.deepcopy(project.resolve(variant).model_dump(mode="json"))
        return check(Params, merge(tree, delta or {}), "test")

    return changed


COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 60, 220), "white": (240, 240, 240)}
SMALL = {
    "model": {"image": 16, "patch": 4, "embedding": 16, "tokens": 8,
              "vision": {"layers": 1, "width": 16, "heads": 2}, "text": {"layers": 1, "width": 16, "heads": 2}},
    "reconstruction": {"layers": 1, "width": 16, "heads": 2},
    "generative": {"layers": 1, "width": 16, "heads": 2},
    "simclr": {"hidden": 24, "width": 8},
    "self_distillation": {"crops": 2, "hidden": 24, "width": 8, "prototypes": 12},
    "flava": {"multimodal": {"layers": 1, "width": 16, "heads": 2}},
    "codebook": {"codes": 16, "code_width": 4, "width": 8, "blocks": 1, "samples": 480, "batch": 24,
                 "lr": 0.01, "decay": 0.9},
    "train": {"batch": 8, "batch_scale": 1, "epochs": 3.0, "epochs_scale": 1.0, "warmup_samples": 40,
              "warmup_scale": 1.0, "base_lr": 0.05, "shuffle_shards": 2},
    "evaluate": {"batch": 16},
    "transfer": {"steps": 30, "batch": 16, "lr": 0.01, "captioning": {"layers": 1, "width": 16, "heads": 2},
                 "fusion": {"layers": 1, "width": 16, "heads": 2},
                 "finetuning": {"steps": 4, "batch": 16, "lr": 0.01}},
    "cost": {"rounds": 3, "batch": 16},
}  # fmt: skip


def write_embeddings(folder, shards):
    """Random embeddings of all pairs, as a teacher's, for two seeds."""
    import numpy as np

    from flip.data.feature_cache import FACTS, write_features
    from flip.data.pair_embeddings import PARTS
    from flip.files import write_json

    random = np.random.default_rng(0)
    for part in (folder / f"seed-{seed}" / part for seed in (0, 1) for part in PARTS):
        write_json(part / FACTS, {"manifest": "f" * 64, "weights": "e" * 64, "width": 6})
        for shard in shards:
            write_features(part, shard["name"], random.normal(size=(shard["samples"], 6)).astype(np.float32))


@pytest.fixture(scope="session")
def small_data(tmp_path_factory, change):
    """Three shards of plain coloured images with captions, a manifest, a tokenizer, random codes and embeddings."""
    import numpy as np
    import simplejpeg
    import webdataset

    from flip.data.shard_index import write_index
    from flip.data.tokenizer import train_wordpiece
    from flip.files import file_hash, write_json
    from flip.model.image_tokenizer import VQTokenizer
    from flip.model.weights import save_weights

    folder = tmp_path_factory.mktemp("data")
    random, captions, shards = np.random.default_rng(0), [], []
    (folder / "shards" / "0000").mkdir(parents=True)
    for number, count in enumerate((40, 37, 43)):
        name = f"0000/{number:05d}.tar"
        with webdataset.TarWriter(str(folder / "shards" / name), mtime=0) as tar:
            for item in range(count):
                colour = list(COLOURS)[random.integers(4)]
                height, width = random.integers(18, 30, 2)
                image = np.tile(np.array(COLOURS[colour], np.uint8), (height, width, 1))
                image += random.integers(0, 15, image.shape, dtype=np.uint8)
                captions.append(f"{colour} image {number} {item}")
                jpeg = simplejpeg.encode_jpeg(image, quality=95)
                tar.write({"__key__": f"0000-{number:03d}{item:06d}", "jpg": jpeg, "txt": captions[-1]})
        path = folder / "shards" / name
        write_index(path)
        shards.append({"name": name, "samples": count, "sha256": file_hash(path), "bytes": path.stat().st_size})
    definition = train_wordpiece(iter(captions), 100)
    vocabulary = len(definition["model"]["vocab"])
    write_json(folder / "tokenizer.json", {"kind": "wordpiece", "vocabulary": vocabulary, "definition": definition})
    write_json(
        folder / "manifest.json", {"id": "f" * 64, "pairs": "e" * 64, "samples": len(captions), "shards": shards}
    )
    (folder / "captions.txt").write_text("\n".join(captions))
    torch.manual_seed(0)
    save_weights(folder / "codebook" / "weights.safetensors", VQTokenizer(change("flava", SMALL)).state_dict())
    write_embeddings(folder / "teachers" / "clip", shards)
    return folder


TOWERS = {
    "image": 32, "patch": 8, "embedding": 24, "tokens": 12,
    "vision": {"layers": 2, "width": 32, "heads": 2}, "text": {"layers": 2, "width": 24, "heads": 3},
}  # fmt: skip


@pytest.fixture
def trained(change, small_data):
    """(variant, delta) -> a model with random weights, biases and gains among them, and its tokenizer."""

    from flip.config.frozen import merge
    from flip.config.tree import read_tree
    from flip.data.tokenizer import CaptionTokenizer
    from flip.losses import build_towers

    variants = read_tree("params.yaml")["variants"]

    def made(variant="clip-form", delta=None):
        params = change(
            variant, merge(merge(variants[variant], {"model": TOWERS, "captions": {"tokenizer": "scale"}}), delta or {})
        )
        tokenizer = CaptionTokenizer(small_data / "tokenizer.json", params.model.tokens, params.captions)
        torch.manual_seed(0)
        model = build_towers(params, tokenizer.vocabulary).eval()
        for parameter in model.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
        return model, tokenizer

    return made


def once(tmp_path_factory, name: str, make):
    """A folder that `make(folder)` fills, once for all of pytest's processes; each gets a copy of its own."""
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with open(f"{shared}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (shared / "done").exists():
            shutil.rmtree(shared, ignore_errors=True)
            shared.mkdir()
            make(shared)
            (shared / "done").touch()
    return shutil.copytree(shared, tmp_path_factory.mktemp(name) / name, symlinks=True)


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """The workflow's folder after `snakemake ablations` from nothing, in miniature. Not to be changed by a test."""
    from tests.miniature import copy_workflow, shrink, snakemake, write_params

    def make(folder):
        (folder / "flip").mkdir()
        copy_workflow(folder / "flip")
        write_params(folder / "flip", shrink)
        snakemake(folder / "flip", "ablations")

    return once(tmp_path_factory, "made", make) / "flip"


@pytest.fixture(scope="session")
def recorded(made, tmp_path_factory):
    """The run of `made` in Git and DVC, with a folder as its remote, and what recording it said."""
    from tests.versioned import record

    folder = once(tmp_path_factory, "recorded", lambda folder: (folder / "said").write_text(record(made, folder)))
    return folder / "work", (folder / "said").read_text()


@pytest.fixture
def work(recorded, tmp_path):
    """A copy of the recorded folder to change."""
    return Path(shutil.copytree(recorded[0], tmp_path / "work", symlinks=True))


@pytest.fixture
def clone(recorded, tmp_path):
    """A fresh clone, nothing pulled."""
    from tests.miniature import call

    folder = tmp_path / "clone"
    call(tmp_path, "git", "clone", "--quiet", str(recorded[0]), str(folder))
    return folder
