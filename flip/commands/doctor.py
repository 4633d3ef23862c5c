"""The command `flip doctor`."""

from pathlib import Path

from flip.commands.options import Params, Scale


def doctor(scale: Scale = None, params: Params = Path("params.yaml")) -> None:
    """Look at what a scale reads from elsewhere, before any job.

    That is its source's files and its test sets. Headers and first lines alone are read. It ends with 1 if anything is
    wrong.
    """
    from flip.config.resolve import read_project
    from flip.plan.doctor import faults, told

    project = read_project(params, scale).check()
    if found := faults(project):
        raise ValueError(told(project.scale, found))
    print(f"Scale '{project.scale}': its source and its test sets can be read; reports: {', '.join(project.reports)}")
    for name, reason in project.left_out.items():
        print(f"Left out: report '{name}', as of {reason}")
