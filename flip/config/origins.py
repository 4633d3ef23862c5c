"""Say where in params.yaml the value of a parameter comes from: which places state it, and which of them counts."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from flip.config.chosen import CHOSEN, SWEEPS, TIMES
from flip.config.faults import ParameterError
from flip.config.frozen import merge
from flip.config.imported import IMPORTED
from flip.config.resolve import Project
from flip.config.schema import Params, is_folder
from flip.config.sections.types import Section
from flip.config.strict_yaml import read_mapping

Keys = tuple[str, ...]


@dataclass(frozen=True)
class Stated:
    """Hold a value that a place states; what comes later counts."""

    place: str
    value: Any


@dataclass(frozen=True)
class Parameter:
    """Hold a parameter of a variant: its dotted key, value and meaning, and who states it; the last one counts."""

    key: str
    value: Any
    meaning: str
    stated: list[Stated] = field(default_factory=list)

    @property
    def place(self) -> str:
        """Return the place whose value counts."""
        return self.stated[-1].place


def leaves(tree: Any, above: Keys = ()) -> Iterator[tuple[Keys, Any]]:
    """Yield the keys and the value of all that is no mapping, or an empty one."""
    if not isinstance(tree, dict) or not tree:
        yield above, tree
        return
    for key, value in tree.items():
        yield from leaves(value, (*above, key))


def likes(entries: dict, name: str) -> list[str]:
    """Return an entry's name, after that of the one that it is like, and so on."""
    other = (entries[name] or {}).get("like")
    return [*(likes(entries, other) if other else []), name]


class Layers:
    """Hold what params.yaml states for a variant, place by place, in the order in which it is merged; `tree` is the
    file's content, in which no `like` is written out."""

    def __init__(self, project: Project, file: Path, tree: dict, variant: str):
        self.file, self.tree, self.variant, self.project = file, tree, variant, project
        self.params = project.resolve(variant)
        scales = [(f"scales.{name}", self.tree["scales"][name]) for name in likes(self.tree["scales"], project.scale)]
        plain = [("base", self.tree["base"]), *scales]
        tuning = [(f"{place}.tuning", (tree or {}).get("tuning")) for place, tree in plain]
        stages = self._stages(variant, [(f"{file.name}, {place}", tree or {}) for place, tree in tuning])
        stated = [(f"{file.name}, {place}", tree or {}) for place, tree in plain]
        fitted = [(f"{file.name}, {place}", tree) for place, tree in self._to_fit(scales)]
        self.places = [*stated, *stages, *fitted]
        self.larger = merge(project.tree["base"], project.tree["scales"][project.scale] or {}).get("larger")

    def _stages(self, name: str, tuning: list[tuple[str, dict]]) -> list[tuple[str, dict]]:
        """Return what is stated of a variant, after what is of those that it builds on."""
        own = [
            (f"{self.file.name}, variants.{one}", self.tree["variants"][one] or {})
            for one in likes(self.tree["variants"], name)
        ]
        start = (self.project.tree["variants"][name] or {}).get("start")
        if start is None:
            return own
        if is_folder(start):
            return [(f"{start}/params.yaml", self.project.tree[IMPORTED][start]), *tuning, *own]
        return [*self._stages(start, tuning), *tuning, *own]

    def _to_fit(self, scales: list[tuple[str, dict]]) -> Iterator[tuple[str, dict]]:
        """Yield by which keys of `train` scales say that the variant takes less memory."""
        for place, tree in scales:
            if keys := ((tree or {}).get("to_fit") or {}).get(self.variant):
                yield f"{place}.to_fit.{self.variant}", {"train": keys}

    def _at(self, place: str, tree: dict, keys: Keys) -> Iterator[Stated]:
        """Yield what a place states for a key, if anything; the size of a model by the model's name."""
        value: Any = tree
        for number, key in enumerate(keys):
            if not isinstance(value, dict) or key not in value:
                return
            value = value[key]
            if keys[: number + 1] == ("model",) and isinstance(value, str):
                name = self.larger if value == "larger" else value
                place, value = f"{place}, models.{name}", self.tree["models"][name]
        yield Stated(place, value)

    def _computed(self, key: str, value: Any) -> Stated:
        """Return what gives a value that params.yaml does not: a resolution, a sweep, a schedule of equal time, or a
        default."""
        resolutions = [one for place, tree in self.places for one in self._at(place, tree, ("resolution",))]
        if key == "model.image" and resolutions:
            return Stated(f"{resolutions[-1].place}, resolution {resolutions[-1].value:g}", value)
        folder = self.file.parent / CHOSEN / self.project.scale
        if key in self.project.choices.get(self.variant, {}).get("values", {}):
            return Stated(str(folder / SWEEPS / f"{self.variant}.json"), value)
        timed = self.variant in self.project.times and key.startswith("train.")
        return Stated(str(folder / TIMES / f"{self.variant}.json") if timed else "default of flip/config", value)

    def parameter(self, keys: Keys, value: Any) -> Parameter:
        """Return a parameter with all who state it."""
        key = ".".join(keys)
        stated = [one for place, tree in self.places for one in self._at(place, tree, keys)]
        if not stated or stated[-1].value != value:
            stated.append(self._computed(key, value))
        return Parameter(key, value, meaning(keys), stated)


def below(annotation: Any) -> type[Section] | None:
    """Return the section that a field holds, if it holds one."""
    for one in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(one, type) and issubclass(one, Section):
            return one
    return None


def meaning(keys: Keys) -> str:
    """Return what the schema says of a parameter, or else of the section that it is in; nothing where it says
    nothing."""
    section: type[Section] | None = Params
    said: list[str] = []
    for key in keys:
        known: FieldInfo | None = section.model_fields.get(key) if section else None
        said += [known.description] if known and known.description else []
        section = below(known.annotation) if known else None
    return said[-1] if said else ""


def explain(project: Project, path: str | Path, variant: str, key: str) -> list[Parameter]:
    """Return the parameters of a variant whose dotted key is `key`, or lies below it.

    Raises:
        ParameterError: there is none, or the variant's parameters are wrong.
    """
    layers = Layers(project, Path(path), read_mapping(path), variant)
    every = dict(leaves(layers.params.model_dump(mode="json", exclude={"scale", "variant"})))
    found = [keys for keys in every if f"{'.'.join(keys)}.".startswith(f"{key}.")]
    if not found:
        close = get_close_matches(key, [".".join(keys) for keys in every], n=1)
        hint = f"did you mean '{close[0]}'? " if close else ""
        raise ParameterError(f"unknown parameter '{key}'; {hint}sections: {', '.join({keys[0]: 0 for keys in every})}")
    return [layers.parameter(keys, every[keys]) for keys in found]


def own(path: str | Path) -> dict[str, dict]:
    """Return what params.yaml states for each variant, in which no `like` is written out."""
    return {name: one or {} for name, one in read_mapping(path)["variants"].items()}
