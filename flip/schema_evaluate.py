"""Parameters of the evaluation."""

from pydantic import Field, field_validator, model_validator

from flip.schema_data import ProbeSets
from flip.schema_types import Count, Name, Section


class Evaluate(Section):
    sets: dict[Name, str] = Field(
        description="role -> 'world', or a folder in clip-benchmark's webdataset layout; 'fine' is required; null: the "
        "scale has none, and tables leave its metrics out"
    )
    probe: list[Name] = Field(
        description="roles with classes that a linear probe is fitted to, too, where the set has a training split"
    )
    batch: Count

    @field_validator("sets", mode="before")
    @classmethod
    def there(cls, sets):
        """Without those that the scale does not have."""
        return {role: place for role, place in sets.items() if place is not None} if isinstance(sets, dict) else sets

    @model_validator(mode="after")
    def has_fine(self):
        if "fine" not in self.sets:
            raise ValueError("sets has no 'fine', the set that masked inference is measured on")
        return self

    @model_validator(mode="after")
    def probes_what_can_be_probed(self):
        for name in self.probe:
            if name not in self.sets:
                raise ValueError(f"probe names '{name}', which sets has not; allowed: {', '.join(self.sets)}")
            if self.sets[name] == "world" and name not in ProbeSets.model_fields:
                raise ValueError(
                    f"probe names '{name}', of which the world has no labelled training pictures; allowed: "
                    f"{', '.join(ProbeSets.model_fields)}, or a role of sets that is a folder with a training split"
                )
        return self
