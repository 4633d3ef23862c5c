"""Names of test sets and of metrics."""

from flip.metrics.measures import ACCURACY
from flip.metrics.sets import JAVA, LEARNED_FROM, PRIMARY, TRANSFERS, TUNED, retrieval_in

HEADS = "heads"  # the job that does these


# What follows a set's name where its pictures are classified: zero-shot, and as the set's training split teaches.
CLASSIFIED = ("", "-masked", "-ensemble", "-probe", TUNED)


def places(tree: dict) -> dict[str, str | None]:
    """Role -> place of all test sets of a scale, by its unchecked parameters; None: it has none."""
    evaluate, transfer = tree["evaluate"], tree["transfer"]
    spoken = {retrieval_in(language): place for language, place in evaluate["languages"].items()}
    return evaluate["sets"] | spoken | {task: transfer[task] for task in TRANSFERS}


def named(metric: str, primary_set: str) -> str:
    """Return a metric of params.yaml by its own name, which begins with its set's: 'fine-masked' for
    'primary-masked'."""
    word, dash, rest = metric.partition("-")
    return f"{primary_set}{dash}{rest}" if word == PRIMARY else metric


def set_of(metric: str, sets) -> str:
    """The test set that a metric is measured on: 'fine' for 'fine-masked'.

    Raises:
        ValueError: the metric belongs to none of the sets.
    """
    names = [name for name in sets if metric == name or metric.startswith(f"{name}-")]
    if not names:
        raise ValueError(f"metric '{metric}': of none of the test sets {', '.join(sets)}; see tables in params.yaml")
    return max(names, key=len)


def lacking(metrics: list[str], sets: dict[str, str | None]) -> list[str]:
    """The test sets of metrics that a scale, whose sets' places these are, does not have."""
    return [name for name in dict.fromkeys(set_of(metric, sets) for metric in metrics) if sets[name] is None]


def measure_of(metric: str, sets: dict[str, dict]) -> str:
    """How its outcomes become a number: as its set's revision says, where pictures are classified."""
    test = set_of(metric, sets)
    return sets[test].get("measure", ACCURACY) if metric.removeprefix(test) in CLASSIFIED else ACCURACY


def tasks_of(metric: str) -> list[str]:
    """What has to be trained, and computed, for a metric: 'caption' and 'meteor' for 'caption-meteor', all of
    'coarse-finetuned'; nothing for one of zero-shot or of a probe."""
    if metric.endswith(TUNED):
        return [metric]
    parts = metric.split("-")
    if parts[0] not in TRANSFERS:
        return []
    return [parts[0], *(score for score in JAVA if score == parts[-1])]


def unmeasured(metric: str, skipped: dict[str, str]) -> str | None:
    """Why a metric is not there, by what a job says of metrics, or of tasks, that it left out."""
    return next((skipped[name] for name in (metric, *tasks_of(metric)) if name in skipped), None)


def transferred(project) -> dict[str, list[str]]:
    """Variant -> the tasks that tables of the project show of it."""
    found = {}
    for table in project.tables.values():
        if tasks := {task for metric in table.metrics for task in tasks_of(metric)}:
            for name in table.variants:
                if project.variants[name].has_image_tower:
                    found.setdefault(name, set()).update(tasks)
    return {name: sorted(tasks) for name, tasks in found.items()}


def job_of(task: str) -> str:
    """The job that does a task: 'heads' all that share features, each fine-tuning one of its own."""
    return task if task.endswith(TUNED) else HEADS


def jobs(tasks: list[str]) -> dict[str, list[str]]:
    """Job -> its tasks."""
    found = {}
    for task in tasks:
        found.setdefault(job_of(task), []).append(task)
    return found


def untransferable(project) -> str | None:
    """Why there is nothing to learn from for such a metric of a table; None if there is."""
    params, (train, test) = project.baseline, LEARNED_FROM.values()
    for task in dict.fromkeys(task for tasks in transferred(project).values() for task in tasks):
        role = task.removesuffix(TUNED)
        if task.endswith(TUNED) and role not in params.evaluate.probe:
            return f"tables: '{task}': {role} has no training split here; name it in evaluate.probe, too"
        if task == "nocaps" and params.transfer.caption is None:
            return "transfer.nocaps needs transfer.caption, from whose training split the head learns; give it, too"
        if task in TRANSFERS and getattr(params.transfer, task) == "world" and not shows_world(params):
            return (
                f"transfer.{task} = 'world' shows the world's {test} set, and heads learn from what {train}'s probe "
                f"is fitted to: set evaluate.sets.{test} and .{train} to world and name {train} in evaluate.probe, or "
                "give a folder"
            )
    return None


def shows_world(params) -> bool:
    """Whether there are the world's pictures that heads learn from and are tested on."""
    sets = params.evaluate.sets
    shown = all(sets.get(name) == "world" for name in LEARNED_FROM.values())
    return shown and LEARNED_FROM["train"] in params.evaluate.probe
