"""Name the libraries that models are written for and read from, without loading any of them."""

from enum import StrEnum


class Library(StrEnum):
    """Name a library; flip/export/<name>_models.py has the classes of its models."""

    open_clip = "open_clip"
    transformers = "transformers"
    timm = "timm"


class Format(StrEnum):
    """Name what a model is written for: a library, or torch itself, whose programs are not read back into variants."""

    open_clip = "open_clip"
    transformers = "transformers"
    timm = "timm"
    torch = "torch"
