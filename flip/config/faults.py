"""Report wrong parameters: every fault as a line with key, value and what is allowed."""

import difflib
import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from flip.config.sections.types import Name, Section

SHOWN = 20  # faults that are listed
BELOW = "\n  "
LONGEST = 200  # characters of a value, or of a list of names, that are shown

One = TypeVar("One", bound=Section)


class ParameterError(ValueError):
    """Report that params.yaml, a frozen copy, or a command line does not fit the schema.

    Made of messages, or of pairs (place, fault) where a fault may be the same in several places.
    """

    def __init__(self, *parts: str | tuple[str, str]):
        self.parts = [("", part) if isinstance(part, str) else part for part in parts]
        super().__init__(_told(self.parts))


def shortened(text: str) -> str:
    """Cut where it would fill the screen, on one line, with names for what cannot be seen."""
    line = "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}..."


def nearest(name: object, known: Collection[object]) -> str:
    """Return a sentence that lists what is allowed, the closest name first."""
    close = difflib.get_close_matches(str(name), [str(k) for k in known], n=1)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return f"{hint}known: {', '.join(sorted(map(str, known)))}"


def must_know(names: Iterable[object], known: Collection[object], what: str, where: str) -> None:
    """Raise ParameterError for the first of the names that is not known."""
    for name in names:
        if not isinstance(name, str) or name not in known:
            raise ParameterError((where, f"unknown {what} '{shortened(str(name))}'; {nearest(name, known)}"))


def must_be_name(name: str, where: str) -> None:
    """Raise ParameterError for a name of a command line that may not become a path."""
    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError:
        allowed = "up to 64 of a-z, 0-9 and -, the first no -"
        raise ParameterError(f"{where} {shortened(repr(name))}: no name of a variant; allowed: {allowed}") from None


def _known_keys(schema: type[Section], location: Sequence[Any]) -> Collection[str]:
    """Return the field names of the section at `location`; steps that are no field (list items) are skipped."""
    for key in location:
        field = schema.model_fields.get(key) if isinstance(schema, type) else None
        if field is None:
            continue
        options = [field.annotation, *getattr(field.annotation, "__args__", ())]
        schema = next((o for o in options if isinstance(o, type) and issubclass(o, Section)), schema)
    return schema.model_fields


def explain(error: ValidationError, schema: type[Section]) -> Iterator[str]:
    """Return each fault as a line: key, value, what is allowed."""
    for fault in error.errors():
        path = fault["loc"]
        # Some checks are about all parameters together.
        key = f"{shortened('.'.join(map(str, path)))}: " if path else ""
        if fault["type"] == "extra_forbidden":
            yield f"{key}unknown key; {nearest(path[-1], _known_keys(schema, path[:-1]))}"
        elif fault["type"] == "missing":
            yield f"{key}missing; add it"
        else:
            value = "" if isinstance(fault["input"], dict) else f" (value: {shortened(repr(fault['input']))})"
            yield f"{key}{fault['msg'].removeprefix('Value error, ')}{value}"


def check(schema: type[One], tree: dict, where: str) -> One:
    """Return `tree` as a `schema`; JSON's strict mode takes lists for tuples, but no string for a number.

    Raises:
        ParameterError: every fault, as key, value, what is allowed.
    """
    try:
        return TypeAdapter(schema).validate_json(json.dumps(tree))
    except ValidationError as error:
        raise ParameterError(*((where, fault) for fault in explain(error, schema))) from None


class Faults:
    """Collect faults, so that all are reported at once."""

    def __init__(self) -> None:
        self.parts: list[tuple[str, str]] = []

    @contextmanager
    def collected(self) -> Iterator[None]:
        """Keep a ParameterError for `raise_all`, and continue."""
        try:
            yield
        except ParameterError as error:
            self.parts += error.parts

    def raise_all(self) -> None:
        """Raise ParameterError of all that was collected, if anything was."""
        if self.parts:
            raise ParameterError(*self.parts)


def _told(parts: list[tuple[str, str]]) -> str:
    """Return every fault once, with its place, or the first of many; a single one is a single line."""
    places: dict[str, dict[str, None]] = {}
    for where, fault in parts:
        places.setdefault(fault, {})[where] = None
    if len(places) > 1 and len({where for where, _ in parts}) == 1 and parts[0][0]:
        return _listed(f"{parts[0][0]}:", list(places))
    lines = [_placed(fault, list(where)) for fault, where in places.items()]
    return lines[0] if len(lines) == 1 else _listed(f"{len(lines)} faults:", lines)


def in_lines(faults: list[str], between: str = "\n") -> str:
    """Write the first of many faults, a line for each, and how many more there are."""
    more = [f"and {len(faults) - SHOWN} more"] if len(faults) > SHOWN else []
    return between.join([*faults[:SHOWN], *more])


def _listed(head: str, lines: list[str]) -> str:
    return f"{head}{BELOW}{in_lines(lines, BELOW)}"


def _placed(fault: str, where: list[str]) -> str:
    many = f" (so in {len(where)} variants and scales)" if len(where) > 1 else ""
    return f"{where[0]}: {fault}{many}" if where[0] else fault
