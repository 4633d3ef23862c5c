"""Synthetic results in the layout of the pipeline, for the tests of tables and page."""

import io
import tarfile
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import product

import numpy as np
from PIL import Image

from flip.data.contact_sheet import cell, sheet, webp
from flip.data.shard_index import write_index
from flip.files import write_atomic, write_json
from flip.metrics.measures import ACCURACY
from flip.metrics.names import HEADS, Metric, transferred
from flip.metrics.scoring import by_image, number
from flip.provenance.receipt import save
from flip.provenance.specs import recipe

SHIFTS = ["sketch", "rendition", "corruption", "viewpoint"]
KINDS = ["replace-object", "replace-attribute", "replace-relation", "swap-attribute", "swap-relation"]
ITEMS = {
    "fine": 1500,
    "coarse": 1000,
    "retrieval": 400,
    "pointing": 480,
    "entailment": 1500,
    "composition": 480,
    **dict.fromkeys(SHIFTS, 1000),
}
CLASSES = {
    "fine": 128,
    "coarse": 16,
    "retrieval": None,
    "pointing": 0,
    "entailment": 2,
    "composition": 0,
    **dict.fromkeys(SHIFTS, 128),
}
PROBED = {"fine": 2560, "coarse": 800, "entailment": 2560}
PROBES = ["fine-probe", "coarse-probe"]
STATEMENTS = {"entailment-image": "relates", "entailment-text": "has_text_tower"}
METRICS = [
    "fine",
    "fine-masked",
    "fine-ensemble",
    "coarse",
    "retrieval-image-r1",
    "retrieval-text-r1",
    "pointing",
    *(f"composition-{kind}" for kind in KINDS),
    *SHIFTS,
]
BEGAN = datetime(2026, 11, 24, 9, tzinfo=UTC)
EVIDENCE = {"git": {"commit": "c0ffee", "changed": False}, "versions": {"torch": "2.13.0"}}
MANIFEST, PAIRS, IMAGES = "5e" * 32, "7a" * 32, 10970


def outcomes(metric, params, seed, ease):
    """Right where an item is easy enough for the run; ease is common to all runs, so runs agree on most items."""
    rng = np.random.default_rng(sum(map(ord, f"{metric}{params.variant}{seed}")))
    skill = 0.4 + 0.04 * np.log2(params.train.total_epochs * params.train.batch_scale) - 0.1 * params.masking.image
    skill += 0.02 * rng.normal() - 0.08 * metric.endswith("-masked") + (0.2 if params.start else 0)
    return (ease + 0.2 * rng.random(len(ease)) < skill).astype(np.float32)


def write_receipt(path, stage, after, start, minutes, **more):
    """What the report reads of the receipt of a job."""
    made_from = {"after": dict.fromkeys(map(str, after), "id")}
    times = {"start": start.isoformat(), "end": (start + timedelta(minutes=minutes)).isoformat()}
    save(path, {"spec": {"stage": stage} | more, "made_from": made_from, "facts": {}} | times | EVIDENCE)


def write_receipts(folder, parameters):
    """Those of one seed: some two hours later than others, the evaluation a while after the training."""
    number = sum(map(ord, folder.parent.name))
    start = BEGAN + timedelta(minutes=number % 40, hours=number % 2 * 2)
    write_receipt(folder / "pretrain.json", "pretrain", [], start, 6, parameters=parameters)
    write_receipt(folder / "evaluate.json", "evaluate", [folder / "pretrain.json"], start + timedelta(minutes=7), 1.5)


@cache
def plain_sheet(value):
    return webp(sheet([[cell(np.full((8, 8, 3), value, np.uint8))] * 3] * 12))


def write_sheets(folder, params):
    """Sheets as an evaluation leaves them; gives the facts about them."""
    found = {}
    if params.reconstruction.weight or params.generative.pixels:
        facts = {"kind": "reconstruction", "set": "fine", "removed": 0.75, "normalized": True, "words": False}
        found["reconstruction"] = facts | {"subjects": ["red star"] * 12, "error": 0.4321, "measured": 512}
    if params.aligned:
        facts = {"kind": "relevance", "set": "pointing", "subjects": ["a red star", "a <b>"]}
        found["relevance-pointing"] = facts | {"hits": [True, False]}
        facts = {"kind": "retrieval", "set": "retrieval", "subjects": ["a red star"] * 12, "images": 400, "top": 4}
        found["matches-retrieval"] = facts | {"ranks": [1] * 5 + list(range(2, 9))}
    for place, name in enumerate(found):
        write_atomic(folder / "sheets" / f"{name}.webp", plain_sheet(90 * place))
    return found


def write_codebook(folder):
    use = [0.5, 0.3, 0.2, 0.0]
    write_json(
        folder / "metrics.json",
        {"error": 0.1234, "used": 0.75, "perplexity": 300.4, "codes": 512, "use": use, "trained": True},
    )
    write_atomic(folder / "images.webp", webp(sheet([[cell(np.zeros((8, 8, 3), np.uint8))] * 2] * 12)))


