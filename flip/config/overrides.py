"""Read what `snakemake --config` names: scale, variant, reports, what to look at again; a word that nothing reads, or
one given twice, is refused."""

from pathlib import Path

from flip.config.faults import ParameterError, must_know
from flip.config.resolve import Project, read_project

KEYS = ("scale", "variant", "reports", "look")
SOURCES = "sources"  # of `look`: compare tars elsewhere with what was listed of them


def given(words: list[str]) -> list[str]:
    """Return the KEY=VALUE words after --config on a command line."""
    found, inside = [], False
    for word in words:
        name, _, rest = word.partition("=")
        if word.startswith("-"):
            attached = word[2:] if word.startswith("-C") else rest
            inside = name == "--config" or word.startswith("-C")
            found += [attached] if inside and attached else []
        elif inside:
            found.append(word)
    return found


def must_be_named_once(config: dict, words: list[str]) -> None:
    """Raise ParameterError where a key is on the command line twice, of which Snakemake takes the last, or after a
    --config that is not the last, which Snakemake forgets."""
    keys = [word.partition("=")[0] for word in given(words)]
    for key in dict.fromkeys(keys):
        if keys.count(key) > 1:
            raise ParameterError(f"--config {key}=... is there {keys.count(key)} times; leave one")
        if key not in config:
            raise ParameterError(f"--config {key}=... is lost, as another --config follows; name all after one")


def must_be_read(config: dict, words: list[str]) -> None:
    """Raise ParameterError where a target that reads a key is not on the command line, so that it would choose nothing
    and all be made."""
    for key, target in {"variant": "variant", "reports": "report"}.items():
        if key in config and words and not {target, "sweep"} & set(words):
            raise ParameterError(
                f"--config {key}={config[key]} is read by `snakemake {target}` and `snakemake sweep` alone; name one"
            )


def must_be_of_scale(project: Project, words: list[str]) -> None:
    """Raise ParameterError where a target is a report of other scales."""
    for name in (one for one in words if one in project.tree["reports"] and one not in project.reports):
        raise ParameterError(
            f"report '{name}' is of other scales than '{project.scale}'; name one by --config scale=..."
        )


def must_be_names(config: dict) -> None:
    """Raise ParameterError for an unknown key, or a value that names nothing."""
    must_know(config, KEYS, "key", "--config")
    for key, value in config.items():
        if not isinstance(value, str) or not value.strip():
            shown = "" if value is None else value
            raise ParameterError(f"--config {key}={shown}: no name; write {key}=NAME, or leave {key} out")


def chosen_variants(config: dict, project: Project) -> list[str]:
    """Return the variants that `--config variant=flip-50` names; without it, all that the scale can train.

    Raises:
        ParameterError: params.yaml has no such variant.
    """
    names = (
        [config["variant"]]
        if "variant" in config
        else [name for name in project.variants if name not in project.lacking]
    )
    must_know(names, project.variants, "variant", f"--config variant={config.get('variant')}")
    return names


def chosen_reports(config: dict, project: Project) -> list[str]:
    """Return the reports that `--config reports=ablations,systems` names; without it, all that the scale can make.

    Raises:
        ParameterError: params.yaml has no such report, or one is named twice.
    """
    asked = config.get("reports", " ".join(name for name in project.reports if name not in project.left_out))
    names, where = asked.replace(",", " ").split(), f"--config reports={asked}"
    must_know(names, project.reports, "report", where)
    if not names or len(set(names)) < len(names):
        raise ParameterError(f"{where}: names no report, or one twice; write each once, as reports=ablations,systems")
    if lacking := [name for name in names if name in project.left_out]:
        raise ParameterError(
            f"{where}: {lacking[0]} cannot be made at scale '{project.scale}': {project.left_out[lacking[0]]}"
        )
    return names


def configured(path: str | Path, config: dict, words: list[str]) -> Project:
    """Return params.yaml, checked, at the scale that `config` names; `words` are those of Snakemake's command line.

    Raises:
        ParameterError: what is wrong with either.
    """
    must_be_names(config)
    must_know(config.get("look", SOURCES).split(), [SOURCES], "word", "--config look")
    must_be_named_once(config, words)
    must_be_read(config, words)
    project = read_project(path, config.get("scale")).check()
    must_be_of_scale(project, words)
    chosen_variants(config, project)
    chosen_reports(config, project)
    return project
