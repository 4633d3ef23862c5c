"""Check params.yaml for contradictions between its variants, tables, reports, models and scales."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from flip.config import roles, sweep
from flip.config.faults import Faults, ParameterError, must_know, nearest
from flip.config.faults import check as checked
from flip.config.kinds import KINDS, LEARNED
from flip.config.schema import Model, Params, is_folder
from flip.config.sections.report import Table
from flip.config.towers import misfit
from flip.formats.notes import SHOWN
from flip.metrics.names import ENSEMBLE, FINETUNED, FULL, MASKED, Metric

if TYPE_CHECKING:
    from flip.config.resolve import Project

ROOT = Path(__file__).parent.parent.parent
# Two results are the same experiment when all of this agrees.
IDENTITY = {"variant", "resources"}
# What a report writes beside a table's files, with the same endings (flip.report.tables).
BESIDE = {"tables", "ledger", "time-jobs", "time-stages", "scaling-laws"}
BESIDE |= {f"figure-{name}" for name in ("tradeoff", "costs", "training", "scaling")}


@cache
def rules() -> frozenset[str]:
    """Return the names of the workflow's rules, which are targets of Snakemake as reports are."""
    files = [ROOT / "Snakefile", *sorted((ROOT / "rules").glob("*.smk"))]
    texts = [path.read_text() for path in files if path.exists()]
    return frozenset(name for text in texts for name in re.findall(r"^(?:rule|checkpoint) (\w+):", text, re.MULTILINE))


def towers_must_fit(params: Params, variants: dict[str, Params]) -> None:
    """Raise ParameterError unless the variants whose towers this one starts from have such towers."""
    for side in ("image", "text"):
        name, key = getattr(params, f"{side}_tower").variant, f"variants.{params.variant}.{side}_tower.weights"
        if name is None:
            continue
        must_know([name], variants, "variant", f"params.yaml, {key}")
        if fault := misfit(params, side, variants[name]):
            raise ParameterError(f"params.yaml, {key}: {fault}")


def teacher_must_align(params: Params, variants: dict[str, Params]) -> None:
    """Raise ParameterError unless the variant that this one learns from can compare images with captions."""
    if (name := params.embeddings) in (None, params.variant):
        return
    key = f"params.yaml, variants.{params.variant}.distillation.teacher"
    must_know([name], variants, "variant", key)
    if fault := variants[name].unaligned:
        raise ParameterError(f"{key}: '{name}' can teach no similarities: {fault}")
    if variants[name].embeddings == name:
        raise ParameterError(f"{key}: '{name}' learns from a folder, and shares its embeddings' name; name the folder")


def metrics_must_be(metrics: list[str], sets: dict[str, roles.TestSet], where: str) -> None:
    """Raise ParameterError for all metrics that the scale's sets do not have."""
    if faults := [(where, fault) for metric in metrics if (fault := roles.fault(metric, sets))]:
        raise ParameterError(*faults)


def check(project: "Project") -> None:
    """Check everything that can be wrong before a job starts.

    Raises:
        ParameterError: every fault of the parts; or, where these are right, of what they are together.
    """
    faults = Faults()
    for part in ("variants", "reports", "tables", "tradeoff"):
        with faults.collected():
            getattr(project, part)
    _collect(faults, project, models, names, scales)
    faults.raise_all()
    _collect(
        faults, project, elsewhere, kinds, differ, swept, timed, scored, shown, measured, read_codes_alike, transferable
    )
    faults.raise_all()


def _collect(faults: Faults, project: "Project", *rules: Callable[["Project"], Iterator[tuple[str, str]]]) -> None:
    """Collect what the rules find: each gives places with their faults."""
    for rule in rules:
        with faults.collected():
            for where, fault in rule(project):
                faults.parts.append((project.place(where), fault))


def kinds(project: "Project") -> Iterator[tuple[str, str]]:
    """Find folders for what is not measured, and measures of classes for sets without any."""
    for role, one in project.test_sets.items():
        if one.kind not in (*KINDS, *LEARNED, None):
            fault = f"'{one.place}' is for '{one.kind}', as dataset_type.txt says; {nearest(one.kind, KINDS)}"
            yield f"evaluate.sets.{role}", fault
    for role in project.baseline.evaluate.measures:
        if (kind := project.test_sets[role].kind) is not None and not (kind in KINDS and KINDS[kind].has_classes):
            yield f"evaluate.measures.{role}", f"is for sets with classes, and this is one for {kind}; leave it out"


