"""Define the types of values in params.yaml: finite numbers in a range, names, texts; and names by number."""

from collections import Counter
from collections.abc import Hashable
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Kind = TypeVar("Kind", bound=Hashable)


def once_each(names: list) -> list:
    """Return the list, if nothing is in it twice.

    Raises:
        ValueError: something is.
    """
    if twice := [name for name, times in Counter(names).items() if times > 1]:
        raise ValueError(f"'{twice[0]}' is there twice; leave one of them")
    return names


def printed(text: str) -> str:
    """Return the text, if it is printable.

    Raises:
        ValueError: it is blank, begins or ends with a space, or has characters that have no look.
    """
    if not text.strip() or text != text.strip():
        raise ValueError("blank, or with spaces around it; write a text")
    if hidden := [character for character in text if not character.isprintable()]:
        raise ValueError(f"character {hidden[0]!a} cannot be printed; leave it out")
    return text


def no_option(text: str) -> str:
    """Return the text, if no command takes it for an option.

    Raises:
        ValueError: one does.
    """
    if text.startswith("-"):
        raise ValueError("begins with '-', as options do; write ./-...")
    return text


def printed_lines(text: str) -> str:
    """Return a text of several printable lines; the last may end with a line feed.

    Raises:
        ValueError: as of `printed`.
    """
    printed(" ".join(text.split("\n")).strip())
    return text


def ascending(pair: tuple[float, float]) -> tuple[float, float]:
    """Return the pair, if its first number is not above the second.

    Raises:
        ValueError: it is.
    """
    if pair[0] > pair[1]:
        raise ValueError(f"{pair[0]:g} to {pair[1]:g} is not a range; put the smaller number first")
    return pair


Share = Annotated[float, Field(ge=0, le=1)]
Part = Annotated[float, Field(ge=0, lt=1)]  # a share that leaves something
Positive = Annotated[float, Field(gt=0, le=1e6)]
Weight = Annotated[float, Field(ge=0, le=1e4)]  # of a loss
Rate = Annotated[float, Field(gt=0, le=10)]  # of learning
Temperature = Annotated[float, Field(ge=1e-3, le=1e3)]
Tiny = Annotated[float, Field(gt=0, le=0.1)]  # added to what is divided by
Minutes = Annotated[float, Field(gt=0, le=525_600)]  # up to a year
Natural = Annotated[int, Field(gt=0)]  # for fields with limits of their own: pydantic heeds one of several alone
Count = Annotated[Natural, Field(le=10**12)]
Some = Annotated[int, Field(ge=0, le=10**12)]
Few = Annotated[int, Field(gt=0, le=10_000)]  # what a machine, or a model, has few of
Width = Annotated[int, Field(gt=0, le=65_536)]
Pixels = Annotated[int, Field(gt=0, le=8192)]  # of a side
Batch = Annotated[int, Field(gt=0, le=2**24)]
Shard = Annotated[int, Field(gt=0, le=10**6)]  # samples of one
Vocabulary = Annotated[int, Field(ge=32, le=10**7)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # that numpy, torch and Python take alike
Language = Annotated[str, Field(pattern=r"^[a-z]{2,3}$")]  # ISO 639
# Becomes a file, a folder, a rule, or a word of a command.
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=64)]
Text = Annotated[str, AfterValidator(printed), Field(max_length=1000)]  # a line: a column, a title
Place = Annotated[Text, AfterValidator(no_option)]  # a file, folder, glob, or a name in place of one
Prose = Annotated[str, AfterValidator(printed_lines), Field(max_length=10_000)]
Distinct = Annotated[list[Kind], AfterValidator(once_each)]
Range = Annotated[tuple[Kind, Kind], AfterValidator(ascending)]


class Section(BaseModel):
    """Define a group of parameters: unknown keys are errors, numbers are finite, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def numbered(count: int, digits: int = 1) -> list[str]:
    """Return the numbers below `count`, all with as many digits as the last one needs, or more."""
    digits = max(digits, len(str(count - 1)))
    return [f"{number:0{digits}d}" for number in range(count)]
