"""Read what variants begin with that `flip import` made: `start` names its folder in place of a variant."""

from pathlib import Path

from flip.config.faults import Faults, ParameterError
from flip.config.frozen import load
from flip.config.schema import TOKENIZER, WEIGHTS, is_folder

IMPORTED = "imported"  # the key of what was read, beside those of params.yaml
PARAMS = "params.yaml"
TAKEN = ("model", "form", "captions", "logits", "contrastive", "sigmoid")  # what its weights decide of a variant


def read_imported(variants: dict[str, dict | None], root: Path) -> dict[str, dict]:
    """Return by folder what the variants take from the folders that they start from; `root` is that of params.yaml.

    Raises:
        ParameterError: a folder is not there, lacks a file, or holds no text tower.
    """
    stated = {name: (one or {}).get("start") for name, one in variants.items()}
    starts = {name: str(start) for name, start in stated.items() if is_folder(start)}
    found: dict[str, dict] = {}
    faults = Faults()
    for variant, start in starts.items():
        with faults.collected():
            found[start] = _taken(root / start, start, f"params.yaml, variants.{variant}.start")
    faults.raise_all()
    return found


def _taken(folder: Path, start: str, where: str) -> dict:
    """Return the sections that a folder decides, with its own tokenizer."""
    missing = [name for name in (PARAMS, WEIGHTS) if not (folder / name).is_file()]
    if missing:
        raise ParameterError((where, f"{start} has no {', '.join(missing)}; `flip import --out {start}` makes it"))
    if not (folder / TOKENIZER).is_file():
        remedy = f"name {start}/{WEIGHTS} as image_tower.weights instead"
        raise ParameterError((where, f"{start} has no {TOKENIZER}: it is an image tower alone; {remedy}"))
    params = load(folder / PARAMS).model_dump(mode="json", include={*TAKEN})
    params["captions"] = {key: params["captions"][key] for key in ("start", "end", "fill")}
    return params | {"captions": params["captions"] | {"tokenizer": f"{start}/{TOKENIZER}"}}
