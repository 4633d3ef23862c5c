"""Which metrics a test set of each kind has: what follows its name. Imports no torch, as every dry run asks."""

import difflib
from pathlib import Path

from flip import public
from flip.metrics import JAVA, TRANSFERS, TUNED, set_of

RECALLS = (1, 5, 10)
# How the world's wrong captions differ from the right ones, and what its questions ask for.
PAIRS = ("replace-object", "replace-attribute", "replace-relation", "swap-attribute", "swap-relation")
QUESTIONS = ("colour", "shape", "count", "place", "relation")
SCORES = ("cider", "bleu4", *JAVA)  # of captions

# Sets of the world, and their kinds.
WORLD = dict.fromkeys(("fine", "coarse"), "classification") | {"retrieval": "retrieval"}
WORLD |= dict.fromkeys(("sketch", "rendition", "corruption", "viewpoint"), "classification")
WORLD |= {kind: kind for kind in ("pointing", "entailment", "composition")}

CLASSES = ("", "-probe", TUNED)
MASKED = ("-masked", "-ensemble")  # of fine alone
CAPTIONED = tuple(f"-{score}" for score in SCORES)
ENDINGS = {
    "classification": CLASSES,
    "multilabel": CLASSES,
    "retrieval": tuple(f"-{side}-r{k}" for side in ("image", "text") for k in RECALLS),
    "pointing": ("",),
    "entailment": ("-image", "-text"),
    "composition": tuple(f"-{pair}" for pair in PAIRS),
    "caption": CAPTIONED,
    "nocaps": CAPTIONED,
    "vqa": ("", *(f"-{kind}" for kind in QUESTIONS)),
}
# The kinds of sets, as dataset_type.txt says them.
KINDS = tuple(ENDINGS.keys() - set(TRANSFERS))


def kind_of(role: str, place: str | None) -> str | None:
    """What a set is for; None where nobody can tell yet."""
    if role in TRANSFERS:
        return role
    if role.startswith("retrieval-"):  # captions in another language
        return "retrieval"
    if place in ("world", None):
        return WORLD.get(role)
    if known := public.at(place):
        return known.task
    return kind_of_folder(Path(place))


def kind_of_folder(folder: Path) -> str | None:
    """The same of a folder, if it is there."""
    from flip.data.boxes import kind  # here, as most scales have no folder, and this takes as long as all the rest

    return kind(folder) if folder.is_dir() else None


def endings(role: str, place: str | None) -> tuple[str, ...]:
    """What may follow the role in a metric's name."""
    kind = kind_of(role, place)
    if kind == "vqa" and place not in ("world", None):
        return ("",)  # the questions of folders are of no kind
    found = ENDINGS.get(kind) or tuple(dict.fromkeys(one for name in KINDS for one in ENDINGS[name]))
    return (*found, *MASKED) if role == "fine" else found


def is_open(ending: str, role: str, place: str | None) -> bool:
    """Whether the set itself, a folder, may say that it has such a metric: a kind of pair, a domain of images."""
    kind = kind_of(role, place)
    if place == "world" or len(ending) < 2:
        return False
    return kind in ("composition", None) or (kind in ("caption", "nocaps") and ending.endswith(CAPTIONED))


def fault(metric: str, places: dict[str, str | None]) -> str | None:
    """Why there is no such metric, given the places of a scale's sets; None if there is."""
    try:
        role = set_of(metric, places)
    except ValueError as error:
        return f"{error}{_meant(metric, places)}"
    place, ending = places[role], metric.removeprefix(role)
    if ending in (known := endings(role, place)) or is_open(ending, role, place):
        return None
    allowed = ", ".join(role + one for one in known)
    return f"metric '{metric}': {role} has no such one{_meant(metric, places)}; known: {allowed}"


def _meant(metric: str, places: dict[str, str | None]) -> str:
    known = [role + ending for role, place in places.items() for ending in endings(role, place)]
    close = difflib.get_close_matches(metric, known, n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


def same_name(places: dict[str, str | None]) -> tuple[str, str] | None:
    """Two sets of which one has the name of a metric of the other, or begins with it."""
    for role, place in places.items():
        for ending in filter(None, endings(role, place)):
            for other in places:
                if other != role and f"{role}{ending}-".startswith(f"{other}-") and len(other) > len(role):
                    return role, other
    return None