def models(project: "Project") -> Iterator[tuple[str, str]]:
    """Check the sizes of models, also of those that no scale names."""
    for name, tree in project.tree["models"].items():
        try:
            checked(Model, tree, f"models.{name}")
        except ParameterError as error:
            yield from error.parts


def names(project: "Project") -> Iterator[tuple[str, str]]:
    """Find names that are used for something else already."""
    for name in (one for one in project.tree["reports"] if one in rules()):
        yield f"reports.{name}", "has the name of a rule of the workflow, and both are targets; choose another name"
    for name in {one.group for one in project.reports.values() if one.group} & {*rules(), *project.tree["reports"]}:
        yield "reports", f"group '{name}' has the name of a report or a rule, which are targets, too; choose another"
    for name in (one for one in project.tree["tables"] if one in BESIDE):
        yield f"tables.{name}", "has the name of a file that reports write beside their tables; choose another name"


def scales(project: "Project") -> Iterator[tuple[str, str]]:
    """Check every scale's own values, and its sets."""
    faults = Faults()
    for name in project.tree["scales"]:
        with faults.collected():
            one = replace(project, scale=name)
            one.plain()
            if same := roles.same_name(one.test_sets):
                fault = f"sets: a metric of '{same[0]}' goes by the name of the set '{same[1]}'; choose another name"
                yield f"evaluate at scale '{name}'", fault
    faults.raise_all()


def elsewhere(project: "Project") -> Iterator[tuple[str, str]]:
    """Check metrics of tables at the other scales."""
    faults = Faults()
    for name in (one for one in project.tree["scales"] if one != project.scale):
        with faults.collected():
            _ = replace(project, scale=name).tables
    faults.raise_all()
    yield from ()


def differ(project: "Project") -> Iterator[tuple[str, str]]:
    """Find variants that resolve to the same parameters."""
    seen: dict[str, str] = {}
    for name, params in project.variants.items():
        if (first := seen.setdefault(params.model_dump_json(exclude=IDENTITY), name)) != name:
            yield (
                "variants",
                f"'{first}' and '{name}' resolve to the same parameters; remove one, and name the other in the tables",
            )


def sweeps_must_be_possible(variants: list[Params]) -> None:
    """Raise ParameterError for sweeps of what is no parameter of a variant, of values that it may not have, or without
    anything to choose by."""
    faults = Faults()
    for params in variants:
        for key in sweep.grid(params):
            with faults.collected():
                sweep.must_be_swept(params, key)
        with faults.collected():
            sweep.metric(params)
    faults.raise_all()
    for params in {str(sweep.grid(one)): one for one in variants}.values():  # a scale's grid is that of many
        for values in sweep.candidates(params).values():
            with faults.collected():
                sweep.with_values(params, values, f"params.yaml, variant '{params.variant}', sweep")
    faults.raise_all()


def swept(project: "Project") -> Iterator[tuple[str, str]]:
    """Find sweeps that are none, and tables that show what sweeps choose by."""
    sweeps_must_be_possible([one for one in project.variants.values() if sweep.grid(one)])
    validation = project.baseline.evaluate.validation_set
    for name in project.tables:
        for metric in project.metrics(name):
            if metric.set == validation:
                fault = (
                    f"'{metric}' is what sweeps choose by (evaluate.validation_set), so it says nothing; take it out"
                )
                yield f"tables.{name}.metrics", fault


def timed(project: "Project") -> Iterator[tuple[str, str]]:
    """Find schedules that take the time of what has none of its own."""
    for name, params in project.variants.items():
        if (other := params.train.equal_time) is None:
            continue
        place = f"variants.{name}.train.equal_time"
        if (reference := project.variants.get(other)) is None:
            yield place, f"unknown variant '{other}'; {nearest(other, project.variants)}"
            continue
        if other == name or reference.train.equal_time:
            yield place, f"'{other}' takes another one's time, or is this one; name one with a schedule of its own"
        if before := [*params.before, *reference.before]:
            fault = f"the time of {', '.join(dict.fromkeys(before))}, trained before, would not count; set it to null"
            yield place, fault


def shown(project: "Project") -> Iterator[tuple[str, str]]:
    """Find reports without a table, and runs of laws that are in none."""
    for name, report in project.reports.items():
        if not (tables := project.of(name).tables):
            yield f"reports.{name}", "no table names it; give it one, or remove it"
        elif fault := report.unmeasured(tables):
            key, _, what = fault.partition(": ")
            yield f"reports.{name}.{key}", what


