"""List the formats of an export, and choose the class of models that a variant fits into."""

import logging
from importlib import import_module
from types import ModuleType

from flip.config.schema import Params
from flip.export.libraries import Format
from flip.export.target import Target, faults

FORMATS = tuple(map(str, Format))


def models(name: str) -> ModuleType:
    """Import the module of a format, and with it the library, which takes seconds."""
    return import_module(f"flip.export.{name}_models")


def targets(name: str) -> list[Target]:
    """Return the targets of a format; the first that fits is used."""
    return [one() for one in models(name).EXPORTS]


def quiet(name: str) -> None:
    """Disable progress bars of transformers and warnings of open_clip about a model without weights."""
    if name == "transformers":
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
    logging.disable(logging.WARNING)


def fitting(params: Params) -> list[str]:
    """List what a variant can be exported as, as options of the command."""
    found = [(name, one) for name in FORMATS for one in targets(name) if not faults(one, params)]
    return [f"--format {name} ({one.name}{', the image tower' if one.image_only else ''})" for name, one in found]


def choose(name: str, params: Params) -> Target:
    """Return the target of a format that can express a variant's architecture.

    Raises:
        ValueError: none can; the message names the keys that prevent it, and the formats that fit.
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
