"""Names of metrics."""


def set_of(metric: str, sets) -> str:
    """The test set that a metric is measured on: 'fine' for 'fine-masked'.

    Raises:
        ValueError: the metric belongs to none of the sets.
    """
    names = [name for name in sets if metric == name or metric.startswith(f"{name}-")]
    if not names:
        raise ValueError(f"metric '{metric}': of none of the test sets {', '.join(sets)}; see tables in params.yaml")
    return max(names, key=len)