def measured(project: "Project") -> Iterator[tuple[str, str]]:
    """Find metrics of figures and laws that no set has, or that are none of theirs; columns that no row can fill."""
    asked = {
        f"reports.{name}.scaling.metric": one.scaling.metric for name, one in project.reports.items() if one.scaling
    }
    if project.tradeoff and project.tradeoff.report in project.reports:
        asked["tradeoff.metric"] = project.tradeoff.metric
    for where, metric in asked.items():
        if fault := roles.fault(metric, project.test_sets):
            yield where, fault
        elif "scaling" in where and project.metric(metric).set in ("caption", "nocaps"):
            yield where, f"'{metric}' is a score of captions and no accuracy, whose error a law is fitted to; name one"
    for name, table in project.tables.items():
        yield from unmasked(project, name, table)


def unmasked(project: "Project", name: str, table: Table) -> Iterator[tuple[str, str]]:
    """Find metrics of masked inference in a table of variants that mask nothing, and of full images where all are."""
    if not any(project.variants[one].masking.image for one in table.variants):
        for metric in project.metrics(name):
            if metric.task in (MASKED, ENSEMBLE):
                yield f"tables.{name}.metrics", f"'{metric}', but no variant of the table has masking.image above 0"
    if not any(project.variants[one].model.full_image for one in table.variants):
        for metric in project.metrics(name):
            if metric.task == FULL:
                yield f"tables.{name}.metrics", f"'{metric}', but no variant of the table has a resolution below 1"


def scored(project: "Project") -> Iterator[tuple[str, str]]:
    """Find scores of pairs by a variant that there is not, that compares no images with captions, or that was trained
    on chosen pairs itself."""
    for name, params in project.variants.items():
        if params.curation is None or (by := params.curation.by) is None or is_folder(by):
            continue
        place = f"variants.{name}.curation.by"
        if by not in project.variants:
            yield place, f"unknown variant '{by}'; {nearest(by, project.variants)}"
        elif why := project.variants[by].unaligned:
            yield place, f"'{by}' has {why}; name one that compares images with captions"
        elif curated := [one for one in project.chain(by) if project.variants[one].curation]:
            yield place, f"'{by}' builds on chosen pairs ('{curated[0]}'); name a variant that is trained on all"


def read_codes_alike(project: "Project") -> Iterator[tuple[str, str]]:
    """Check that the image tokenizer fits: a scale has one, for the images and patches of its baseline."""
    model = project.baseline.model
    for name, params in project.variants.items():
        if params.flava.reads_codes and (params.model.image, params.model.patch) != (model.image, model.patch):
            yield (
                f"variant '{name}'",
                "flava.mim and flava.mmm_image read the codes of the scale's image tokenizer, made for model.image = "
                f"{model.image}, model.patch = {model.patch}; not {params.model.image}, {params.model.patch}",
            )


def transferable(project: "Project") -> Iterator[tuple[str, str]]:
    """Find the first metric of the tables that has no training data."""
    seeing = {name for name, params in project.variants.items() if params.has_image_tower}
    tables = [name for name, table in project.tables.items() if seeing & {*table.variants}]
    wanted = dict.fromkeys(metric for name in tables for metric in project.metrics(name) if metric.job)
    yield from list(filter(None, (unlearnable(metric, project.baseline) for metric in wanted)))[:1]


def unlearnable(metric: Metric, params: Params) -> tuple[str, str] | None:
    """Return where and why a metric that something is trained for has nothing to learn from; None if it has."""
    role = metric.set
    if metric.task == FINETUNED:
        fault = f"'{metric}': {role} has no training split here; name it in evaluate.probe, too"
        return None if role in params.evaluate.probe else ("tables", fault)
    if role == "nocaps" and params.transfer.caption is None:
        fault = "transfer.nocaps needs transfer.caption, from whose training split the head learns; give it, too"
        return "transfer", fault
    if getattr(params.transfer, role) == "world" and not shows_world(params):
        train, test = SHOWN["train"], SHOWN["test"]
        return "transfer", (
            f"transfer.{role} = 'world' shows the world's {test} set, and heads learn from what {train}'s probe is "
            f"fitted to: set evaluate.sets.{test} and .{train} to world and name {train} in evaluate.probe, or give "
            "a folder"
        )
    return None


def shows_world(params: Params) -> bool:
    """Return whether there are the world's images that heads learn from and are tested on."""
    sets, probe = params.evaluate.sets, params.evaluate.probe
    return all(sets.get(name) == "world" for name in SHOWN.values()) and SHOWN["train"] in probe
