"""The command `flip`: a module per command, which states its options; the work is done by the folders above.

What a command needs is imported when it is called, so that help and completion come at once.
"""

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from flip.commands.compare import compare
from flip.commands.curve import curve
from flip.commands.doctor import doctor
from flip.commands.exchange import export, import_, push
from flip.commands.interpolate import interpolate
from flip.commands.mirror import mirror
from flip.commands.params import params
from flip.commands.plan import plan
from flip.commands.samples import samples
from flip.commands.show import show
from flip.commands.trace import trace
from flip.commands.upkeep import reconcile, tidy
from flip.commands.watch import watch

app = typer.Typer(
    no_args_is_help=True,
    context_settings={"max_content_width": 110, "help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def print_version(asked: bool) -> None:
    """Print the version of the package and end, if asked for."""
    if asked:
        from importlib.metadata import version

        print(f"flip {version('flip')}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=print_version, is_eager=True)
    ] = False,
) -> None:
    """Inspect parameters, runs and results of this project. `snakemake` runs jobs, `dvc` shares results."""


for one in (show, curve, interpolate, watch, compare, trace, plan, doctor, params, reconcile, tidy, export, push):
    app.command()(one)
app.command("import")(import_)
for group in (mirror, samples):
    app.add_typer(group)


def message_of(error: Exception) -> str:
    """Return the message of an error, or that the command was called outside a project."""
    if isinstance(error, FileNotFoundError) and error.filename == "params.yaml":
        return "params.yaml: not in this folder; change to the project's folder, where it is"
    return str(error)


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command and exit; with 1 and a message for what is wrong with input or files.

    Raises:
        SystemExit: always.
    """
    try:
        app(argv, prog_name="flip")
    except (ValueError, OSError) as error:
        print(message_of(error), file=sys.stderr)
        sys.exit(1)
