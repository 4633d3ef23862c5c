"""Define parameters of the reports: pages, their tables, the trade-off figure, scaling laws."""

from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from flip.config.sections.types import Distinct, Name, Prose, Section, Text

FITTED_RUNS = 5  # the fewest that a law is fitted to, so that its residuals say how well its form fits


class LawSection(Section):
    """Name the runs that a scaling law is fitted to, and those that it is compared with. A run is a variant; its seeds
    repeat it."""

    fitted: Distinct[Name] = Field(description=f"variants, least compute first; at least {FITTED_RUNS}")
    held_out: Distinct[Name] = Field(description="variants that the fit does not see", min_length=1)

    @field_validator("fitted")
    @classmethod
    def enough(cls, names: list[str]) -> list[str]:
        if (count := len(names)) < FITTED_RUNS:
            said = ", ".join(names) or "none"
            raise ValueError(
                f"the curve has {count} {'run' if count == 1 else 'runs'} ({said}), and a law needs at least "
                f"{FITTED_RUNS} (seeds repeat a run, they add none); name {FITTED_RUNS - count} more"
            )
        return names

    @model_validator(mode="after")
    def holds_out(self) -> Self:
        if both := sorted({*self.fitted} & {*self.held_out}):
            raise ValueError(f"'{both[0]}' is in fitted and in held_out; leave it in one of them")
        return self


class Scaling(Section):
    """Describe how the error falls with compute (FLIP, section 4.3; Cherti et al. 2022)."""

    metric: Name = Field(description="an accuracy; its error is 100% minus it")
    laws: dict[Text, LawSection] = Field(
        description="one law per mask ratio; the others are compared with the first", min_length=1
    )


class Report(Section):
    """Describe a page of tables, made by a target of its own that trains only the variants in them."""

    title: Text = Field(description="what the page is called")
    question: Prose = Field(description="what its tables answer")
    about: Prose = Field(description="what it compares, in a few sentences")
    scaling: Scaling | None = Field(None, description="laws of scaling among the rows of its tables")
    group: Name | None = Field(None, description="target that makes this report and all others of the group")
    scales: Distinct[Name] | None = Field(None, description="where it is made; null: wherever it can be", min_length=1)

    def unmeasured(self, tables: dict[str, "Table"]) -> str | None:
        """Return a run of a law that is in none of the report's tables, if any: only those are trained and
        evaluated."""
        if self.scaling is None:
            return None
        for label, law in self.scaling.laws.items():
            for name in (*law.fitted, *law.held_out):
                if not any(name in one.variants and self.scaling.metric in one.metrics for one in tables.values()):
                    return (
                        f"scaling.laws.{label}: no table of this report has a row '{name}' and a column "
                        f"'{self.scaling.metric}'; add them to one, or take the run out"
                    )
        return None


class Table(Section):
    title: Text
    report: Name = Field(description="which report shows it")
    variants: Distinct[Name] = Field(description="rows, baseline first", min_length=1)
    metrics: Distinct[Name] = Field(description="columns", min_length=1)
    scales: Distinct[Name] | None = Field(
        None, description="where it is shown, for sets that others have not; null: all", min_length=1
    )
    mixed_data: bool = Field(False, description="rows may be trained on different data; the table then says which")


class Tradeoff(Section):
    report: Name = Field(description="which report shows the figure")
    metric: Name
    curves: dict[Text, Annotated[Distinct[Name], Field(min_length=1)]] = Field(
        description="one curve per mask ratio: its variants", min_length=1
    )
