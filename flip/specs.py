"""What each job depends on besides the results of other jobs, as small files: its parameters, its code, its rule.

    specs/<scale>/params/<variant>.yaml               the frozen parameters, which the commands of the stages read
    specs/<scale>/params.yaml                         all of them, unresolved, for the stage that compares variants
    specs/<scale>/data/<stage>.json                   stages of the data
    specs/<scale>/codebook.json                       the image tokenizer
    specs/<scale>/languages/**/<stage>.json           captions in other languages
    specs/<scale>/variants/<variant>/<stage>.json     of one variant
    specs/<scale>/features/<variant>/<stage>.json     of one locked image tower
    specs/<scale>/tables/<report>/<stage>.json        of all variants that a report compares
    specs/<scale>/tables/<report>/<variant>/<job>/<stage>.json    of what is trained to be measured
    specs/<scale>/page.json                           the page of all reports

A spec changes when, and only when, its job has to run again; who only looks at files needs to know no more.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from flip.files import write_atomic
from flip.metrics import HEADS, jobs, transferred
from flip.params import ParameterError, Project, dump, to_yaml
from flip.provenance import source_hash
from flip.schema import Params, Source, World

# When a run saves its state, and when it gives up: no result depends on it, nor does what a step costs.
RESTART = {"checkpoint_minutes", "checkpoint_samples", "keep_checkpoints", "stall_minutes"}
# Settings that change how fast a result comes, and not what it is, but for rounding, as another machine does.
SPEED = {
    "resources": True,
    "train": {"workers", "decoder", "compile", "checkpoint_activations", "shard_weights"} | RESTART,
    "download": {"processes", "threads"},
}
# Of these, what a measured step costs depends on some.
UNMEASURED = {"train": RESTART}
# What the rows of the URL table and their pictures are made by.
ROWS = {"world": set(World.model_fields) - {"probe"}}
# What rows and pictures come from; captions in other languages come later.
SOURCE = set(Source.model_fields) - {"translations"}
# What a model and its inputs are made by.
FORM = {"model", "form", "captions", "masking"}
LOSSES = {"logits", "contrastive", "sigmoid", "reconstruction", "generative", "simclr", "flava"}
TRAINING = FORM | LOSSES | {"augmentation", "noise", "train", "start", "image_tower", "text_tower"}


@dataclass(frozen=True)
class Stage:
    """The module that a rule of the same name runs, the rule's file, and the sections (or keys) that both read."""

    module: str
    rules: str
    sections: set | dict


DATA = {
    "table": Stage("flip.data.table", "data", ROWS | {"source": SOURCE, "download": {"parts"}}),
    "download": Stage("flip.data.download", "data", ROWS | {"source": SOURCE, "download": True}),
    "fingerprints": Stage("flip.data.fingerprints", "data", set()),
    "mirror_set": Stage("flip.data.mirror", "testsets", {"evaluate": {"sets", "probe"}}),
    "test_sets": Stage("flip.data.testsets", "testsets", {"world": True, "evaluate": {"sets", "probe", "measures"}}),
    "test_fingerprints": Stage("flip.data.fingerprints", "testsets", set()),
    "duplicates": Stage("flip.data.duplicates", "data", {"shards": {"buckets"}}),
    "shards": Stage("flip.data.shards", "data", {"shards"}),
    "manifest": Stage("flip.data.manifest", "data", set()),
    "tokenizer": Stage("flip.data.tokenizer", "data", {"tokenizer": {"kind", "vocabulary", "path"}}),
}
TRANSLATIONS = Stage(
    "flip.data.translate",
    "languages",
    ROWS | {"source": {"table", "translations", "url_column"}, "tokenizer": {"multilingual"}},
)
TRANSLATED_SET = Stage("flip.data.translate", "languages", {"world": True, "evaluate": {"languages"}})
PRETRAIN = Stage("flip.pretrain", "pretrain", TRAINING)
EMBED = Stage(
    "flip.embed",
    "pretrain",
    {
        "model": {"image", "patch", "embedding", "vision"},
        "form": {"vision"},
        "image_tower": {"weights"},
        "train": {"precision"},
    },
)
CODEBOOK = Stage(
    "flip.codebook",
    "codebook",
    {"codebook": True, "model": {"image", "patch"}, "form": {"vision": {"mean", "std"}}, "augmentation": True}
    | {"seeds": True, "train": {"shuffle_shards"}},
)
EVALUATE = Stage("flip.evaluate", "evaluate", dict.fromkeys(FORM, True) | {"evaluate": {"probe", "batch"}})
TUNED = {"transfer": {"finetuning"}}
TRANSFER = Stage(
    "flip.transfer",
    "evaluate",
    dict.fromkeys(FORM, True) | {"world": {"seed"}, "evaluate": {"batch", "sets", "probe"}},
)
COST = Stage("flip.cost", "evaluate", TRAINING | {"cost"})
TABLES = Stage("flip.report.tables", "tables", set())
PAGE = Stage("flip.report.whole", "tables", set())


