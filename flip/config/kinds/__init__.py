"""Find the kinds of test sets: each file of this folder but `kind` declares one, as KIND."""

from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from flip.config.kinds.kind import Kind
from flip.formats import layout

_names = [one.name for one in iter_modules(__path__) if one.name != "kind"]
_found = [import_module(f"{__name__}.{name}").KIND for name in _names]
KINDS: dict[str, Kind] = {kind.name: kind for kind in _found if not kind.learned}  # by what dataset_type.txt says
LEARNED: dict[str, Kind] = {kind.name: kind for kind in _found if kind.learned}  # by task


def of_folder(folder: str | Path) -> Kind:
    """Return what the set in a folder is for; classification unless its dataset_type.txt says otherwise.

    Raises:
        ValueError: it says what is not a kind of test set.
    """
    found = layout.stated_kind(folder)
    if found not in KINDS:
        raise ValueError(
            f"{Path(folder) / layout.KIND}: '{found}' is not a kind of test set; allowed: {', '.join(KINDS)}"
        )
    return KINDS[found]
