"""Run the command `flip` from where it is not installed: python -m flip."""

from flip.commands import main

if __name__ == "__main__":
    main()
