# What happens whenever the workflow starts, before any job is planned: a look at what is here.
# Needs common.smk. Gives RECEIPTS, specs/<scale>/ (frozen parameters and code that each job depends on) and receipts
# whose times say which of them hold; warnings of what is left out, left over or would fail later.

import subprocess

from flip.config.schema import WEIGHTS, is_folder
from flip.plan import doctor
from flip.provenance.environment import git_state, unmerged
from flip.provenance.freshness import (
    STALE_TIME,
    align,
    leftovers,
    has_other_upstream,
    read_receipts,
    set_time,
    unavailable,
)
from flip.provenance.locks import enter
from flip.provenance.specs import write_specs
from flip.provenance.tracked import Conflict, clear_damaged_notes, tracked

# What makes a repository of a folder that came without one, as from a ZIP.
BECOME = " DVC needs Git: `git init && git add --all && git commit --message Start` makes this folder a repository."

# Receipts as they were at the start; a job on a cluster, which runs what it was given, has none.
RECEIPTS = None


def record() -> None:
    """What is finished goes into DVC's records; `dvc repro` does so by itself (dvc.yaml)."""
    if "DVC_STAGE" not in os.environ:
        subprocess.run(
            [PYTHON, "-m", "flip.report.record", "--scale", SCALE], check=False
        )


def files_of(params) -> dict[str, str | None]:
    """Files from outside that a variant begins with, learns from or chooses pairs by, by its keys that name them or their
    folders; the folder of `start` was read with params.yaml."""
    found = {
        f"{side}_tower.weights": getattr(params, f"{side}_tower").file
        for side in ("image", "text")
    }
    models = {
        "distillation.teacher": (
            params.distillation.teacher if params.distillation.wanted else None
        )
    }
    if params.curation:
        models["curation.by"] = params.curation.by
        found["curation.entries"] = params.curation.entries
    return found | {
        key: f"{place}/{WEIGHTS}" for key, place in models.items() if is_folder(place)
    }


def files_from_outside() -> dict[str, str]:
    """Those of all variants, and the image tokenizer's weights, by their keys in params.yaml."""
    found = {
        f"variants.{name}.{key}": file
        for name, params in PROJECT.variants.items()
        for key, file in files_of(params).items()
    }
    found["codebook.weights"] = BASE.codebook.weights
    return {key: file for key, file in found.items() if file}


def tars_differ(table) -> bool:
    """Whether tars elsewhere are not what was listed of them; their servers are asked if `look=sources` says so."""
    if table not in RECEIPTS.known or not any(
        map(is_remote, BASE.source.places.values())
    ):
        return False
    if "look" not in config:
        logger.warning(
            f"{BASE.source.place}: taken to be as listed; `--config scale={SCALE} look=sources` compares."
        )
        return False
    from flip.sources import elsewhere  # here, as it takes a fifth of a second

    if news := elsewhere.news(BASE.source, HERE.table_folder):
        logger.warning("\n  ".join(["Tars are listed again:", *news]))
    return bool(news)


# By the main process alone: a job on a cluster sees what it wrote, and must not move the times of files in use.
if workflow.is_main_process:
    if clashes := " ".join(unmerged()):
        raise WorkflowError(
            f"Conflicts of a merge: `git checkout --ours {clashes}` takes this branch's files (--theirs the other's), "
            f"`git add {clashes}` says so; then `dvc checkout`, and what is made of both is made again"
        )
    PRESENCE, busy = enter(
        SCALE, Path(".snakemake/locks"), wait="DVC_STAGE" in os.environ
    )
    clear_damaged_notes()
    try:
        write_specs(PROJECT, in_use=busy)
        places = tracked(SCALE)
        RECEIPTS = (
            read_receipts(HERE.receipts.root, places)
            if busy
            else align(HERE.receipts.root, HERE.specs.root, places)
        )
    except (Conflict, ParameterError) as error:
        raise WorkflowError(str(error)) from None
    page = HERE.receipts.page
    if has_other_upstream(RECEIPTS, page, reports_on_page()):
        set_time(page, STALE_TIME)  # of other reports
    if faults := unavailable(RECEIPTS, files_from_outside()):
        raise WorkflowError("\n".join(faults))
    state = git_state()
    if reason := state.get("why"):
        logger.warning(
            f"Git cannot be asked about this folder, so receipts will name no commit: {reason}."
            + BECOME * (not Path(".git").exists())
        )
    if unknown := leftovers(HERE.results, PROJECT.variants):
        logger.warning(
            f"Results of no variant in params.yaml, left unchanged: {', '.join(unknown)}. Give the variant its old "
            "name back, or have all deleted that is left of it: `make tidy`."
        )
    # What `dvc exp show` shows lies below a commit, and there is another one.
    rows = Path(HERE.rows)
    dry = {"-n", "--dry-run"} & set(sys.argv)
    if RECEIPTS.known and not dry:
        if state["commit"] != (rows.read_text() if rows.exists() else None):
            record()
    if not busy and tars_differ(table := HERE.receipts.data("table")):
        if dry:
            set_time(table, STALE_TIME)
        else:  # a job whose receipt is there finds that it was made from the same
            Path(table).unlink()
            RECEIPTS = align(HERE.receipts.root, HERE.specs.root, places)
    for name, reason in PROJECT.left_out.items():
        logger.warning(f"Left out at scale '{SCALE}': report '{name}', as of {reason}")
    if faults := doctor.faults(
        PROJECT, lambda path: path in RECEIPTS.known and path not in RECEIPTS.stale
    ):
        logger.warning(doctor.message(SCALE, faults))
