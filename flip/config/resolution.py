"""Resolve `resolution`: the side of a variant's images over that of its model, and where positions come from then.

Fewer pixels are fewer patches (RECLIP, Li et al. 2023; CLIPA, Li, Wang, Xie 2023). A variant that starts from another
one may have more: its positions are then interpolated from those that were trained first.
"""

from typing import Any

from pydantic import Field

from flip.config.faults import check
from flip.config.sections.types import Section


class Resolution(Section):
    resolution: float = Field(
        1.0,
        description="side of the images over the model's `image`, rounded to complete patches; below 1 a step has "
        "fewer pixels and patches",
        ge=0.01,
        le=16,
    )


def at_resolution(tree: dict, where: str) -> dict:
    """Return a variant's tree with `model.image` at its `resolution`, which is a key of params.yaml alone.

    Raises:
        ParameterError: no such resolution is allowed.
    """
    stated = {key: tree[key] for key in ("resolution",) if key in tree}
    ratio, model = check(Resolution, stated, where).resolution, tree["model"]
    rest = {key: value for key, value in tree.items() if key != "resolution"}
    side, patch = (model.get(key) for key in ("image", "patch"))
    if ratio == 1 or not all(type(one) is int and one > 0 for one in (side, patch)):
        return rest  # what is no size, the model's schema refuses
    image = patch * max(round(side * ratio / patch), 1)
    full = {"full_image": side} if image < side and side % patch == 0 else {}
    return rest | {"model": model | {"image": image} | full}


def with_first_image(tree: dict, first: dict) -> dict:
    """Return the tree of a variant that starts from another one: `first` is the model's of the first stage.

    Learned positions come with the weights; fixed ones have to be made for the images that were first trained with.
    """
    model, image = tree["model"], first.get("first_image") or first.get("image")
    fixed = _fixed_positions(tree)
    other = image if fixed and image != model.get("image") else None
    rest = {key: value for key, value in model.items() if key != "first_image"}
    return tree | {"model": rest | ({"first_image": other} if other else {})}


def _fixed_positions(tree: dict) -> Any:
    form = tree.get("form")
    vision = form.get("vision") if isinstance(form, dict) else None
    return isinstance(vision, dict) and vision.get("positions") == "sincos"
