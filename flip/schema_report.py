"""Parameters of the reports: pages, their tables, the trade-off figure."""

from pydantic import Field

from flip.schema_types import Name, Section


class Report(Section):
    """A page of tables, made by a target of its own that trains only the variants which they name."""

    title: str = Field(description="what the page is called")
    question: str = Field(description="what its tables answer")
    about: str = Field(description="what it compares, in a few sentences")


class Table(Section):
    title: str
    report: Name = Field(description="which report shows it")
    variants: list[Name] = Field(description="rows, baseline first", min_length=1)
    metrics: list[Name] = Field(description="columns", min_length=1)
    mixed_data: bool = Field(False, description="rows may be trained on different data; the table then says which")


class Tradeoff(Section):
    report: Name = Field(description="which report shows the figure")
    metric: Name
    curves: dict[str, list[Name]] = Field(description="one curve per mask ratio: its variants")
