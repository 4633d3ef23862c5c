"""Read what `snakemake sweep` has chosen: chosen/<scale>/, beside params.yaml."""

import json
from pathlib import Path

from flip.config.equal_time import StepTime
from flip.config.faults import ParameterError, check
from flip.config.sections.types import Section
from flip.config.sweep import SweepChoice

CHOSEN = "chosen"  # the folder, and the key of its content beside those of params.yaml
SWEEPS, TIMES = "sweeps", "times"
KINDS: dict[str, type[Section]] = {SWEEPS: SweepChoice, TIMES: StepTime}


def read_chosen(folder: Path) -> dict[str, dict[str, dict]]:
    """Read what was chosen at a scale, by kind and variant; nothing where nothing was chosen.

    Raises:
        ParameterError: a file holds something else.
    """
    return {kind: {path.stem: _read(path, kind) for path in sorted((folder / kind).glob("*.json"))} for kind in KINDS}


def _read(path: Path, kind: str) -> dict:
    try:
        content = json.loads(path.read_text())
    except (ValueError, UnicodeDecodeError):
        raise ParameterError(
            (str(path), "no JSON; `git checkout` it, or delete it and run `snakemake sweep`")
        ) from None
    return check(KINDS[kind], content, str(path)).model_dump(mode="json")
