"""Define parameters of the evaluation."""

from collections.abc import Iterable
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from flip.config import public
from flip.config.sections.data import WORLD_LANGUAGES
from flip.config.sections.types import Batch, Distinct, Language, Name, Place, Section
from flip.config.sections.world import ProbeSets
from flip.metrics.measures import ACCURACY, MEASURES
from flip.metrics.sets import PRIMARY, TRANSFERS, WORLD, retrieval_in


class Evaluate(Section):
    primary_set: Name = Field(
        description="main test set, one of `sets`, with one class per image: it is used for masked inference, curves "
        "and figures, and `primary` refers to it in the metrics of tables, trade-off and laws"
    )
    validation_set: Name | None = Field(
        description="set for choosing values in sweeps, one of `sets`; tables may not show it; null: none"
    )
    sets: dict[Name, Place] = Field(
        description="name -> 'world' (the synthetic set), a folder in clip-benchmark's webdataset layout, or a public "
        "set of flip/config/public.yaml with its commit on the hub, as wds/cars@COMMIT, which `snakemake "
        "mirror` fetches once; null: none, and tables leave its metrics out. A folder's dataset_type.txt "
        "gives its kind: retrieval (a .txt of captions next to each image), pointing (.txt, and a box in "
        ".json), entailment (.cls, and two lines in .txt), composition (as SugarCrepe: a .txt with one "
        "line per pair: kind, right caption, wrong caption, separated by tabs); without this file: "
        "classification (.cls)"
    )
    languages: dict[Language, Place] = Field(
        description="language -> 'world', or a folder as in sets (XM3600): the set retrieval-<language>, for variants "
        "that read this language; duplicates of its images are not removed from the training data, so "
        "name a set with the same images in sets, too; null: none"
    )
    probe: Distinct[Name] = Field(description="classification sets for linear probes; each needs a training split")
    measures: dict[Name, Literal[*MEASURES]] = Field(  # type: ignore[valid-type]
        description="set -> score for classification (zero-shot, probe, fine-tuned); default: as in "
        "flip/config/public.yaml for a public set or its copy in testsets/<data set on the hub>, accuracy "
        "for others"
    )
    batch: Batch

    @field_validator("sets", "languages", mode="before")
    @classmethod
    def there(cls, sets: Any) -> Any:
        """Drop the sets that the scale does not have."""
        return {role: place for role, place in sets.items() if place is not None} if isinstance(sets, dict) else sets

    def of(self, languages: Iterable[str]) -> dict[str, str]:
        """Return the place of each set by role that a model which reads these languages is evaluated on: of all but the
        one that sweeps choose by."""
        shown = {role: place for role, place in self.sets.items() if role != self.validation_set}
        return shown | {retrieval_in(one): self.languages[one] for one in languages if one in self.languages}

    def measure(self, role: str) -> str:
        """Return the measure of classification on a set."""
        place = self.sets.get(role, "world")  # captions in other languages are none of them
        known = public.at(place)
        return self.measures.get(role) or (known.measure if known else ACCURACY)

    @model_validator(mode="after")
    def names_public_sets(self) -> Self:
        for role, place in self.sets.items():
            if public.is_public(place):
                if fault := public.fault(place):
                    raise ValueError(f"sets.{role}: {fault}")
                if fault := public.named(place).undefined(self.measure(role)):
                    raise ValueError(f"measures.{role}: {fault}")
        for language, place in self.languages.items():
            if public.is_public(place):
                raise ValueError(f"languages.{language} = '{place}'; allowed: 'world', or a folder")
        return self

    @model_validator(mode="after")
    def measures_what_there_is(self) -> Self:
        if lost := sorted(self.measures.keys() - self.sets.keys()):
            raise ValueError(f"measures names '{lost[0]}', which sets has not; allowed: {', '.join(self.sets)}")
        return self

    @model_validator(mode="after")
    def speaks(self) -> Self:
        for language, place in self.languages.items():
            if place == "world" and language not in WORLD_LANGUAGES:
                raise ValueError(
                    f"languages.{language} = 'world', which does not have this language; known: "
                    f"{', '.join(WORLD_LANGUAGES)}, or give a folder"
                )
        return self

    @model_validator(mode="after")
    def leaves_names_to_transfer(self) -> Self:
        if taken := sorted(self.sets.keys() & set(TRANSFERS)):
            raise ValueError(f"sets.{taken[0]} has the name of a task of transfer, and of its metrics; choose another")
        return self

    @model_validator(mode="after")
    def has_its_primary_set(self) -> Self:
        if self.primary_set not in self.sets:
            raise ValueError(
                f"primary_set = '{self.primary_set}', which sets has not; allowed: {', '.join(self.sets) or 'none'}"
            )
        if PRIMARY in self.sets:
            raise ValueError(f"sets.{PRIMARY} has the name that stands for primary_set in metrics; choose another")
        return self

    @model_validator(mode="after")
    def probes_what_can_be_probed(self) -> Self:
        for name in self.probe:
            if name not in self.sets:
                raise ValueError(f"probe names '{name}', which sets has not; allowed: {', '.join(self.sets)}")
            if self.sets[name] == "world" and name not in ProbeSets.model_fields:
                raise ValueError(
                    f"probe names '{name}', of which the world has no labelled training images; allowed: "
                    f"{', '.join(ProbeSets.model_fields)}, or one of sets that is a folder with a training split"
                )
        return self

    @model_validator(mode="after")
    def knows_the_world(self) -> Self:
        for role, place in self.sets.items():
            if place == "world" and role not in WORLD:
                raise ValueError(
                    f"sets.{role} = 'world', which has no such set; known: {', '.join(WORLD)}, or a folder"
                )
        if twice := sorted(self.sets.keys() & set(map(retrieval_in, self.languages))):
            raise ValueError(f"sets.{twice[0]} has the name of a set of languages; choose another")
        return self
