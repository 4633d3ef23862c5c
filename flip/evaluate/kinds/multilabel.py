"""Measure labels as classes: by prompts and a probe per label."""

from flip.evaluate.kinds.classification import measure

__all__ = ["measure"]
