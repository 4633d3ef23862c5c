"""Names of test sets and of metrics."""

TRANSFERS = ("caption", "vqa")  # tasks of heads on frozen features, which are sets of their own
HEADS = "heads"  # the job that does these
TUNED = "-finetuned"


def retrieval_in(language: str) -> str:
    """The set of captions in a language: retrieval-de."""
    return f"retrieval-{language}"


def places(tree: dict) -> dict[str, str | None]:
    """Role -> place of all test sets of a scale, by its unchecked parameters; None: it has none."""
    evaluate, transfer = tree["evaluate"], tree["transfer"]
    spoken = {retrieval_in(language): place for language, place in evaluate["languages"].items()}
    return evaluate["sets"] | spoken | {task: transfer[task] for task in TRANSFERS}


def set_of(metric: str, sets) -> str:
    """The test set that a metric is measured on: 'fine' for 'fine-masked'.

    Raises:
        ValueError: the metric belongs to none of the sets.
    """
    names = [name for name in sets if metric == name or metric.startswith(f"{name}-")]
    if not names:
        raise ValueError(f"metric '{metric}': of none of the test sets {', '.join(sets)}; see tables in params.yaml")
    return max(names, key=len)


def task_of(metric: str) -> str | None:
    """What has to be trained for a metric: heads for 'caption' and 'vqa', all for 'coarse-finetuned'; None: nothing."""
    if metric.endswith(TUNED):
        return metric
    task = metric.split("-")[0]
    return task if task in TRANSFERS else None


def transferred(project) -> dict[str, list[str]]:
    """Variant -> the tasks that tables of the project show of it."""
    found = {}
    for table in project.tables.values():
        if tasks := [task for metric in table.metrics if (task := task_of(metric))]:
            for name in table.variants:
                if project.variants[name].has_image_tower:
                    found.setdefault(name, set()).update(tasks)
    return {name: sorted(tasks) for name, tasks in found.items()}


def job_of(task: str) -> str:
    """The job that does a task: 'heads' shares features among theirs; a fine-tuning is one of its own."""
    return task if task.endswith(TUNED) else HEADS


def jobs(tasks: list[str]) -> dict[str, list[str]]:
    """Job -> its tasks."""
    found = {}
    for task in tasks:
        found.setdefault(job_of(task), []).append(task)
    return found


def untransferable(project) -> str | None:
    """Why there is nothing to learn from for such a metric of a table; None if there is."""
    params = project.baseline
    for task in dict.fromkeys(task for tasks in transferred(project).values() for task in tasks):
        role = task.removesuffix(TUNED)
        if task.endswith(TUNED) and role not in params.evaluate.probe:
            return f"tables: '{task}': {role} has no training split here; name it in evaluate.probe, too"
        if task in TRANSFERS and getattr(params.transfer, task) == "world" and not shows_world(params):
            return (
                f"transfer.{task} = 'world' shows the world's retrieval set, and heads learn from what fine's probe is "
                "fitted to: set evaluate.sets.retrieval and .fine to world and name fine in evaluate.probe, or give a "
                "folder"
            )
    return None


def shows_world(params) -> bool:
    """Whether there are the world's pictures that heads learn from and are tested on."""
    sets = params.evaluate.sets
    return sets.get("retrieval") == sets["fine"] == "world" and "fine" in params.evaluate.probe
