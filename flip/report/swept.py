"""Say of the rows of a table what sweeps have chosen for them, and from what."""

from flip.config.resolve import Project
from flip.config.sweep import grid
from flip.provenance.specs import is_chosen


def curve(choice: dict) -> str:
    """Return every value that was tried with its score, and which one was chosen."""
    return ", ".join(
        f"{_text(one['values'])}: {one['score']:.1f} %" + " (chosen)" * (one["values"] == choice["values"])
        for one in choice["candidates"]
    )


def tried(project: Project, variants: list[str]) -> list[dict]:
    """Return a record of every value that was tried for these rows, in the order of its sweep; scores in percent."""
    return [
        {
            "variant": name,
            "parameters": ", ".join(choice["values"]),
            "values": _text(one["values"]),
            "metric": choice["metric"],
            "score": one["score"],
            "chosen": one["values"] == choice["values"],
        }
        for name in variants
        if is_chosen(project, name)
        for choice in [project.choices[name]]
        for one in choice["candidates"]
    ]


def _text(values: dict) -> str:
    return " ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values.values())


def swept(project: Project, variants: list[str]) -> list[str]:
    """Return notes of a table: the curve of each row that was swept, and the rows that were not."""
    chosen = [name for name in variants if is_chosen(project, name)]
    groups: dict[str, list[str]] = {}
    for name in chosen:
        choice = project.choices[name]
        keys = ", ".join(choice["values"])
        head = f"{keys} chosen on {choice['metric']} ({choice['images']:,} images), seed {choice['seed']}"
        groups.setdefault(head, []).append(f"{name} {curve(choice)}")
    found = [f"{head}: {'; '.join(rows)}." for head, rows in groups.items()]
    others = [name for name in variants if name not in chosen]
    stale = [name for name in others if name in project.choices and grid(project.variants[name])]
    if stale:
        found.append(f"Chosen by a sweep of another recipe, so perhaps not the best: {', '.join(stale)}.")
    if left := [name for name in others if name not in stale]:
        found.append(f"Not swept, as params.yaml has it: {', '.join(left)}.")
    return found
