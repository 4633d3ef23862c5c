"""The formats of an export, and which class of models a variant fits into."""

import logging
from importlib import import_module
from types import ModuleType

from flip.config.schema import Params
from flip.export.target import Target, faults

FORMATS = ("open_clip", "transformers", "timm")


def models(name: str) -> ModuleType:
    """What knows a format; it imports its library, which takes seconds."""
    return import_module(f"flip.export.{name}_models")


def targets(name: str) -> list[Target]:
    """The classes of models of a format, of which the first that fits is taken."""
    return [one() for one in models(name).EXPORTS]


def quiet(name: str) -> None:
    """No progress bars of transformers, no warnings of open_clip about a model that has no weights yet."""
    if name == "transformers":
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
    logging.disable(logging.WARNING)


def fitting(params: Params) -> list[str]:
    """What a variant could be exported as, as options of the command."""
    found = [(name, one) for name in FORMATS for one in targets(name) if not faults(one, params)]
    return [f"--format {name} ({one.name}{', the image tower' if one.image_only else ''})" for name, one in found]


def choose(name: str, params: Params) -> Target:
    """The class of models of a format that expresses a variant's form.

    Raises:
        ValueError: none does; with the keys that are in the way, and what can take it.
    """
    known = targets(name)
    for target in known:
        if not faults(target, params):
            return target
    lines = [f"{target.name}: {fault}" for target in known for fault in faults(target, params)]
    others = "; ".join(fitting(params)) or "nothing else can"
    raise ValueError(
        f"variant '{params.variant}' has no form that --format {name} can express:\n  "
        + "\n  ".join(lines)
        + f"\nWhat can take it: {others}"
    )
