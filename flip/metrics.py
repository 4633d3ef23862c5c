"""Names of test sets and of metrics."""


def retrieval_in(language: str) -> str:
    """The set of captions in a language: retrieval-de."""
    return f"retrieval-{language}"


def places(evaluate: dict) -> dict[str, str | None]:
    """Role -> place of all test sets of a scale, by its unchecked section `evaluate`; None: it has none."""
    return evaluate["sets"] | {retrieval_in(language): place for language, place in evaluate["languages"].items()}


def set_of(metric: str, sets) -> str:
    """The test set that a metric is measured on: 'fine' for 'fine-masked'.

    Raises:
        ValueError: the metric belongs to none of the sets.
    """
    names = [name for name in sets if metric == name or metric.startswith(f"{name}-")]
    if not names:
        raise ValueError(f"metric '{metric}': of none of the test sets {', '.join(sets)}; see tables in params.yaml")
    return max(names, key=len)
