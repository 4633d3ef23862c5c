"""Decide whether a variant can start from another one's image or text tower (image_tower.weights,
text_tower.weights)."""

from flip.config.schema import Params

PROJECTED = {"model.embedding", "form.vision.projection", "form.text.projection"}


def image_facts(params: Params) -> dict:
    """Return by key what decides the shape and the meaning of the image tower's weights and its projection's."""
    model, form = params.model, params.form.vision.model_dump()
    if not params.aligned:
        form["projection"] = "none"
    sizes = {"model.image": model.image, "model.patch": model.patch, "model.first_image": model.first_image}
    sizes |= {"model.embedding": params.embedding}
    sizes |= {f"model.vision.{name}": value for name, value in model.vision.model_dump().items()}
    return sizes | {f"form.vision.{name}": value for name, value in form.items()}


def text_facts(params: Params) -> dict:
    """Return the same of the text tower; captions decide what its tokens mean."""
    found = {"model.tokens": params.model.tokens, "model.embedding": params.embedding}
    sections = {"model.text": params.model.text, "form.text": params.form.text, "captions": params.captions}
    for section, values in sections.items():
        found |= {f"{section}.{name}": value for name, value in values.model_dump().items()}
    return found


FACTS = {"image": image_facts, "text": text_facts}


def misfit(params: Params, side: str, source: Params) -> str | None:
    """Return why `source` cannot give its tower, or None. It must have trained a tower of the same form itself; a
    projection is needed only if it learns slowly or not at all: else it may be initialized anew (FLAVA)."""
    name = source.variant
    if not getattr(source, f"has_{side}_tower"):
        return f"'{name}' has no {side} tower; name a variant that has one"
    for other in (side, *(FACTS.keys() - {side})):
        if weights := getattr(source, f"{other}_tower").weights:
            remedy = "name that one" if other == side else "name a variant that begins anew"
            return f"'{name}' has its {other} tower from '{weights}'; {remedy}"
    theirs, anew = FACTS[side](source), not source.aligned and not getattr(params, f"{side}_tower").has_lower_lr
    for fact, value in FACTS[side](params).items():
        if theirs[fact] != value and not (anew and fact in PROJECTED):
            return f"{fact} is {theirs[fact]} in '{name}' and {value} here; they must be equal"
    return None
