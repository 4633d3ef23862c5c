"""Read the columns of a source of URLs: which it must have, of what type, and which key of params.yaml names each."""

from collections.abc import Iterable
from itertools import repeat
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from flip.config.faults import shortened
from flip.config.schema import Source
from flip.formats.texts import Texts

# Arrow's types that text, and numbers, are read from.
NAMES = ("string", "large_string", "string_view", "binary", "large_binary", "null")
TEXTS = tuple(getattr(pa.types, f"is_{kind}") for kind in NAMES)
NUMBERS = (pa.types.is_floating, pa.types.is_decimal)
INTEGERS = (pa.types.is_integer, pa.types.is_boolean)


UNREADABLE = "unreadable:"  # in place of a URL: of no scheme that is fetched


def captions(source: Source) -> list[str]:
    """List the columns of captions, each of which may hold one or a list; synthetic ones are the last."""
    return [source.caption_column, *source.further_captions, *source.synthetic_captions]


def columns(source: Source) -> dict[str, pa.DataType]:
    """Map the columns that the source must have to the types they are read as."""
    filters = source.filters
    names = filter(None, (source.url_column, *captions(source), source.sha256_column))
    wanted = dict.fromkeys(names, pa.string())
    for choice in filter(None, (filters.language, filters.unsafe)):
        wanted[choice.column] = pa.string()
    if filters.similarity:
        wanted[filters.similarity.column] = pa.float64()
    if filters.size:
        wanted |= {filters.size.width_column: pa.float64(), filters.size.height_column: pa.float64()}
    return wanted


def parameter_key(source: Source, column: str) -> str:
    """Return the key of params.yaml that names a column."""
    for key in ("url_column", "caption_column", "sha256_column"):
        if column == getattr(source, key):
            return f"source.{key}"
    for key in ("further_captions", "synthetic_captions"):
        if column in getattr(source, key):
            return f"source.{key}"
    filters = source.filters.model_dump(exclude_none=True)
    return next(
        f"source.filters.{name}.{key}"
        for name, keys in filters.items()
        for key, value in keys.items()
        if value == column
    )


def require_columns(source: Source, where: str, there: Iterable) -> None:
    """Check that each of the source's columns is among the names `there`, once; `where` names the file in messages.

    Raises:
        ValueError: a column is missing, or is there more than once.
    """
    for column in columns(source):
        if (count := list(there).count(column)) != 1:
            raise ValueError(
                f"{where}: {f'{count} columns' if count else 'no column'} '{column}'; there are: "
                f"{shortened(', '.join(map(str, there)))}; set {parameter_key(source, column)} in params.yaml"
            )


def require_types(source: Source, where: str, there: pa.Schema) -> None:
    """Check that the source's columns have types that they can be read from.

    Text is never made of numbers, so that no caption is "nan"; what a filter compares may be integers.

    Raises:
        ValueError: a column has another type.
    """
    for column, wanted in columns(source).items():
        kind, key = there.field(column).type, parameter_key(source, column)
        inner = kind.value_type if column in captions(source) and is_list(kind) else kind
        allowed = NUMBERS + TEXTS if pa.types.is_floating(wanted) else TEXTS
        allowed += INTEGERS if key.startswith("source.filters") else ()
        if not any(test(inner.value_type if pa.types.is_dictionary(inner) else inner) for test in allowed):
            raise ValueError(
                f"{where}: column '{column}' is {kind}, not {'numbers' if NUMBERS[0] in allowed else 'text'}; name "
                f"another in {key}, or write it anew"
            )


def is_list(kind: pa.DataType) -> bool:
    """Tell whether a type is a list."""
    return pa.types.is_list(kind) or pa.types.is_large_list(kind)


def readable(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Convert text, bytes, or what a filter compares, to strings: null where it is no UTF-8, or has a NUL in it."""
    if is_list(column.type):
        return listed(column)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if not any(test(column.type) for test in TEXTS):
        return column.cast(pa.string())
    encoded = column.cast(pa.binary())  # columns of strings are not checked when they are read
    try:
        text = encoded.cast(pa.string())
    except pa.ArrowInvalid:
        text = pa.chunked_array([[decoded(one) for one in encoded.to_pylist()]], pa.string())
    return pc.if_else(pc.match_substring(text, "\0"), None, text)


def listed(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Join the texts of each list (flip.formats.texts): null where one of them cannot be read."""
    found = []
    for chunk in column.chunks:
        lists, values = chunk.to_pylist(), iter(readable(pa.chunked_array([chunk.flatten()])).to_pylist())
        texts = [None if one is None else [(raw, next(values)) for raw in one] for one in lists]
        found.append(pa.array([None if one is None else joined(one) for one in texts], pa.string()))
    return pa.chunked_array(found, pa.string())


def joined(texts: list[tuple[Any, str | None]]) -> str | None:
    """Join (as it came, as it is read); None where what came cannot be read."""
    if any(raw is not None and text is None for raw, text in texts):
        return None
    return Texts([text for _, text in texts if text]).joined


def together(found: dict[str, pa.ChunkedArray], source: Source) -> pa.Array:
    """Join the captions of all columns (flip.formats.texts)."""
    own = [found[one].to_pylist() for one in (source.caption_column, *source.further_captions)]
    synthetic = [found[one].to_pylist() for one in source.synthetic_captions]
    rows = zip(zip(*own, strict=True), zip(*synthetic, strict=True) if synthetic else repeat(()))  # noqa: B905
    return pa.array([Texts(*row).joined for row in rows], pa.string())


def decoded(encoded: bytes | None) -> str | None:
    """Decode UTF-8; None where it is none."""
    try:
        return None if encoded is None else encoded.decode()
    except UnicodeDecodeError:
        return None


def convert(batch: pa.Table, source: Source, where: str) -> pa.Table:
    """Convert the source's columns to the types that they are read as.

    A row whose URL or caption cannot be read gets UNREADABLE for a URL, which the download counts and does not ask for.

    Raises:
        ValueError: a value cannot be converted.
    """
    found, lost = {}, pa.scalar(False)
    for column, kind in columns(source).items():
        try:
            found[column] = readable(batch[column]) if kind == pa.string() else batch[column].cast(kind)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise ValueError(f"{where}: column '{column}': {error}; mend or remove the row") from None
        if column in (source.url_column, *captions(source)):
            lost = pc.or_(lost, pc.and_(pc.is_null(found[column]), pc.is_valid(batch[column])))
    found[source.url_column] = pc.if_else(lost, UNREADABLE, found[source.url_column])
    if captions(source)[1:]:
        found[source.caption_column] = together(found, source)
    return pa.table(found)
