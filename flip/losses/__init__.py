"""Find the objectives that parameters ask for, build the model with what they train, and compute their losses.

The registry is the parameters' own list of sections (flip.config.objectives): each stands for the file of its
name here, which is imported where one of its weights is above 0.
"""

from functools import partial

from torch import Tensor

from flip.config.objectives.section import defined_in
from flip.config.schema import Params
from flip.data.views import ViewSet
from flip.losses.objective import Batch, Objective, Scope, Setting
from flip.model.head import Head
from flip.model.two_towers import TwoTowers

__all__ = [
    "Objective",
    "Scope",
    "Setting",
    "build_heads",
    "build_towers",
    "named_losses",
    "objectives",
    "readers",
    "views_of",
    "wanted",
]


def wanted(params: Params) -> dict[str, type[Objective]]:
    """Map the sections with a weight above 0 to their objectives, in the order of the sections."""
    return {name: defined_in(f"{__name__}.{name}", Objective) for name in params.objectives}


def objectives(setting: Setting) -> list[Objective]:
    """Prepare the objectives of a run, over the global batch of its processes."""
    return [one(setting) for one in wanted(setting.params).values()]


def build_towers(params: Params, vocabulary: int) -> TwoTowers:
    """Build the two towers, with what the objectives train beside them."""
    return TwoTowers(params, vocabulary, partial(build_heads, params, vocabulary))


def build_heads(params: Params, vocabulary: int) -> dict[str, Head]:
    """Build what the objectives train beside the towers, by section."""
    found = {}
    for name, one in wanted(params).items():
        if (module := one.module(params, vocabulary)) is not None:
            everywhere, tokens = one.scope is Scope.GLOBAL_BATCH, one.reads_tokens(params)
            found[name] = Head(module, one.reads(params), everywhere, one.reads_patches, tokens)
    return found


def views_of(params: Params) -> ViewSet | None:
    """Say which further views of each image are read, if any."""
    return next(filter(None, (one.views(params) for one in wanted(params).values())), None)


def readers(chosen: list[Objective], params: Params, batch_type: str) -> list[Objective]:
    """Pick the objectives that read batches of a type."""
    return [one for one in chosen if batch_type in one.reads(params)]


def named_losses(chosen: list[Objective], batch: Batch, outputs: dict[str, Tensor], share: float = 1.0) -> dict:
    """Compute all losses, scalars by name, as parts of those of the global batch, which `batch` is a `share` of."""
    named: dict[str, Tensor] = {}
    for objective in chosen:
        losses = objective(batch, outputs)
        if objective.scope is Scope.SAMPLE:
            losses = {name: share * loss for name, loss in losses.items()}
        named |= losses
    return named
