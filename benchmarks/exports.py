"""Load exports by the newest releases of their libraries, each in an environment of its own without this project.

    python -m benchmarks.exports --folder /tmp/exports

Each model has random weights and a few layers. What runs there is the code in the export's own model card; its features
of one image, and of one caption where there is a text encoder, are compared with ours. Environments are kept in the
folder, so a second call takes seconds; the first installs torch four times, with CUDA 23 GB.
"""

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.harness import same
from flip.config.faults import check
from flip.config.frozen import dump, merge
from flip.config.resolve import read_project
from flip.config.schema import Params
from flip.data.tokenizer import CaptionTokenizer, train_wordpiece
from flip.export.check import example_image
from flip.export.exports import Origin, export_model
from flip.export.formats import quiet
from flip.files import write_atomic, write_json
from flip.losses import build_towers
from flip.model.two_towers import TwoTowers
from flip.model.weights import save_weights
from flip.testsets.reader import to_square

PACKAGES = {
    "open_clip": ["open_clip_torch", "transformers"],
    "transformers": ["transformers", "torchvision", "pillow"],
    "timm": ["timm", "pillow"],
    "torch": ["torch", "numpy", "pillow", "tokenizers"],
}
CASES = [("clip-form", "open_clip"), ("siglip", "open_clip"), ("clip-form", "transformers"), ("siglip", "transformers"),
         ("flava", "transformers"), ("mae-class", "timm"), ("flip-50", "timm"), ("siglip", "timm"),
         ("flip-50", "torch"), ("mae", "torch")]  # fmt: skip
TEXT = "a photo of a dog"
SMALL = {
    "model": {
        "image": 32, "patch": 8, "embedding": 24, "tokens": 12,
        "vision": {"layers": 2, "width": 32, "heads": 2}, "text": {"layers": 2, "width": 24, "heads": 3},
    }
}  # fmt: skip
# Run there: the card's code, then what it has named.
RUNNER = """
import sys
import torch
from PIL import Image

image = Image.open(sys.argv[2])
torch.manual_seed(0)
with torch.no_grad():
    exec(sys.argv[1])
found = globals().get("found")
image = globals().get("image_features", getattr(found, "image_embeds", None))
text = globals().get("text_features", getattr(found, "text_embeds", None))
assert not [name for name in sys.modules if name.split(".")[0] == "flip"]
kept = [one.detach() for one in (image, text) if one is not None]
torch.save(kept, sys.argv[3])
print(__import__(sys.argv[4]).__version__)
"""


def environment(library: str, folder: Path) -> Path:
    """Return the Python of an environment with a library's newest release, made if it is not there."""
    python = folder / library / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder / library], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "torch", *PACKAGES[library]], check=True)
    return python


def made(variant: str, folder: Path) -> tuple[TwoTowers, CaptionTokenizer, Origin]:
    """Write a small model of a variant with random weights as training would; return it with its files."""
    project = read_project("params.yaml", "tiny")
    delta = merge(SMALL, {"captions": {"tokenizer": "scale"}})
    params = check(Params, merge(project.resolve(variant).model_dump(mode="json"), delta), variant)
    definition = train_wordpiece(iter([TEXT, "two blue boats on grass"] * 20), 100)
    stored = {"kind": "wordpiece", "vocabulary": len(definition["model"]["vocab"]), "definition": definition}
    write_json(folder / "tokenizer.json", stored)
    tokenizer = CaptionTokenizer(folder / "tokenizer.json", params.model.tokens, params.captions)
    torch.manual_seed(0)
    model = build_towers(params, tokenizer.vocabulary).eval()
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    write_atomic(folder / "params.yaml", dump(params))
    save_weights(folder / "weights.safetensors", model.state_dict())
    return model, tokenizer, Origin(folder / "params.yaml", folder / "weights.safetensors", folder)


@torch.no_grad()
def features(model: TwoTowers, tokenizer: CaptionTokenizer, image_only: bool, text: str) -> list[Tensor]:
    """Return our features of the image and, unless the export has no text encoder, of a caption."""
    side = model.params.model.image
    assert model.vision is not None
    pixels = to_square(example_image(side, side, 0), side)[None]
    if image_only:
        return [model.vision.feature(pixels)]
    return [model.encode_image(pixels), model.encode_text(torch.from_numpy(tokenizer([text])))]


def loaded_elsewhere(variant: str, library: str, folder: Path) -> str:
    """Export a variant, run its card's code in the library's environment, compare; return a line that says so.

    Raises:
        ValueError: the features differ by more than 1e-5 of the largest.
    """
    python, work = environment(library, folder), folder / "work" / f"{variant}-{library}"
    shutil.rmtree(work, ignore_errors=True)
    model, tokenizer, origin = made(variant, work)
    quiet(library)
    name, _ = export_model(origin, library, work / "exported")
    code = re.search(r"```python\n(.*?)```", (work / "exported/README.md").read_text(), re.DOTALL)
    assert code is not None
    side = model.params.model.image
    example_image(side, side, 0).save(work / "image.png")
    words = [python, "-c", RUNNER, code[1], work / "image.png", work / "found.pt", library]
    done = subprocess.run(words, cwd=work, check=True, capture_output=True, text=True, env={"HF_HUB_OFFLINE": "1"})
    found = torch.load(work / "found.pt")
    asked = re.search(r'"(a photo of a dog|a red star)"', code[1])
    ours = features(model, tokenizer, len(found) == 1, asked[1] if asked else TEXT)
    apart = []
    for own, theirs in zip(ours, found, strict=True):
        normalized = theirs.norm(dim=-1).allclose(torch.ones(len(theirs)), atol=1e-4)
        own_unit = torch.nn.functional.normalize(own, dim=-1) if normalized else own
        apart.append(same(f"{variant}, {library}", theirs, own_unit, 1e-5))
    return f"{variant:<10} {library} {done.stdout.strip().splitlines()[-1]}: {name}; {max(apart):.1e} apart"


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exports", description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="where environments are made and kept")
    options = parser.parse_args(argv)
    for variant, library in CASES:
        print(loaded_elsewhere(variant, library, options.folder.absolute()), flush=True)


if __name__ == "__main__":
    main()
