"""Write what each job depends on besides other jobs' results: its parameters, code and rule, in small files (specs).

    specs/<scale>/params/<variant>.yaml               the frozen parameters, which the commands of the stages read
    specs/<scale>/params.yaml                         all of them, unresolved, for the stage that compares variants
    specs/<scale>/data/<stage>.json                   stages of the data
    specs/<scale>/data/tests/<set>/<stage>.json       of one test set
    specs/<scale>/codebook.json                       the image tokenizer
    specs/<scale>/languages/**/<stage>.json           captions in other languages
    specs/<scale>/variants/<variant>/<stage>.json     of one variant
    specs/<scale>/sweeps/<variant>/<stage>.json       of the candidates of its sweep
    specs/<scale>/choices/<variant>/<stage>.json      of what it chooses
    specs/<scale>/times/<variant>/<stage>.json        of the timing of a variant that takes another one's time
    specs/<scale>/features/<variant>/<stage>.json     of one locked image tower
    specs/<scale>/teachers/<variant>/<stage>.json     of one whose embeddings are learned from
    specs/<scale>/curation/<variant>/<stage>.json     of the choice of one variant's pairs
    specs/<scale>/tables/<report>/<stage>.json        of all variants that a report compares
    specs/<scale>/tables/<report>/<variant>/<job>/<stage>.json    of a model that is trained to be evaluated
    specs/<scale>/page.json                           the page of all reports

A spec changes if and only if its job has to run again, so Snakemake has to compare nothing but files.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from flip.config import sweep
from flip.config.faults import ParameterError
from flip.config.frozen import dump, to_yaml
from flip.config.objectives import NAMES
from flip.config.resolve import Project
from flip.config.schema import Params
from flip.files import write_atomic
from flip.metrics.names import HEADS, transferred
from flip.provenance import unread
from flip.provenance.collect import COLLECTING
from flip.provenance.layout import Layout
from flip.provenance.rules import rule_hash
from flip.provenance.sources import REGISTRIES, path_of, source_hash, sources


@dataclass(frozen=True)
class Stage:
    """Describe a stage: the module that its rule runs, and the parameters that its result does not depend on.

    `unread` maps the keys of these to the reason; None means that the command is given no parameters. If what the stage
    reads is 'world', the synthetic data set, its rule runs the module `world` instead: users' data never passes through
    code that draws images. `others` has the modules for what else it may be (`source.kind`).
    """

    module: str
    unread: dict[str, str] | None = None
    world: str | None = None
    others: dict[str, str] = field(default_factory=dict)

    def at(self, place: str) -> "Stage":
        """Return the stage for its input: a place that params.yaml names, or the kind of the source."""
        if self.world is None:
            return self
        if place == "world":
            return Stage(self.world, self.unread)
        module = self.others.get(place, self.module)
        return Stage(module, (self.unread or {}) | unread.but(unread.NOT_READ, "world"))

    def parameters(self, params: Params) -> dict[str, Any]:
        """Return the parameters that count: all but `unread` and objectives without a weight."""
        if self.unread is None:
            return {}
        left_out = {*(set(NAMES) - params.objectives.keys()), *unread.as_before(params)}
        return params.model_dump(mode="json", exclude=unread.nested({*self.unread, *left_out}))

    def plugins(self, built: Iterable[Params]) -> list[str]:
        """List the modules of objectives that it imports by name when it builds the models of these parameters."""
        here = [one for one in REGISTRIES if path_of(one) in sources(self.module)]
        return sorted({f"{one}.{name}" for one in here for params in built for name in params.objectives})


DATA = {
    "table": Stage(
        "flip.sources.table",
        unread.TABLE,
        "flip.synthetic.table",
        {"tars": "flip.sources.list_tars", "several": "flip.sources.several"},
    ),
    "download": Stage(
        "flip.download.part",
        unread.DOWNLOAD,
        "flip.synthetic.download",
        {"tars": "flip.sources.take_in", "files": "flip.sources.pack", "several": "flip.download.several"},
    ),
    "fingerprints": Stage("flip.data.fingerprints", unread.FINGERPRINTS),
    "mirror_set": Stage("flip.testsets.mirror", unread.MIRROR_SET),
    "test_sets": Stage("flip.testsets.revision", unread.TEST_SETS, "flip.synthetic.testsets"),
    "test_fingerprints": Stage("flip.testsets.fingerprints"),
    "buckets": Stage("flip.data.buckets", unread.DUPLICATES),
    "duplicates": Stage("flip.data.duplicates", unread.DUPLICATES),
    "dropped": Stage("flip.data.dropped"),
    "all_buckets": Stage(COLLECTING),
    "all_duplicates": Stage(COLLECTING),
    "shards": Stage("flip.data.shards", unread.SHARDS),
    "manifest": Stage("flip.data.manifest"),
    "tokenizer": Stage("flip.data.tokenizer", unread.TOKENIZER),
    "words": Stage("flip.data.word_counts"),
    "all_words": Stage("flip.data.word_table", unread.ALL_WORDS),
}
TRANSLATIONS = Stage("flip.data.translate", unread.TRANSLATIONS, "flip.synthetic.translate")
TRANSLATED_SET = Stage("flip.testsets.revision", unread.TRANSLATED_SET, "flip.synthetic.testsets")
PRETRAIN = Stage("flip.train", unread.PRETRAIN)
EMBED = Stage("flip.train.precompute_features", unread.EMBED)
EMBED_PAIRS = Stage("flip.train.precompute_pairs", unread.EMBED)
CURATION = {
    "count_mentions": Stage("flip.curate.count", unread.CURATE),
    "sum_mentions": Stage("flip.curate.total", unread.CURATE),
    "score_pairs": Stage("flip.curate.score", unread.CURATE),
    "select_pairs": Stage("flip.curate.select", unread.CURATE),
}
CODEBOOK = Stage("flip.train.image_tokenizer", unread.CODEBOOK)
EVALUATE = Stage("flip.evaluate", unread.EVALUATE)
SWEEP = Stage("flip.sweep", unread.SWEEP)
CHOOSE = Stage("flip.sweep.choose", unread.SWEEP)
TRANSFER = {
    job: Stage("flip.transfer", unread.TRANSFER | own)
    for job, own in ((HEADS, unread.HEADS), ("finetuning", unread.FINETUNING))
}
STEP_TIME = Stage("flip.sweep.times", unread.COST)
COST = Stage("flip.train.step_cost", unread.COST)
TABLES = Stage("flip.report.tables", unread.TABLES)
PAGE = Stage("flip.report.whole", unread.TABLES)


def recipe(project: Project, variant: str) -> dict[str, Any]:
    """Return the parameters that training a variant depends on, with those of the variants that it starts from."""
    params = project.variants[variant]
    found = PRETRAIN.parameters(params)
    return found | {"before": [recipe(project, name) for name in params.before]} if params.before else found


def sweep_recipe(project: Project, variant: str) -> dict[str, Any]:
    """Return what the candidates of a variant's sweep have in common, with the recipes of those it starts from."""
    params = project.variants[variant]
    found = sweep.without(SWEEP.parameters(params), [*sweep.grid(params)])
    validation = params.evaluate.validation_set
    found["places"] = {validation: params.evaluate.sets.get(validation or "")}
    return found | {"before": [recipe(project, name) for name in params.before]}


