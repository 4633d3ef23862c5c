"""Read the columns of a source of URLs: which it must have, of what type, and which key of params.yaml names each."""

from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

from flip.config.schema import Source

# Arrow's types that text, and numbers, are read from.
NAMES = ("string", "large_string", "string_view", "binary", "large_binary", "null")
TEXTS = tuple(getattr(pa.types, f"is_{kind}") for kind in NAMES)
NUMBERS = (pa.types.is_floating, pa.types.is_decimal)
INTEGERS = (pa.types.is_integer, pa.types.is_boolean)


UNREADABLE = "unreadable:"  # in place of a URL: of no scheme that is fetched


def columns(source: Source) -> dict[str, pa.DataType]:
    """Map the columns that the source must have to the types they are read as."""
    filters = source.filters
    names = filter(None, (source.url_column, source.caption_column, source.sha256_column))
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
                f"{', '.join(map(str, there))}; set {parameter_key(source, column)} in params.yaml"
            )


def require_types(source: Source, where: str, there: pa.Schema) -> None:
    """Check that the source's columns have types that they can be read from.

    Text is never made of numbers, so that no caption is "nan"; what a filter compares may be integers.

    Raises:
        ValueError: a column has another type.
    """
    for column, wanted in columns(source).items():
        kind, key = there.field(column).type, parameter_key(source, column)
        allowed = NUMBERS + TEXTS if pa.types.is_floating(wanted) else TEXTS
        allowed += INTEGERS if key.startswith("source.filters") else ()
        if not any(test(kind.value_type if pa.types.is_dictionary(kind) else kind) for test in allowed):
            raise ValueError(
                f"{where}: column '{column}' is {kind}, not {'numbers' if NUMBERS[0] in allowed else 'text'}; name "
                f"another in {key}, or write it anew"
            )


def readable(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Convert text, bytes, or what a filter compares, to strings: null where it is no UTF-8, or has a NUL in it."""
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
        if column in (source.url_column, source.caption_column):
            lost = pc.or_(lost, pc.and_(pc.is_null(found[column]), pc.is_valid(batch[column])))
    found[source.url_column] = pc.if_else(lost, UNREADABLE, found[source.url_column])
    return pa.table(found)
