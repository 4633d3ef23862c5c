"""Print the parameters of a variant, fully resolved: python -m flip.config show --scale tiny --variant flip-50"""

import argparse

from flip.config.faults import ParameterError
from flip.config.frozen import dump
from flip.config.resolve import read_project


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m flip.config", description=__doc__)
    parser.add_argument("command", choices=["show"], help="print a variant's parameters")
    parser.add_argument("--params", default="params.yaml", help="default: params.yaml")
    parser.add_argument("--scale", help="default: the scale that params.yaml names")
    parser.add_argument("--variant", required=True)
    options = parser.parse_args(argv)
    try:
        print(dump(read_project(options.params, options.scale).resolve(options.variant)), end="")
    except (ParameterError, OSError) as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