def write_run(root, project, name, manifest=MANIFEST, sets_from="00", fitted_to="11", pairs=PAIRS, images=IMAGES):
    """One variant's results and receipts; `samples` follow from its epochs on 10,000 pairs."""
    params, folder = project.variants[name], root / "results" / name
    batch = params.train.global_batch
    samples = int(10000 * params.train.total_epochs) // batch * batch
    for seed in params.seeds:
        place = folder / f"seed-{seed}"
        write_receipts(root / "receipts/variants" / name / place.name, recipe(project, name))
        found = {}
        able = [metric for metric, ability in STATEMENTS.items() if getattr(params, ability)]
        for metric in [*able, *(METRICS if params.aligned else []), *(PROBES if params.has_image_tower else [])]:
            test = metric.split("-")[0]
            captions = 5 if metric == "retrieval-image-r1" else 1
            ease = np.random.default_rng(ITEMS[test] + captions).random(ITEMS[test] * captions)
            found[metric] = by_image(outcomes(metric, params, seed, ease), np.arange(len(ease)) // captions)
        place.mkdir(parents=True, exist_ok=True)
        np.savez(place / "outcomes.npz", **found)
        sets = {s: {"samples": ITEMS[s], "classes": CLASSES[s], "sha256": sets_from * 32} for s in ITEMS}
        for test, count in PROBED.items():
            sets[test]["train"] = {"samples": count, "sha256": fitted_to * 32}
        sets["pointing"]["chance"] = 12.3246
        sets["composition"] |= {"chance": 50.0, "pairs": dict.fromkeys(KINDS, 480)}
        metrics = {metric: number(ACCURACY, values) for metric, values in found.items()}
        facts = {"metrics": metrics, "skipped": {}, "sets": sets, "manifest": manifest, "weights": "ab" * 32}
        write_json(place / "metrics.json", facts | {"sheets": write_sheets(place, params)})
        steps = samples // batch
        training = {"samples": samples, "steps": steps, "seconds": 61.5, "device": "CPU"}
        training |= {"manifest": manifest, "pairs": pairs, "images": images}
        write_json(place / "training.json", training)
        seen = np.arange(1, steps + 1) * batch
        lines = [f"{n},{np.log(batch) * (0.4 + 0.6 * np.exp(-n / 20000)):.4f},0.001,14.3,1000.0" for n in seen]
        write_atomic(place / "log.csv", "samples,loss,lr,scale,samples_per_second\n" + "\n".join(lines) + "\n")


def write_trained(folder, params):
    """What the jobs leave that are trained to be measured, for each seed: of a kind of question, fewer images."""
    asked = ("colour", "shape", "count", "place", "relation")
    items = {"coarse-finetuned": 1000} | dict.fromkeys(("caption-cider", "caption-bleu4", "vqa"), 400)
    items |= {f"vqa-{kind}": 260 for kind in asked}
    train = {"samples": 2560, "sha256": "22" * 32}
    sets = {task: {"samples": 400, "classes": 0, "sha256": "33" * 32, "train": train} for task in ("caption", "vqa")}
    jobs = {metric: Metric.parse(metric, ("coarse", "caption", "vqa")).job for metric in items}
    for seed, job in product(params.seeds, set(jobs.values())):
        place = folder / params.variant / job / f"seed-{seed}"
        found = {
            metric: outcomes(metric, params, seed, np.random.default_rng(count).random(count))
            for metric, count in items.items()
            if jobs[metric] == job
        }
        place.mkdir(parents=True, exist_ok=True)
        np.savez(place / "outcomes.npz", **found)
        metrics = {metric: number(ACCURACY, values) for metric, values in found.items()}
        facts = {"metrics": metrics, "skipped": {}, "weights": "ab" * 32}
        write_json(place / "metrics.json", facts | {"sets": sets if job == HEADS else {}})


def write_cost(folder, variants):
    """FLOPs as if half were the image encoder's kept share; rounds with a common trend that the ratios do not see."""
    rows = {}
    for name, params in variants.items():
        share = 0.1 + 0.9 * (1 - params.masking.image)
        rows[name] = {
            "batch": params.train.global_batch, "flops_per_sample": 4e8 * share, "seconds_per_sample": 2e-3 * share,
            "relative_rounds": [share * jitter for jitter in (0.98, 1.0, 1.03)] if share < 1 else [1.0, 1.0, 1.0],
            "peak_memory_bytes": int(5e8 * share * params.train.batch_scale),
        }  # fmt: skip
    write_json(folder / "cost.json", {"device": "CPU", "threads": 1, "rounds": 3, "variants": rows})


def write_shard(tar):
    """A dozen images with captions and their index; gives what a manifest says of it."""
    tar.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(tar, "w") as file:
        for item in range(12):
            image = io.BytesIO()
            Image.new("RGB", (180, 120), (20 * item, 90, 160)).save(image, "JPEG")
            for extension, content in (("jpg", image.getvalue()), ("txt", f"a <b>{item}</b> on grass".encode())):
                member = tarfile.TarInfo(f"{item:06d}.{extension}")
                member.size = len(content)
                file.addfile(member, io.BytesIO(content))
    return {"name": f"{tar.parent.name}/{tar.name}", "samples": write_index(tar)}


def write_data(folder):
    lost = {"not found": 520, "forbidden": 120, "not an image": 130, "exact duplicate": 200, "in a test set": 60}
    total = {"wanted": 12000, "arrived": 11360, "decoded": 11230, "used": IMAGES, "lost": lost}
    shards = [write_shard(folder / "shards/0000/00000.tar")]
    write_json(folder / "manifest.json", {"id": MANIFEST, "pairs": PAIRS, "samples": IMAGES, "shards": shards})
    table = {"rows": total["wanted"] + 3000, "wanted": total["wanted"], "lost": {"filter: size": 3000}}
    of_rows = {"rows": table["rows"]} | total | {"lost": total["lost"] | table["lost"]}
    write_json(folder / "ledger.json", {"total": of_rows, "table": table, "parts": {"0000": total}})


def write_world(root, project):
    """data/, results/, receipts/ and tables/cost.json under `root` for all variants of a project: these four."""
    write_data(root / "data")
    write_codebook(root / "data" / "codebook")
    for name in project.variants:
        write_run(root, project, name)
    for name in transferred(project):
        write_trained(root / "tables", project.variants[name])
    write_cost(root / "tables", project.variants)
    return root / "data", root / "results", root / "receipts", root / "tables" / "cost.json"