def is_chosen(project: Project, variant: str) -> bool:
    """Return whether a sweep of this very recipe has chosen what a variant is trained with."""
    choice = project.choices.get(variant)
    return choice is not None and choice["recipe"] == sweep.recipe_hash(sweep_recipe(project, variant))


def timed_recipe(project: Project, variant: str) -> dict[str, Any]:
    """Return what the ratio of two times depends on, by variant: of a step of the variant whose time this one takes,
    and of its own; nothing where it takes none."""
    params = project.variants[variant]
    pair = [project.variants[params.train.equal_time], params] if params.train.equal_time else []
    return {one.variant: STEP_TIME.parameters(one) for one in pair}


def is_timed(project: Project, variant: str) -> bool:
    """Return whether the schedule of a variant was computed for steps of these very recipes, or is its own."""
    recipe, found = timed_recipe(project, variant), project.times.get(variant)
    return not recipe or (found is not None and found["recipe"] == sweep.recipe_hash(recipe))


class Spec(NamedTuple):
    """Hold a spec's path, its stage, the parameters that it depends on, and the variants whose models it builds."""

    path: str
    stage: Stage
    parameters: dict[str, Any]
    variants: Sequence[Params] = ()

    def text(self, rules: Path) -> str:
        """Return the content of its file (JSON), with hashes of the code and of the rule in the folder `rules`."""
        name, plugins = Path(self.path).stem, self.stage.plugins(self.variants)
        code = source_hash(self.stage.module, tuple(plugins))
        content: dict[str, Any] = {"stage": name, "module": self.stage.module, "plugins": plugins, "code": code}
        content |= {"rule": rule_hash(name, rules), "parameters": self.parameters}
        return json.dumps(content, indent=1) + "\n"


