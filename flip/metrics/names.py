"""Parse the names of metrics, and tell what has to be computed for them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from flip.metrics.measures import ACCURACY
from flip.metrics.sets import JAVA, PRIMARY, RECALLS, SCORES, TRANSFERS, retrieval_in

PROBE, FINETUNED = "probe", "finetuned"
# Ways of inference of what is measured on whole images as large as in training, too: masked ones, several masks of
# each, and images at the model's full size.
INFERENCE = MASKED, ENSEMBLE, FULL = "masked", "ensemble", "full"
CLASSIFYING = ("", *INFERENCE, PROBE, FINETUNED)
SIDES = ("image", "text")
HEADS = "heads"  # the job that trains these


@dataclass(frozen=True)
class Metric:
    """Name one number: the test set that it is measured on, what is done there, and how that is scored.

    `task`: '' for what the set is for (zero-shot classification, pointing, captioning, answering), 'probe',
    'finetuned', 'masked', 'ensemble', 'full', 'image' or 'text' (what is looked for), a kind of pairs
    ('replace-object'), of questions ('colour') or a domain ('near-domain'). `score`: 'accuracy', or what else the name
    ends with: 'r1', 'cider'.
    """

    set: str
    task: str = ""
    score: str = ACCURACY

    @classmethod
    def parse(cls, name: str, sets: Collection[str]) -> "Metric":
        """Return the metric of a name such as 'fine-probe', of the longest set that begins it.

        Raises:
            ValueError: it belongs to none of the sets.
        """
        found = [one for one in sets if name == one or name.startswith(f"{one}-")]
        if not found:
            raise ValueError(f"metric '{name}': of none of the test sets {', '.join(sets)}; see tables in params.yaml")
        test = max(found, key=len)
        ending = name[len(test) + 1 :]
        task, _, last = ending.rpartition("-")
        recall = task in SIDES and last in {f"r{k}" for k in RECALLS}
        if recall or (test in TRANSFERS and last in SCORES):
            return cls(test, task, last)
        return cls(test, ending)

    @property
    def ending(self) -> str:
        """Return what follows the set in the name: '-image-r1', or nothing."""
        return str(self)[len(self.set) :]

    def __str__(self) -> str:
        score = self.score if self.score != ACCURACY else ""
        return "-".join(part for part in (self.set, self.task, score) if part)

    @property
    def tasks(self) -> list[str]:
        """Return what has to be trained, and computed, for such a number: 'caption' and 'meteor' for
        'caption-meteor', all of 'coarse-finetuned'; nothing where the model is evaluated as it is, or probed."""
        if self.task == FINETUNED:
            return [str(self)]
        if self.set not in TRANSFERS:
            return []
        return [self.set, *(score for score in JAVA if score == self.score)]

    @property
    def job(self) -> str | None:
        """Return the job of the rule transfer that gives it: 'heads' for all that share features, each fine-tuning one
        of its own; None where the evaluation does."""
        return (str(self) if self.task == FINETUNED else HEADS) if self.tasks else None

    def measure(self, sets: Mapping[str, dict]) -> str:
        """Return how its outcomes become a number: as its set's revision says where images are classified."""
        return sets[self.set].get("measure", ACCURACY) if self.task in CLASSIFYING else ACCURACY

    def left_out(self, skipped: dict[str, str]) -> str | None:
        """Return why it is not there, by what a job says of metrics, or of tasks, that it left out."""
        return next((skipped[name] for name in (str(self), *self.tasks) if name in skipped), None)


def places(tree: dict) -> dict[str, str | None]:
    """Return role -> place of all test sets of a scale, by its unchecked parameters; None: it has none."""
    evaluate, transfer = tree["evaluate"], tree["transfer"]
    spoken = {retrieval_in(language): place for language, place in evaluate["languages"].items()}
    return evaluate["sets"] | spoken | {task: transfer[task] for task in TRANSFERS}


def lacking(metrics: list[Metric], sets: dict[str, str | None]) -> list[str]:
    """Return the test sets of metrics that a scale, whose sets' places these are, does not have."""
    return [name for name in dict.fromkeys(metric.set for metric in metrics) if sets[name] is None]


def own_name(metric: str, primary_set: str) -> str:
    """Return a metric of params.yaml by its own name, which begins with its set's: 'fine-masked' for
    'primary-masked'."""
    word, dash, rest = metric.partition("-")
    return f"{primary_set}{dash}{rest}" if word == PRIMARY else metric


# `project` is a flip.config.resolve.Project, whose import, if only for its type, would count as code of all stages.
def transferred(project: Any) -> dict[str, dict[str, list[str]]]:
    """Return variant -> job -> its tasks, for all that tables of the project show and that has to be trained."""
    found: dict[str, set[tuple[str, str]]] = {}
    for name, table in project.tables.items():
        wanted = {(task, metric.job) for metric in project.metrics(name) for task in metric.tasks}
        for variant in table.variants if wanted else ():
            if project.variants[variant].has_image_tower:
                found.setdefault(variant, set()).update(wanted)
    return {variant: _by_job(wanted) for variant, wanted in found.items()}


def _by_job(wanted: set[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for task, job in sorted(wanted):
        found.setdefault(job, []).append(task)
    return found
