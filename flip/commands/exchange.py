"""The commands `flip export`, `flip push` and `flip import`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from flip.commands.complete import names
from flip.commands.options import Json, Params, Scale, Seed
from flip.export.libraries import Format, Library

NewFolder = Annotated[Path, typer.Option(help="Folder to create; it must not exist.")]


def export(
    library: Annotated[Format, typer.Option("--format", help="Library to write for; torch: torch.export programs.")],
    out: NewFolder,
    variant: Annotated[
        str | None,
        typer.Option(
            help="Variant of params.yaml: use its results, data and receipt.",
            autocompletion=names("variants"),
        ),
    ] = None,
    scale: Scale = None,
    seed: Seed = 0,
    params: Annotated[Path | None, typer.Option(help="Frozen parameters.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Weights file (safetensors).")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder with tokenizer.json and, for the card, the ledger.")] = None,
    tokenizer: Annotated[Path | None, typer.Option(help="tokenizer.json. [default: that of --data]")] = None,
    receipt: Annotated[Path | None, typer.Option(help="Receipt of the evaluation, for the card.")] = None,
    licence: Annotated[str | None, typer.Option(help="Licence of the weights, for the card. [default: none]")] = None,
    as_json: Json = False,
) -> None:
    """Write a variant for open_clip, transformers, timm or torch.

        flip export --variant flip-50 --format timm --out exported/flip-50

    The export has a model card. It is loaded again, and its features must equal the variant's to 1e-5; otherwise the
    folder is deleted.
    """
    from flip.export.exports import Origin, export_model, locate
    from flip.export.formats import quiet

    quiet(library)
    stated = Origin(params, weights, data, tokenizer, receipt)
    origin = stated if variant is None else stated.over(locate(variant, scale, seed))
    name, differences = export_model(origin, library, out, licence)
    facts = {"folder": str(out), "model": name, "differences": asdict(differences)}
    print(json.dumps(facts, indent=1) if as_json else f"{out}: {name}; {differences}")


def push(
    folder: Annotated[Path, typer.Argument(help="Folder that `flip export` made.")],
    repo: Annotated[str, typer.Option(help="USER/NAME on the hub; created if it does not exist.")],
    private: Annotated[bool, typer.Option("--private", help="Create the repository as private.")] = False,
    revision: Annotated[str | None, typer.Option(help="Branch. [default: main]")] = None,
    as_json: Json = False,
) -> None:
    """Upload an export to the Hugging Face hub.

        flip push exported/flip-50 --repo you/flip-50

    Loading instructions are added to its card. Log in with `hf auth login`, or set HF_TOKEN.
    """
    from flip.export.hub import push as upload

    url = upload(folder, repo, private, revision)
    print(json.dumps({"url": url}) if as_json else url)


def import_(
    library: Annotated[Library, typer.Option("--format", help="Library of the checkpoint.")],
    source: Annotated[Path, typer.Option(help="Folder or weights file.")],
    variant: Annotated[str, typer.Option(help="Name of the new variant: [a-z0-9-]+")],
    out: NewFolder,
    architecture: Annotated[
        str | None, typer.Option(help="Architecture of a weights file: a name in open_clip or timm, as ViT-B-32.")
    ] = None,
    params: Params = Path("params.yaml"),
    scale: Scale = None,
    as_json: Json = False,
) -> None:
    """Convert a model of open_clip, transformers or timm to flip's.

        flip import --format open_clip --source models/vit-b-32 --variant vit-b-32 --out imported/vit-b-32

    The result can be evaluated and tuned. No code of the checkpoint is run. Other parameters (data, training, test
    sets) are taken from a scale of params.yaml.
    """
    from flip.config.faults import must_be_name
    from flip.config.resolve import read_project
    from flip.export.formats import quiet
    from flip.export.imports import Checkpoint, convert_checkpoint

    quiet(library)
    must_be_name(variant, "--variant")
    base = read_project(params, scale).baseline
    differences = convert_checkpoint(Checkpoint(library, source, architecture), variant, out, base)
    facts = {"folder": str(out), "differences": asdict(differences)}
    print(json.dumps(facts, indent=1) if as_json else f"{out}: {differences}")
