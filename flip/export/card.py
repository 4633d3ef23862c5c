"""Write the model card: training data, how it was trained, metrics, how to load it, limits."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from flip.config.frozen import dump
from flip.config.schema import Params
from flip.files import read_json
from flip.provenance.receipt import behind

LIMITS = """\
- It has seen the pairs listed above and nothing else: other kinds of images, other languages and other tasks than
  those measured are not covered.
- Pairs from the web carry the web's prejudices, and such models repeat them; it was not examined for them. It is meant
  for research, not for decisions about people.
- Zero-shot accuracy depends on the wording of the prompts; those of the test sets were used.
"""

HUB_LIBRARIES = {"torch": "pytorch"}  # what the hub calls a library, where it is not as here

CARD = """---
{front}
---

# {variant} ({scale})

A language-image model: variant `{variant}` of the scale `{scale}` of flip.

## How to load it

```python
{usage}
```

Loaded so, it was compared with the model that it was made of: {checked}.
{notes}

## What it was trained on

{data}

## What it reaches

{metrics}

## How it was made

{made}

<details><summary>Frozen parameters</summary>

```yaml
{params}
```

</details>

## Licence

{licence}

## Limits

{limits}
"""


@dataclass
class Evidence:
    """Hold what is recorded of a training run: by the receipt of its evaluation, or by the files beside its weights."""

    training: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    ledger: dict[str, Any] = field(default_factory=dict)
    made: dict[str, Any] = field(default_factory=dict)  # commit, versions and machine of the training

    @staticmethod
    def of_receipt(path: Path, weights_hash: str) -> "Evidence":
        """Read the receipts from an evaluation back to the data.

        Raises:
            ValueError: the evaluation is of other weights.
        """
        stages = {one["spec"]["stage"]: one for one in behind(str(path)).values()}
        evaluation, training = stages["evaluate"], stages["pretrain"]
        if weights_hash not in {one["sha256"] for one in training["made"].values()}:
            raise ValueError(f"{path}: the receipt of other weights; give --receipt the evaluate.json of these")
        facts = {name: training[name] for name in ("git", "versions", "machine")}
        ledger = stages["manifest"]["facts"]["ledger"]["total"]
        return Evidence(training["facts"]["training"], evaluation["facts"]["metrics"], ledger, facts)

    @staticmethod
    def of_files(weights: Path, data: Path) -> "Evidence":
        """Read the files in the folder of the weights and in the data folder, as far as they exist."""
        read = lambda path: read_json(path) if path.exists() else {}  # noqa: E731
        training, metrics = (read(weights.parent / name) for name in ("training.json", "metrics.json"))
        # The ledger is about these pairs only if the manifest is the same.
        same = read(data / "manifest.json").get("id") == training.get("manifest")
        return Evidence(training, metrics, read(data / "ledger.json").get("total", {}) if same else {})


def rows(pairs: dict[str, Any]) -> str:
    """Return rows of a Markdown table with two columns."""
    return "\n".join(f"| {name} | {value} |" for name, value in pairs.items())


def table(head: tuple[str, str], pairs: dict[str, Any]) -> str:
    """Return a Markdown table with two columns."""
    return f"| {head[0]} | {head[1]} |\n|---|---|\n{rows(pairs)}"


def data_section(params: Params, evidence: Evidence) -> str:
    """Describe the training data."""
    training, ledger = evidence.training, evidence.ledger
    if not training:
        return "Not recorded: there is no training.json beside the weights."
    facts = {
        "list of images": f"`{params.source.place}`",
        "manifest": f"`{training['manifest']}`",
        "pairs (their identity)": f"`{training['pairs']}`",
    }
    facts |= {"training pairs": f"{training['images']:,}", "samples seen": f"{training['samples']:,}"}
    if params.captions.translated:
        facts |= {"languages": f"{', '.join(params.captions.languages)}; each image's caption is in one of them"}
    if params.start:
        variant = f"the weights of variant `{params.start}`, trained on the same"
        facts |= {"started from": f"the imported weights in `{params.start}`" if params.start_files else variant}
    towers = {"image tower": params.image_tower.weights, "text tower": params.text_tower.weights}
    facts |= {f"{name} started from": f"`{weights}`" for name, weights in towers.items() if weights}
    text = table(("what", "value"), facts)
    if not ledger:
        return text + "\n\nThe accounting of the rows that the pairs were taken from is not recorded."
    counts = {name: f"{ledger[name]:,}" for name in ("rows", "wanted", "arrived", "used")}
    lost = {f"lost: {name}": f"{count:,}" for name, count in ledger["lost"].items()}
    return (
        f"{text}\n\nOf the rows of the list that it was downloaded from:\n\n{table(('rows', 'count'), counts | lost)}"
    )


def metrics_section(evidence: Evidence) -> str:
    """Return the metrics, and the test sets that they were measured on."""
    if not evidence.metrics:
        return "Not recorded: there is no metrics.json beside the weights."
    metrics = {name: f"{value:.2f}" for name, value in evidence.metrics["metrics"].items()}
    sets = {
        name: f"{one['samples']:,} images, revision `{one['sha256'][:16]}`"
        for name, one in evidence.metrics["sets"].items()
    }
    return f"{table(('metric', 'percent'), metrics)}\n\n{table(('test set', 'what it is'), sets)}"


def made_section(evidence: Evidence) -> str:
    """Return commit, device, time, seed and versions."""
    if not evidence.made:
        return "Commit and versions are not recorded: no receipt was given (`--receipt`)."
    git, training = evidence.made["git"], evidence.training
    tree = " with changes that were not committed" if git["changed"] else ""
    facts = {"commit": f"{git['commit']}{tree}" if git["commit"] else "outside a repository"}
    facts |= {"device": training["device"], "time": f"{training['seconds']:,} s", "seed": training["seed"]}
    return table(("what", "value"), facts | evidence.made["versions"])


def hub_facts(library: str, image_only: bool) -> dict[str, str]:
    """Return what a model hub asks of a card: which library loads the model, and for what it is used."""
    task = "image-feature-extraction" if image_only else "zero-shot-image-classification"
    return {"library_name": HUB_LIBRARIES.get(library, str(library)), "pipeline_tag": task}


def card(
    params: Params,
    evidence: Evidence,
    facts: dict[str, str],
    licence: str | None,
    usage: str,
    notes: list[str],
    checked: str,
) -> str:
    """Return the content of README.md, with the front matter that model hubs read."""
    front: dict[str, Any] = facts | {"license": "other", "license_name": licence or "none-stated"}
    front |= {"tags": ["clip", "flip"]}
    stated = f"{licence}." if licence else "None is stated; ask the authors before using it."
    listed = "".join(f"\n- {line}" for line in notes)
    sections = {"data": data_section(params, evidence), "metrics": metrics_section(evidence)}
    sections |= {"made": made_section(evidence), "params": dump(params).strip(), "limits": LIMITS.strip()}
    return CARD.format(
        front=yaml.safe_dump(front, sort_keys=False).strip(),
        variant=params.variant,
        scale=params.scale,
        usage=usage,
        checked=checked,
        notes=listed,
        licence=stated,
        **sections,
    )
