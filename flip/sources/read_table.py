"""Read the tables of a source, parquet, TSV, CSV or JSON lines, in batches of the columns that it names."""

import csv
import glob
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from flip.config.schema import Params, Source
from flip.sources.columns import columns, convert, require_columns, require_types

BATCH = 65_536
TEXT_FILES = (".tsv", ".tsv.gz", ".csv")
UNKNOWN = "source.table: {} is of no known kind; allowed: .parquet, " + ", ".join((*TEXT_FILES, ".jsonl"))

Batches = Iterator[pa.Table]
Reader = Callable[[Params], Batches]


@contextmanager
def naming(path: str) -> Iterator[None]:
    """Name the file in what its readers raise, and a folder, which some write as a table. Raises ValueError."""
    if not Path(path).is_file():  # to open a pipe is to wait for ever
        raise ValueError(f"{path}: no file; of a folder, name the files in it, as {path}/*{Path(path).suffix}")
    try:
        yield
    except (pa.ArrowException, csv.Error, EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())}; mend it, or leave it out") from None


def parquet_batches(source: Source, path: str) -> Batches:
    """Yield batches of a parquet file.

    Raises:
        ValueError: a column is missing, or of another type.
    """
    wanted = columns(source)
    with pq.ParquetFile(path) as file:
        require_columns(source, path, file.schema_arrow.names)
        require_types(source, path, file.schema_arrow)
        # Group by group: a reader of the whole file keeps what it has read until the end (pyarrow 26).
        for group in range(file.num_row_groups):
            for batch in file.iter_batches(BATCH, row_groups=[group], columns=list(wanted)):
                yield convert(pa.Table.from_batches([batch]), source, path)


def header(source: Source, path: str, first: list[str]) -> list[str] | None:
    """Return column names for a file that has none in its first line; None if it has.

    CC12M's columns are URL, caption and CC3M's are caption, URL; the first line shows which.

    Raises:
        ValueError: a column is missing.
    """
    urls = [position for position, text in enumerate(first) if text.startswith(("http://", "https://"))]
    if len(first) == 2 and len(urls) == 1:
        names = [source.caption_column] * 2
        names[urls[0]] = source.url_column
        require_columns(source, path, names)
        return names
    require_columns(source, path, first)
    return None


def json_batches(source: Source, path: str) -> Batches:
    """Yield batches of a .jsonl file, an object in each line.

    Raises:
        ValueError: a key is missing, or a line cannot be read.
    """
    try:
        with pa.json.open_json(path) as reader:
            require_columns(source, path, reader.schema.names)
            require_types(source, path, reader.schema)
            for batch in reader:
                yield convert(pa.Table.from_batches([batch]), source, path)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path}: {error}; mend or remove the line") from None


def first_line(path: str) -> tuple[list[str], str]:
    """Return the fields of the first line of a .tsv, .tsv.gz or .csv file, and what separates them."""
    quoted = ".csv" in Path(path).suffixes
    with pa.input_stream(path) as file:
        beginning = io.StringIO(file.read(1 << 20).decode("utf-8-sig", errors="replace"), newline="")
    line = beginning.readline().rstrip("\r\n")
    delimiter = "," if quoted and "\t" not in line else "\t"
    beginning.seek(0)
    return next(csv.reader(beginning, delimiter=delimiter), []) if quoted else line.split("\t"), delimiter


def look_at(source: Source, path: str) -> None:
    """Check the columns of a file by its header, or its first line.

    Raises:
        ValueError: unknown file type; it cannot be read; a column is missing, there twice, or of another type.
    """
    with naming(path):
        if path.endswith(TEXT_FILES):
            header(source, path, first_line(path)[0])
            return
        if path.endswith(".parquet"):
            schema = pq.read_schema(path)
        elif path.endswith(".jsonl"):
            with pa.json.open_json(path) as reader:  # which reads its first block
                schema = reader.schema
        else:
            raise ValueError(UNKNOWN.format(path))
    require_columns(source, path, schema.names)
    require_types(source, path, schema)


def text_batches(source: Source, path: str) -> Batches:
    """Yield batches of a .tsv, .tsv.gz or .csv file; a .csv may have tabs in place of commas, as open_clip's have.

    Raises:
        ValueError: a column is missing, or a line cannot be read.
    """
    quoted = ".csv" in Path(path).suffixes
    first, delimiter = first_line(path)
    names = header(source, path, first)
    # Text is read as bytes, so that one row that is no UTF-8 does not end the file.
    types = {name: pa.binary() if kind == pa.string() else kind for name, kind in columns(source).items()}
    parse = pa.csv.ParseOptions(delimiter=delimiter, quote_char='"' if quoted else False, newlines_in_values=quoted)
    how = pa.csv.ConvertOptions(
        column_types=types, include_columns=list(types), null_values=[""], strings_can_be_null=True
    )
    with pa.csv.open_csv(path, pa.csv.ReadOptions(column_names=names), parse, how) as reader:
        for batch in reader:
            yield convert(pa.Table.from_batches([batch]), source, path)


def files_batches(params: Params) -> Batches:
    """Yield the files' tables of the source's columns, in order.

    Raises:
        ValueError: no such file, unknown file type, a missing column.
    """
    source = params.source
    paths = sorted(glob.glob(source.place, recursive=True))
    if not paths:
        raise ValueError(f"source.table '{source.table}': no such file; set it to 'world' or to files that exist")
    for path in paths:
        with naming(path):
            yield from file_batches(source, path)


def file_batches(source: Source, path: str) -> Batches:
    """Return the batches of a file, by its extension.

    Raises:
        ValueError: unknown file type.
    """
    if path.endswith(".parquet"):
        return parquet_batches(source, path)
    if path.endswith(TEXT_FILES):
        return text_batches(source, path)
    if path.endswith(".jsonl"):
        return json_batches(source, path)
    raise ValueError(UNKNOWN.format(path))
