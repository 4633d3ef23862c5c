"""Draw the initial weights of a model by the scheme that `form.initialization` names.

`xavier` is that of MAE, FLIP and M3AE. The others are those of released code, as the papers do not tell them: OpenAI's
CLIP; big_vision's SigLIP; FLAVA in transformers and torchmultimodal, which agree on the encoders. All begin with
`initialize`, so that it holds for what a scheme says nothing of.
"""

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from torch import nn

from flip.model.embedding import Bottleneck
from flip.model.transformer import Block, initialize
from flip.model.vision import AttentionPooling

if TYPE_CHECKING:
    from flip.model.two_towers import TwoTowers

FLAVA_STD, FLAVA_WIDTH = 0.02, 768
SIGLIP_BIAS_STD = 1e-6
# Standard deviation of a unit normal that is cut at two of them: variance scaling, as JAX has it, divides by it.
CUT = 0.87962566103423978


def _clip(model: "TwoTowers") -> None:
    """Draw as OpenAI's CLIP: the text tower's matrices by its width and depth; the image tower's blocks as PyTorch
    does."""
    if model.vision is not None:
        model.vision.embed.reset_parameters()
        for block in _blocks(model.vision):
            _as_pytorch(block)
    if model.text is not None:
        for block in (blocks := list(_blocks(model.text))):
            _as_pytorch(block)
            width = block.attention.out.in_features
            into_residual = (2 * width * len(blocks)) ** -0.5
            nn.init.normal_(block.attention.qkv.weight, std=width**-0.5)
            nn.init.normal_(block.attention.out.weight, std=into_residual)
            first, last = _layers(block.mlp)
            nn.init.normal_(first.weight, std=(2 * width) ** -0.5)
            nn.init.normal_(last.weight, std=into_residual)
        nn.init.normal_(model.text.positions.weight, std=0.01)
    for projection in _projections(model):
        nn.init.normal_(projection.weight, std=projection.in_features**-0.5)


def _as_pytorch(block: Block) -> None:
    """Draw what nn.MultiheadAttention and nn.Linear do: uniform with a variance of 1 / (3 x inputs), q, k and v as one
    Xavier-uniform matrix; attention has no biases at the start."""
    for linear in (block.attention.out, *_layers(block.mlp)):
        linear.reset_parameters()
    nn.init.zeros_(block.attention.out.bias)


def _siglip(model: "TwoTowers") -> None:
    """Draw as big_vision: q, k and v each by itself, embeddings and positions with a variance of 1 / width, what comes
    first and last LeCun-normal."""
    for block in (block for tower in (model.vision, model.text) if tower is not None for block in _blocks(tower)):
        _xavier_each(block.attention.qkv, 3)
        _small_biases(block.mlp)
    if model.vision is not None:
        _lecun_normal(model.vision.embed)
        if (pooling := model.vision.attention_pooling) is not None:
            _pooling(pooling)
    if model.text is not None:
        std = model.text.positions.embedding_dim**-0.5
        nn.init.normal_(model.text.positions.weight, std=std)
        if isinstance(model.text.embed, Bottleneck):
            model.text.embed.initialize(std)
        elif isinstance(model.text.embed, nn.Embedding):
            nn.init.normal_(model.text.embed.weight, std=std)
    for projection in _projections(model):
        _lecun_normal(projection)


def _pooling(pooling: AttentionPooling) -> None:
    """Draw SigLIP's attention pooling; its query is Xavier-uniform as a matrix [1, width]."""
    _xavier_each(pooling.keys_values, 2)
    _small_biases(pooling.mlp)
    nn.init.xavier_uniform_(pooling.probe.data[None])


def _flava(model: "TwoTowers") -> None:
    """Draw as FLAVA at its width of 768: N(0, 0.02) matrices and embeddings; class tokens, mask vectors and image
    positions begin at 0.

    At another width, matrices are as much wider as keeps the variance of what they give. With 0.02 there, the blocks of
    a narrow tower add next to nothing to the start token, and all captions have one feature.
    """
    for part, width in _widths(model):
        for module in part.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=FLAVA_STD * (FLAVA_WIDTH / width) ** 0.5)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=FLAVA_STD)
    for name, parameter in model.named_parameters():
        if name.endswith(("class_token", "patch_mask", "word_mask", "vision.positions")):
            nn.init.zeros_(parameter)


def _widths(model: "TwoTowers") -> Iterator[tuple[nn.Module, int]]:
    """Yield the parts of a model, each with the width of its encoder; the objectives' with the multimodal one's."""
    sizes = model.params.model
    for side, tower, width in (("image", model.vision, sizes.vision.width), ("text", model.text, sizes.text.width)):
        if tower is not None:
            yield tower, width
        if projection := getattr(model, f"{side}_projection", None):
            yield projection, width
    yield model.passes, model.params.flava.multimodal.width


def _layers(mlp: nn.Sequential) -> list[nn.Linear]:
    """List the linear layers of an MLP, the first and the last."""
    return [one for one in mlp if isinstance(one, nn.Linear)]


def _blocks(tower: nn.Module) -> Iterator[Block]:
    yield from tower.transformer.blocks  # type: ignore[union-attr, misc]


def _projections(model: "TwoTowers") -> list[nn.Linear]:
    """List the projections into the common space, where there are any."""
    found = [getattr(model, f"{side}_projection", None) for side in ("image", "text")]
    return [one for one in found if isinstance(one, nn.Linear)]


def _xavier_each(linear: nn.Linear, parts: int) -> None:
    """Draw a matrix of several equal ones, each Xavier-uniform by itself."""
    for part in linear.weight.data.chunk(parts):
        nn.init.xavier_uniform_(part)


def _small_biases(mlp: nn.Sequential) -> None:
    for linear in _layers(mlp):
        nn.init.normal_(linear.bias, std=SIGLIP_BIAS_STD)


def _lecun_normal(linear: nn.Linear) -> None:
    """Draw a normal with a variance of 1 / inputs, cut at two of its own deviations, by its quantiles: PyTorch's
    `trunc_normal_` rejects, and so reads values, which a plan's tensors do not have."""
    std, within = linear.in_features**-0.5 / CUT, math.erf(math.sqrt(2))
    linear.weight.data.uniform_(-within, within).erfinv_().mul_(math.sqrt(2) * std)


SCHEMES: dict[str, Callable[["TwoTowers"], None]] = {
    "xavier": lambda model: None,
    "clip": _clip,
    "siglip": _siglip,
    "flava": _flava,
}


def initialize_model(model: "TwoTowers") -> None:
    """Draw all weights of a model by the scheme of its parameters, from PyTorch's global random state."""
    model.apply(initialize)
    SCHEMES[model.params.form.initialization](model)
