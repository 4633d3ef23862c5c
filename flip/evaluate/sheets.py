"""Draw sheets of images for the report of a variant: retrieval, relevance of patches, reconstruction."""

import shutil
from pathlib import Path

from flip.config.kinds import of_folder
from flip.evaluate.encoders import Tokenize
from flip.evaluate.kinds import SHOW
from flip.evaluate.reconstruction import reconstructions
from flip.evaluate.trial import Trial
from flip.files import write_atomic
from flip.model.two_towers import TwoTowers
from flip.testsets.reader import set_folder

FOLDER = "sheets"


def sheets(model: TwoTowers, tokenize: Tokenize, data: Path, seed: int, device: str) -> dict[str, tuple[bytes, dict]]:
    """Return the sheets by name, each a WebP and facts about it; `set` is what its images are from. A sheet is left out
    without a common space, predicted pixels or the set."""
    params, primary = model.params, model.params.evaluate.primary_set
    drawn = reconstructions(model, tokenize, set_folder(params, data, primary), seed, device)
    found = {name: (image, facts | {"set": primary}) for name, (image, facts) in drawn.items()}
    for name in params.evaluate.sets if params.aligned else ():
        trial = Trial(model, tokenize, data, name, device)
        if show := SHOW.get(of_folder(trial.folder).name):
            what, image, facts = show(trial)
            found[f"{what}-{name}"] = image, facts | {"set": name}
    return found


def write_sheets(out: Path, found: dict[str, tuple[bytes, dict]]) -> dict[str, dict]:
    """Write the sheets to a folder below `out`, without earlier ones; return their facts."""
    shutil.rmtree(out / FOLDER, ignore_errors=True)
    for name, (image, _) in found.items():
        write_atomic(out / FOLDER / f"{name}.webp", image)
    return {name: facts for name, (_, facts) in found.items()}
