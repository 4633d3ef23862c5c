"""The formats of an export, and which class of models a variant fits into."""

import logging

from transformers.utils.logging import disable_progress_bar

from flip.export import open_clip_models, timm_models, transformers_models
from flip.export.target import Target, faults
from flip.schema import Params

# The first that fits is taken. A class for one more system of transformers belongs into its list here.
FORMATS: dict[str, list[Target]] = {
    "open_clip": [open_clip_models.OpenClip(), open_clip_models.OpenClipWithTimm()],
    "transformers": [one() for one in transformers_models.EXPORTS],
    "timm": [timm_models.Timm()],
}


def quiet() -> None:
    """No progress bars of transformers, no warnings of open_clip about a model that has no weights yet."""
    disable_progress_bar()
    logging.disable(logging.WARNING)


def fitting(params: Params) -> list[str]:
    """What a variant could be exported as, as options of the command."""
    found = [(name, one) for name, targets in FORMATS.items() for one in targets if not faults(one, params)]
    return [f"--format {name} ({one.name}{', the image tower' if one.image_only else ''})" for name, one in found]


def choose(name: str, params: Params) -> Target:
    """The class of models of a format that expresses a variant's form.

    Raises:
        ValueError: none does; with the keys that are in the way, and what can take it.
    """
    targets = FORMATS[name]
    for target in targets:
        if not faults(target, params):
            return target
    lines = [f"{target.name}: {fault}" for target in targets for fault in faults(target, params)]
    others = "; ".join(fitting(params)) or "nothing else can"
    raise ValueError(
        f"variant '{params.variant}' has no form that --format {name} can express:\n  "
        + "\n  ".join(lines)
        + f"\nWhat can take it: {others}"
    )
