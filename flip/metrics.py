"""Names of test sets and of metrics."""

TRANSFERS = ("caption", "vqa")  # tasks of heads on frozen features, which are sets of their own


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


def is_transferred(metric: str) -> bool:
    """Whether something has to be trained for it, for which there is a stage of its own."""
    return metric.split("-")[0] in TRANSFERS or metric.endswith("-finetuned")


def transferred(project) -> list[str]:
    """Variants of which a table of the project shows such metrics."""
    tables = [table for table in project.tables.values() if any(map(is_transferred, table.metrics))]
    names = dict.fromkeys(name for table in tables for name in table.variants)
    return [name for name in names if project.variants[name].has_image_tower]


def untransferable(project) -> str | None:
    """Why there is nothing to learn from for such a metric of a table; None if there is."""
    if not transferred(project):
        return None
    params = project.baseline
    if lost := sorted(set(params.transfer.finetuning.sets) - set(params.evaluate.probe)):
        return f"transfer.finetuning.sets: '{lost[0]}' has no training split here; name it in evaluate.probe, too"
    sets, from_world = params.evaluate.sets, [task for task in TRANSFERS if getattr(params.transfer, task) == "world"]
    there = sets.get("retrieval") == sets["fine"] == "world" and "fine" in params.evaluate.probe
    if there or not from_world:
        return None
    return (
        f"transfer.{from_world[0]} = 'world' shows the world's retrieval set, and heads learn from what fine's probe "
        "is fitted to: set evaluate.sets.retrieval and .fine to world and name fine in evaluate.probe, or give a folder"
    )
