"""Write a trained variant as a model of open_clip, transformers or timm, with a model card, and load it back.

    python -m flip.export --variant flip-50 --format timm --out exported/flip-50
    python -m flip.export --params results/tiny/siglip/seed-0/params.yaml --data data/tiny --format open_clip \\
        --weights results/tiny/siglip/seed-0/weights.safetensors --out exported/siglip

The features of the exported model have to equal those of the variant to 1e-5; if they do not, the folder is deleted.
"""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

import flip.data.torchvision_operators  # noqa: F401  (before timm and open_clip import torchvision)
from flip.config.faults import must_be_name
from flip.config.frozen import load
from flip.config.resolve import read_project
from flip.data.tokenizer import CaptionTokenizer, tokenizer_path
from flip.export.card import Evidence, card
from flip.export.check import Differences, compare
from flip.export.formats import FORMATS, choose, quiet
from flip.export.target import Target
from flip.files import atomic_folder, file_hash, write_atomic
from flip.losses import build_towers
from flip.model.two_towers import TwoTowers
from flip.model.weights import load_weights
from flip.provenance.layout import Layout


def locate(options: argparse.Namespace) -> None:
    """Set the paths that no option names to those of the variant.

    Raises:
        ValueError: paths are missing, and no variant is named.
    """
    if options.variant is not None:
        must_be_name(options.variant, "--variant")
        scale = read_project(scale=options.scale).scale
        at = Layout(scale)
        found = Path(at.run(options.variant, options.seed))
        options.params = options.params or found / "params.yaml"
        options.weights = options.weights or found / "weights.safetensors"
        options.data = options.data or Path(at.data)
        receipt = Path(at.receipts.variant(options.variant, "evaluate", options.seed))
        options.receipt = options.receipt or (receipt if receipt.exists() else None)
    if missing := [f"--{name}" for name in ("params", "weights", "data") if not getattr(options, name)]:
        raise ValueError(f"{', '.join(missing)}: not given; name a --variant, or all of --params, --weights and --data")


def notes(model: TwoTowers, target: Target) -> list[str]:
    """Return lines for the model card: what the target leaves out, and what it does differently."""
    found = (
        ["The text tower and the projections are not in it; the metrics below are those of both towers."]
        if target.image_only
        else []
    )
    left = model.passes.keys() - target.keeps
    found += [f"What the training loss '{name}' adds to the towers is not in it." for name in sorted(left)]
    if model.decoder is not None and "decoder" not in target.keeps:
        found.append("The reconstruction decoder is not in it.")
    return found + ([target.note] if target.note else [])


def export(model: TwoTowers, tokenizer: CaptionTokenizer, target: Target, out: Path) -> Differences:
    """Write their files to the new folder `out` and compare what their library loads from there with `model`.

    Raises:
        ValueError: they differ; `out` is then deleted.
    """
    with atomic_folder(out) as folder:
        target.write(model, tokenizer, folder, out)
    try:
        return compare(model, tokenizer, target.load(out), further=getattr(target, "further", None))
    except BaseException:
        shutil.rmtree(out)
        raise


def run(options: argparse.Namespace) -> str:
    """Export a variant with its model card; return the line to print."""
    locate(options)
    params = load(options.params)
    target = choose(options.format, params)
    path = options.tokenizer or tokenizer_path(options.data, params.captions)
    tokenizer = CaptionTokenizer(path, params.model.tokens, params.captions)
    model = build_towers(params, tokenizer.vocabulary).eval()
    load_weights(options.weights, model)
    if options.receipt:
        evidence = Evidence.of_receipt(options.receipt, file_hash(options.weights))
    else:
        evidence = Evidence.of_files(options.weights, options.data)
    differences = export(model, tokenizer, target, options.out)
    usage = target.usage.replace("{folder}", str(options.out))
    text = card(params, evidence, options.licence, usage, notes(model, target), str(differences))
    write_atomic(options.out / "README.md", text)
    return f"{options.out}: {target.name}; {differences}"


def main(argv: Sequence[str] | None = None) -> None:
    """Export a variant by the options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m flip.export", description=__doc__.splitlines()[0])
    parser.add_argument("--format", required=True, choices=FORMATS)
    parser.add_argument("--out", type=Path, required=True, help="folder to make; it must not be there")
    parser.add_argument("--variant", help="takes its results, data and receipt from where the workflow puts them")
    parser.add_argument("--scale", help="of --variant (default: the scale that params.yaml names)")
    parser.add_argument("--seed", type=int, default=0, help="of --variant (default: 0)")
    parser.add_argument("--params", type=Path, help="frozen parameters")
    parser.add_argument("--weights", type=Path, help="safetensors file")
    parser.add_argument("--data", type=Path, help="folder with tokenizer.json and, for the card, the ledger")
    parser.add_argument("--tokenizer", type=Path, help="tokenizer.json of the weights (default: the data's)")
    parser.add_argument("--receipt", type=Path, help="receipt of the evaluation, for the card")
    parser.add_argument("--licence", help="of the weights, for the card (default: none is stated)")
    options = parser.parse_args(argv)
    quiet(options.format)
    try:
        print(run(options))
    except (ValueError, OSError) as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
