"""Write a trained variant as a model of open_clip, transformers or timm, with a model card, and load it back.

The features of the exported model have to equal those of the variant to 1e-5; if they do not, the folder is deleted.
"""

import shutil
from dataclasses import dataclass, fields, replace
from pathlib import Path

import flip.data.torchvision_operators  # noqa: F401  (before timm and open_clip import torchvision)
from flip.config.faults import must_be_name
from flip.config.frozen import load
from flip.config.resolve import read_project
from flip.data.tokenizer import CaptionTokenizer, tokenizer_path
from flip.export.card import Evidence, card, hub_facts
from flip.export.check import Differences, compare
from flip.export.formats import choose
from flip.export.target import Target
from flip.files import atomic_folder, file_hash, write_atomic
from flip.losses import build_towers
from flip.model.two_towers import TwoTowers
from flip.model.weights import load_weights
from flip.provenance.layout import Layout


@dataclass(frozen=True)
class Origin:
    """Name the files of a trained model: frozen parameters, weights, the folder of its data (tokenizer and, for the
    card, the ledger); a tokenizer in place of the data's; the receipt of its evaluation, for the card."""

    params: Path | None = None
    weights: Path | None = None
    data: Path | None = None
    tokenizer: Path | None = None
    receipt: Path | None = None

    def over(self, other: "Origin") -> "Origin":
        """Return the files of `other`, those that are named here in their place."""
        stated = {one.name: path for one in fields(self) if (path := getattr(self, one.name)) is not None}
        return replace(other, **stated)


def locate(variant: str, scale: str | None, seed: int) -> Origin:
    """Return where the workflow puts what an export of a variant is made of.

    Raises:
        ValueError: no name of a variant, or an unknown scale.
    """
    must_be_name(variant, "--variant")
    at = Layout(read_project(scale=scale).scale)
    run, receipt = Path(at.run(variant, seed)), Path(at.receipts.variant(variant, "evaluate", seed))
    here = receipt if receipt.exists() else None
    return Origin(run / "params.yaml", run / "weights.safetensors", Path(at.data), receipt=here)


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


def export_model(origin: Origin, library: str, out: Path, licence: str | None = None) -> tuple[str, Differences]:
    """Write a trained model for a library, with its model card, to the new folder `out`; return what it became there,
    and how far its features are from the variant's.

    Raises:
        ValueError: files are not named, or wrong; the library has no such architecture; or the features differ.
    """
    params_file, weights, data = origin.params, origin.weights, origin.data
    if not (params_file and weights and data):
        raise ValueError("name a --variant, or all of --params, --weights and --data")
    params = load(params_file)
    target = choose(library, params)
    path = origin.tokenizer or tokenizer_path(data, params.captions)
    tokenizer = CaptionTokenizer(path, params.model.tokens, params.captions)
    model = build_towers(params, tokenizer.vocabulary).eval()
    load_weights(weights, model)
    if origin.receipt:
        evidence = Evidence.of_receipt(origin.receipt, file_hash(weights))
    else:
        evidence = Evidence.of_files(weights, data)
    differences = export(model, tokenizer, target, out)
    usage = target.usage.replace("{folder}", str(out))
    facts, left = hub_facts(library, target.image_only), notes(model, target)
    write_atomic(out / "README.md", card(params, evidence, facts, licence, usage, left, str(differences)))
    return target.name, differences
