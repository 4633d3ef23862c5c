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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from flip.config.faults import ParameterError
from flip.config.frozen import dump, to_yaml
from flip.config.resolve import Project
from flip.config.schema import Params
from flip.files import write_atomic
from flip.metrics.names import HEADS, transferred
from flip.provenance import unread
from flip.provenance.layout import Layout
from flip.provenance.sources import rule_hash, source_hash


@dataclass(frozen=True)
class Stage:
    """The module that a rule of the same name runs, and the parameters that its result does not depend on, by key, with
    the reason; None where the command is given no parameters at all."""

    module: str
    unread: dict[str, str] | None = None

    def parameters(self, params: Params) -> dict:
        """Return what counts of the parameters: all but `unread`."""
        if self.unread is None:
            return {}
        return params.model_dump(mode="json", exclude=unread.nested(self.unread))


DATA = {
    "table": Stage("flip.data.table", unread.TABLE),
    "download": Stage("flip.data.download", unread.DOWNLOAD),
    "fingerprints": Stage("flip.data.fingerprints"),
    "mirror_set": Stage("flip.testsets.mirror", unread.MIRROR_SET),
    "test_sets": Stage("flip.testsets", unread.TEST_SETS),
    "test_fingerprints": Stage("flip.data.fingerprints"),
    "duplicates": Stage("flip.data.duplicates", unread.DUPLICATES),
    "shards": Stage("flip.data.shards", unread.SHARDS),
    "manifest": Stage("flip.data.manifest"),
    "tokenizer": Stage("flip.data.tokenizer", unread.TOKENIZER),
}
TRANSLATIONS = Stage("flip.synthetic.translate", unread.TRANSLATIONS)
TRANSLATED_SET = Stage("flip.synthetic.translate", unread.TRANSLATED_SET)
PRETRAIN = Stage("flip.train", unread.PRETRAIN)
EMBED = Stage("flip.train.precompute_features", unread.EMBED)
CODEBOOK = Stage("flip.train.image_tokenizer", unread.CODEBOOK)
EVALUATE = Stage("flip.evaluate", unread.EVALUATE)
TRANSFER = {
    job: Stage("flip.transfer", unread.TRANSFER | own)
    for job, own in ((HEADS, unread.HEADS), ("finetuning", unread.FINETUNING))
}
COST = Stage("flip.train.step_cost", unread.COST)
TABLES = Stage("flip.report.tables", unread.TABLES)
PAGE = Stage("flip.report.whole", unread.TABLES)


def recipe(project: Project, variant: str) -> dict:
    """Return what training a variant depends on, with that of the variants that it builds on."""
    params = project.variants[variant]
    found = PRETRAIN.parameters(params)
    return found | {"before": [recipe(project, name) for name in params.before]} if params.before else found


def stages(project: Project) -> Iterator[tuple[str, Stage, dict]]:
    """Return every spec's path, its stage, and the parameters that it depends on."""
    at = Layout(project.scale).specs
    variants, baseline = project.variants, project.baseline
    for name, stage in DATA.items():
        yield at.data(name), stage, stage.parameters(baseline)
    yield at.codebook, CODEBOOK, CODEBOOK.parameters(baseline)
    for spoken in {params.captions.spoken for params in variants.values() if params.captions.translated}:
        yield at.translations(spoken), TRANSLATIONS, TRANSLATIONS.parameters(baseline)
    yield at.translated_set, TRANSLATED_SET, TRANSLATED_SET.parameters(baseline)
    for variant, params in variants.items():
        yield at.variant(variant, "pretrain"), PRETRAIN, recipe(project, variant)
        places = {"places": params.evaluate.of(params.captions.languages)}
        yield at.variant(variant, "evaluate"), EVALUATE, EVALUATE.parameters(params) | places
    for name in {params.features for params in variants.values()} - {None}:
        yield at.features(name), EMBED, EMBED.parameters(variants[name])
    for report in project.reports:
        yield from report_stages(project, report)
    yield at.page, PAGE, {"reports": project.tree["reports"]}


def report_stages(project: Project, report: str) -> Iterator[tuple[str, Stage, dict]]:
    """Those of a report, as `stages` gives them."""
    at, variants, part = Layout(project.scale).specs, project.variants, project.of(report)
    yield at.tables(report, "cost"), COST, {name: COST.parameters(variants[name]) for name in part.named}
    for name, jobs in transferred(part).items():
        for job, some in jobs.items():
            stage = TRANSFER[HEADS if job == HEADS else "finetuning"]
            learned = stage.parameters(variants[name]) | {"tasks": some}
            yield at.transfer(report, name, job), stage, learned
    compared = {name: part.tree[name] for name in ("reports", "tables", "tradeoff")}
    compared |= {"variants": {name: TABLES.parameters(variants[name]) for name in part.named}}
    yield at.tables(report, "tables"), TABLES, compared


def specs(project: Project, rules: Path) -> dict[str, str]:
    """Return every spec and the frozen parameters: path -> text."""
    at = Layout(project.scale)
    found = {at.params(name): dump(one) for name, one in project.variants.items()}
    found[at.project] = to_yaml(project.tree | {"scale": project.scale})
    for path, stage, parameters in stages(project):
        name = Path(path).stem
        content = {
            "stage": name,
            "module": stage.module,
            "code": source_hash(stage.module),
            "rule": rule_hash(name, rules),
            "parameters": parameters,
        }
        found[path] = json.dumps(content, indent=1) + "\n"
    return found


def write_specs(project: Project, in_use: bool, rules: str = "rules") -> None:
    """Brings the specs of the project's scale up to date; what has not changed is not touched.

    Raises:
        ParameterError: something has changed while a workflow that is at work has them `in_use`.
    """
    folder, wanted = Path(Layout(project.scale).specs.root), specs(project, Path(rules))
    files = [path for path in folder.rglob("*.*") if path.is_file()]
    there = {str(path): path.read_text(errors="replace") for path in files}
    changed = [path for path in wanted.keys() | there.keys() if wanted.get(path) != there.get(path)]
    if changed and in_use:
        raise ParameterError(
            f"params.yaml or the code has changed ({folder}: {', '.join(sorted(changed)[:3])}, ...) while another "
            "Snakemake is at work here, whose jobs read what they were planned with; wait for its end, or make the "
            "change in another clone"
        )
    for path in changed:
        if path in wanted:
            write_atomic(path, wanted[path])
        else:
            Path(path).unlink()
