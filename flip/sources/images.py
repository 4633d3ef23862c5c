"""Bring together the rows of a table that are about one image: each has a caption of it."""

import pyarrow as pa
import pyarrow.compute as pc

from flip.formats.texts import merged

MORE = "one more caption of an image"  # a row, whose caption stays with its image


def by_image(rows: pa.Table) -> pa.Table:
    """Return a row per URL, in the order of their first rows, which keep their number, with all captions in one text
    (flip.formats.texts); `rows` is how many there were."""
    rows = rows.set_column(rows.column_names.index("caption"), "caption", pc.fill_null(rows["caption"], ""))
    first = [name for name in rows.column_names if name not in ("url", "caption", "row")]
    wanted = [("caption", "list"), ("row", "min"), ([], "count_all"), *((name, "first") for name in first)]
    # Where hashes of URLs collide, groups are not in the order of their first rows.
    found = rows.group_by("url", use_threads=False).aggregate(wanted).sort_by("row_min")
    captions = [merged(some) if len(some) > 1 else some[0] for some in found["caption_list"].to_pylist()]
    columns = {"url": found["url"], "caption": pa.array(captions, pa.string()), "row": found["row_min"]}
    columns |= {name: found[f"{name}_first"] for name in first}
    return pa.table(columns).select(rows.column_names).append_column("rows", found["count_all"])
