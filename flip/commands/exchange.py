"""The commands `flip export`, `flip push` and `flip import`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from flip.commands.complete import names
from flip.commands.options import Json, Params, Scale, Seed
from flip.export.libraries import Format, Library

NewFolder = Annotated[Path, typer.Option(help="Folder to make; it must not be there.")]


def export(
    library: Annotated[Format, typer.Option("--format", help="Library to write for; torch: programs of its own.")],
    out: NewFolder,
    variant: Annotated[
        str | None,
        typer.Option(
            help="Takes its results, data and receipt from where the workflow puts them.",
            autocompletion=names("variants"),
        ),
    ] = None,
    scale: Scale = None,
    seed: Seed = 0,
    params: Annotated[Path | None, typer.Option(help="Frozen parameters.")] = None,
    weights: Annotated[Path | None, typer.Option(help="File of weights (safetensors).")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder with tokenizer.json and, for the card, the ledger.")] = None,
    tokenizer: Annotated[Path | None, typer.Option(help="tokenizer.json of the weights. [default: the data's]")] = None,
    receipt: Annotated[Path | None, typer.Option(help="Receipt of the evaluation, for the card.")] = None,
    licence: Annotated[str | None, typer.Option(help="Of the weights, for the card. [default: none is stated]")] = None,
    as_json: Json = False,
) -> None:
    """Write a variant for open_clip, transformers, timm or torch.

        flip export --variant flip-50 --format timm --out exported/flip-50

    It has a model card, and is loaded back: its features have to equal those of the variant to 1e-5, or the folder is
    deleted.
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
    folder: Annotated[Path, typer.Argument(help="What `flip export` made.")],
    repo: Annotated[str, typer.Option(help="USER/NAME on the hub; it is made if it is not there.")],
    private: Annotated[bool, typer.Option("--private", help="A new repository that only you see.")] = False,
    revision: Annotated[str | None, typer.Option(help="Branch. [default: main]")] = None,
    as_json: Json = False,
) -> None:
    """Upload an export to the Hugging Face hub.

        flip push exported/flip-50 --repo you/flip-50

    Its card then says how to load it from there. `hf auth login` or HF_TOKEN says who you are.
    """
    from flip.export.hub import push as upload

    url = upload(folder, repo, private, revision)
    print(json.dumps({"url": url}) if as_json else url)


def import_(
    library: Annotated[Library, typer.Option("--format", help="Library that the checkpoint is for.")],
    source: Annotated[Path, typer.Option(help="Folder, or file of weights.")],
    variant: Annotated[str, typer.Option(help="What to call it in params.yaml: [a-z0-9-]+")],
    out: NewFolder,
    architecture: Annotated[
        str | None, typer.Option(help="Of a file: a name of open_clip's or timm's, as ViT-B-32.")
    ] = None,
    params: Params = Path("params.yaml"),
    scale: Scale = None,
    as_json: Json = False,
) -> None:
    """Convert a model of open_clip, transformers or timm to flip's.

        flip import --format open_clip --source models/vit-b-32 --variant vit-b-32 --out imported/vit-b-32

    It can be evaluated, and trained on. No code in it is run. What it does not state (data, training, test sets) is
    taken from a scale of params.yaml.
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