def stages(project: Project) -> Iterator[Spec]:
    """Yield every spec of the project's scale."""
    at, variants = Layout(project.scale).specs, project.variants
    for path, stage in data_stages(project):
        yield Spec(path, stage, stage.parameters(project.baseline))
    for variant, params in variants.items():
        yield Spec(at.variant(variant, "pretrain"), PRETRAIN, recipe(project, variant), [params])
        places = {"places": params.evaluate.of(params.captions.languages)}
        yield Spec(at.variant(variant, "evaluate"), EVALUATE, EVALUATE.parameters(params) | places, [params])
        if params.curation:
            yield from curation_stages(project, params)
        if tried := sweep.grid(params):
            common = sweep_recipe(project, variant)
            yield Spec(at.candidate(variant, "candidate"), SWEEP, common, [params])
            yield Spec(at.choice(variant), CHOOSE, {"sweep": tried, "common": common})
        if pair := timed_recipe(project, variant):
            yield Spec(at.step_time(variant), STEP_TIME, pair, [variants[name] for name in pair])
    for name in {params.features for params in variants.values() if params.features is not None}:
        yield Spec(at.features(name), EMBED, EMBED.parameters(variants[name]), [variants[name]])
    for name in {params.embeddings for params in variants.values() if params.embeddings is not None}:
        built = [] if variants[name].embeddings == name else [variants[name]]  # what it teaches may lie outside
        taught = EMBED_PAIRS.parameters(variants[name]) if built else {"teacher": variants[name].distillation.teacher}
        yield Spec(at.embeddings(name), EMBED_PAIRS, taught, built)
    for report in project.reports:
        yield from report_stages(project, report)
    yield Spec(at.page, PAGE, {"reports": project.tree["reports"]})


def curation_stages(project: Project, params: Params) -> Iterator[Spec]:
    """Yield the specs of choosing a variant's pairs."""
    at, by = Layout(project.scale).specs, params.curation.by if params.curation else None
    scorer = project.variants.get(by or "")
    for name, stage in CURATION.items():
        yield Spec(at.curation(params.variant, name), stage, stage.parameters(params), [scorer] if scorer else [])


def data_stages(project: Project) -> Iterator[tuple[str, Stage]]:
    """Yield path and stage of every spec that all variants share."""
    at, variants, baseline = Layout(project.scale).specs, project.variants, project.baseline
    for name, stage in DATA.items():
        if name != "test_sets":
            yield at.data(name), stage.at(baseline.source.kind)
    for role, place in baseline.evaluate.sets.items():
        yield at.test_set(role), DATA["test_sets"].at(place)
    yield at.codebook, CODEBOOK
    for key in {params.captions.language_key for params in variants.values() if params.captions.translated}:
        yield at.translations(key), TRANSLATIONS.at(baseline.source.kind)
    for language, place in baseline.evaluate.languages.items():
        yield at.translated_set(language), TRANSLATED_SET.at(place)


def report_stages(project: Project, report: str) -> Iterator[Spec]:
    """Yield the specs of a report."""
    at, part = Layout(project.scale).specs, project.of(report)
    variants = {name: project.variants[name] for name in part.named}
    costs = {name: COST.parameters(params) for name, params in variants.items()}
    yield Spec(at.tables(report, "cost"), COST, costs, [*variants.values()])
    for name, jobs in transferred(part).items():
        for job, some in jobs.items():
            stage, params = TRANSFER[HEADS if job == HEADS else "finetuning"], project.variants[name]
            learned = stage.parameters(params) | {"tasks": some}
            yield Spec(at.transfer(report, name, job), stage, learned, [params])
    compared = {name: part.tree[name] for name in ("reports", "tables", "tradeoff")}
    compared |= {"variants": {name: TABLES.parameters(params) for name, params in variants.items()}}
    compared |= {"choices": {name: project.choices[name] for name in variants if name in project.choices}}
    yield Spec(at.tables(report, "tables"), TABLES, compared)


def specs(project: Project, rules: Path) -> dict[str, str]:
    """Return the content of every spec and of the frozen parameters, by path."""
    at = Layout(project.scale)
    found = {at.params(name): dump(one) for name, one in project.variants.items()}
    found[at.project] = to_yaml(project.tree | {"scale": project.scale})
    return found | {spec.path: spec.text(rules) for spec in stages(project)}


def write_specs(project: Project, in_use: bool, rules: str = "rules") -> None:
    """Update the specs of the project's scale on disk; files whose content has not changed are not touched.

    Raises:
        ParameterError: one has changed while a running workflow has them `in_use`.
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