def rule_hash(stage: str, file: Path) -> str:
    """Of the text of a rule: from its name to the next line that is not indented."""
    found = re.search(rf"^rule {stage}:\n(?:[ \t]+.*\n|\n)*", file.read_text(), re.MULTILINE)
    return sha256(found[0].rstrip().encode()).hexdigest()[:16]


def selected(params: Params, sections: set | dict, but: dict = SPEED) -> dict:
    return params.model_dump(mode="json", include=sections, exclude=but)


def recipe(project: Project, variant: str) -> dict:
    """What training a variant depends on; with that of the variants that it builds on."""
    params = project.variants[variant]
    found = selected(params, TRAINING)
    return found | {"before": [recipe(project, name) for name in params.before]} if params.before else found


def trained(params: Params, job: str) -> dict:
    """What a job of `flip.transfer` depends on."""
    own = selected(params, {"transfer": True}, TUNED) if job == HEADS else selected(params, TUNED)
    return selected(params, TRANSFER.sections) | own


def stages(project: Project) -> Iterator[tuple[str, Stage, dict]]:
    """Every spec's path below specs/<scale>/, its stage, and the parameters that it depends on."""
    variants = project.variants
    for name, stage in DATA.items():
        yield f"data/{name}.json", stage, selected(project.baseline, stage.sections)
    yield "codebook.json", CODEBOOK, selected(project.baseline, CODEBOOK.sections)
    for spoken in {params.captions.spoken for params in variants.values() if params.captions.translated}:
        path = f"languages/{spoken}/translations.json"
        yield path, TRANSLATIONS, selected(project.baseline, TRANSLATIONS.sections)
    yield "languages/translated_set.json", TRANSLATED_SET, selected(project.baseline, TRANSLATED_SET.sections)
    for variant, params in variants.items():
        yield f"variants/{variant}/pretrain.json", PRETRAIN, recipe(project, variant)
        places = {"places": params.evaluate.of(params.captions.languages)}
        yield f"variants/{variant}/evaluate.json", EVALUATE, selected(params, EVALUATE.sections) | places
    for name in {params.features for params in variants.values()} - {None}:
        yield f"features/{name}/embed.json", EMBED, selected(variants[name], EMBED.sections)
    for report in project.reports:
        part = project.of(report)
        costs = {name: selected(variants[name], COST.sections, UNMEASURED) for name in part.named}
        yield f"tables/{report}/cost.json", COST, costs
        for name, tasks in transferred(part).items():
            for job, some in jobs(tasks).items():
                learned = trained(variants[name], job) | {"tasks": some}
                yield f"tables/{report}/{name}/{job}/transfer.json", TRANSFER, learned
        compared = {name: part.tree[name] for name in ("reports", "tables", "tradeoff")}
        whole = {name: variants[name].model_dump(mode="json", exclude=SPEED) for name in part.named}
        yield f"tables/{report}/tables.json", TABLES, compared | {"variants": whole}
    yield "page.json", PAGE, {"reports": project.tree["reports"]}


def specs(project: Project, rules: Path) -> dict[str, str]:
    """Every spec and the frozen parameters: path below specs/<scale>/ -> text."""
    found = {f"params/{name}.yaml": dump(one) for name, one in project.variants.items()}
    found["params.yaml"] = to_yaml(project.tree | {"scale": project.scale})
    for path, stage, parameters in stages(project):
        name = Path(path).stem
        content = {
            "stage": name,
            "module": stage.module,
            "code": source_hash(stage.module),
            "rule": rule_hash(name, rules / f"{stage.rules}.smk"),
            "parameters": parameters,
        }
        found[path] = json.dumps(content, indent=1) + "\n"
    return found


def write_specs(project: Project, in_use: bool, folder="specs", rules="rules") -> None:
    """Brings the specs of the project's scale up to date; what has not changed is not touched.

    Raises:
        ParameterError: something has changed while a workflow that is at work has them `in_use`.
    """
    folder, wanted = Path(folder) / project.scale, specs(project, Path(rules))
    there = {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*.*")}
    changed = [path for path in wanted.keys() | there.keys() if wanted.get(path) != there.get(path)]
    if changed and in_use:
        raise ParameterError(
            f"params.yaml or the code has changed ({folder}: {', '.join(sorted(changed)[:3])}, ...) while another "
            "Snakemake is at work here, whose jobs read what they were planned with; wait for its end, or make the "
            "change in another clone"
        )
    for path in changed:
        if path in wanted:
            write_atomic(folder / path, wanted[path])
        else:
            (folder / path).unlink()
