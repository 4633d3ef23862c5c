"""Build the vision tower: a ViT in the form of FLIP, CLIP or SigLIP.

FLIP's (section 3) has no extra LayerNorm, fixed 2-D sine-cosine positions and average pooling; CLIP's a class token, an
extra LayerNorm and learned positions; SigLIP's attention pooling and learned positions.

Max pooling is CLIPpy's (Ranasinghe et al. 2022, arXiv 2210.09996): the largest value of each channel over the patches.
MAE-CLIP (Weers et al. 2023, arXiv 2301.07836) compares class token, MAP, GAP (the mean) and MAX, which it calls
non-maximum suppression; that its MAX is this operator was not checked against the paper.

FLIP's released code also averages a class token in; the paper speaks of global average pooling alone, so there is none.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flip.config.schema import Blocks, Model, Tower, VisionForm
from flip.model.transformer import Transformer, mlp


def statistics(form: VisionForm) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation, float64 [3] each, that bytes (0 to 255) are normalised by."""
    return 255 * torch.tensor(form.mean, dtype=torch.float64), 255 * torch.tensor(form.std, dtype=torch.float64)


def sincos_line(width: int, count: int) -> Tensor:
    """Return fixed 1-D positions float64 [count, width]: half sines, half cosines (Vaswani et al. 2017, section
    3.5)."""
    frequencies = 10000.0 ** -(torch.arange(width // 2, dtype=torch.float64) / (width / 2))
    angles = torch.arange(count, dtype=torch.float64)[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def sincos_positions(width: int, grid: int) -> Tensor:
    """Return fixed 2-D positions float32 [grid^2, width], row by row (MAE, appendix): half for the row, half for the
    column."""
    one = sincos_line(width // 2, grid)
    rows = one.repeat_interleave(grid, dim=0)
    columns = one.repeat(grid, 1)
    return torch.cat([rows, columns], dim=1).float()


def resample_positions(positions: Tensor, grid: int) -> Tensor:
    """Interpolate positions [old grid^2, width] to [grid^2, width]: bicubic, antialiased, as timm does."""
    old = math.isqrt(len(positions))
    if old == grid:
        return positions
    square = positions.float().T.unflatten(1, (old, old))[None]
    found = F.interpolate(square, size=(grid, grid), mode="bicubic", antialias=True)
    return found[0].flatten(1).T.contiguous().to(positions.dtype)


def fixed_positions(width: int, model: Model) -> Tensor:
    """Return fixed 2-D positions float32 [patches, width] of images as large as the model's; where its first stage had
    others, those of that one, interpolated."""
    return resample_positions(sincos_positions(width, model.first_grid), model.grid)


def patchify(images: Tensor, patch: int) -> Tensor:
    """Split images [batch, height, width, 3] into patches [batch, patches, patch * patch * 3], row by row."""
    x = images.unflatten(2, (-1, patch)).unflatten(1, (-1, patch))  # [batch, rows, patch, columns, patch, 3]
    return x.transpose(2, 3).flatten(3).flatten(1, 2)


def unpatchify(patches: Tensor, patch: int) -> Tensor:
    """Join patches [batch, patches, patch * patch * 3] of square images into [batch, height, width, 3]: undo
    `patchify`."""
    grid = math.isqrt(patches.shape[1])
    x = patches.unflatten(2, (patch, patch, 3)).unflatten(1, (grid, grid))  # [batch, rows, columns, patch, patch, 3]
    return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def resampling(grid: int, other: int) -> Tensor:
    """Return the matrix, float32 [other^2, grid^2], that takes positions of a square grid of patches to another one:
    bicubic, antialiased interpolation, as timm's.

    As a product with a matrix, it has the same bits each time, and so have its gradients.
    """
    return resample_positions(torch.eye(grid**2), other)  # each position by itself


class AttentionPooling(nn.Module):
    """Pool by multi-head attention: one learned query attends to all tokens (SigLIP's MAP head; Zhai et al. 2022).

    It has as many heads as its tower, no residual around the attention, and no position embeddings.
    """

    def __init__(self, tower: Tower, form: Blocks):
        super().__init__()
        self.heads = tower.heads
        self.probe = nn.Parameter(torch.empty(tower.width))
        self.query = nn.Linear(tower.width, tower.width)
        self.keys_values = nn.Linear(tower.width, 2 * tower.width)
        self.out = nn.Linear(tower.width, tower.width)
        self.norm = nn.LayerNorm(tower.width, eps=form.norm_epsilon)
        self.mlp = mlp(tower.width, form.activation)
        nn.init.normal_(self.probe, std=tower.width**-0.5)

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """Pool [batch, slots, width] into [batch, width]; `bias`, [batch, 1, 1, slots], is added to attention's
        logits."""
        query = self.query(self.probe).unflatten(0, (self.heads, 1, -1)).expand(x.shape[0], -1, -1, -1)
        keys, values = self.keys_values(x).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        bias = None if bias is None else bias.to(query.dtype)
        pooled = F.scaled_dot_product_attention(query, keys, values, attn_mask=bias)
        x = self.out(pooled.flatten(1))  # one query: [batch, width]
        return x + self.mlp(self.norm(x))


class VisionEncoder(nn.Module):
    """Encode uint8 images as tokens of their patches, after a class token where the form has one."""

    mean: Tensor
    std: Tensor
    positions: Tensor

    def __init__(self, model: Model, form: VisionForm):
        super().__init__()
        self.patch, self.form = model.patch, form
        area, width = model.patch**2, model.vision.width
        self.embed = nn.Linear(3 * area, width, bias=form.patch_bias)
        self.pre_norm = nn.LayerNorm(width, eps=form.norm_epsilon) if form.pre_norm else None
        self.transformer = Transformer(model.vision, form)
        self.attention_pooling = AttentionPooling(model.vision, form) if form.pooling == "map" else None
        for name, value in zip(("mean", "std"), statistics(form), strict=True):
            self.register_buffer(name, value.float().repeat(area), persistent=False)
        self._build_tokens(width, model)

    def _build_tokens(self, width: int, model: Model) -> None:
        """Build positions and class token, which has no position: two learned vectors would only be added."""
        std = width**-0.5  # CLIP's and SigLIP's released code
        self.class_token = None
        if self.form.positions == "sincos":
            self.register_buffer("positions", fixed_positions(width, model), persistent=False)
        else:
            self.positions = nn.Parameter(std * torch.randn(model.patches, width))
        if self.form.pooling == "class":
            self.class_token = nn.Parameter(std * torch.randn(width))

    @property
    def first(self) -> int:
        """Count the tokens before those of patches."""
        return int(self.class_token is not None)

    def resize(self, grid: int) -> None:
        """Take images of another size from now on, of so many patches a side: positions are interpolated."""
        positions = resample_positions(self.positions.detach(), grid)
        self.positions = nn.Parameter(positions) if self.form.positions == "learned" else positions

    def normalize(self, patches: Tensor) -> Tensor:
        """Convert patches of uint8 pixels [..., patch * patch * 3] to floats of about unit variance, same shape."""
        return (patches - self.mean) / self.std

    def forward(self, images: Tensor, ids_keep: Tensor | None = None) -> Tensor:
        """Encode uint8 images [batch, height, width, 3] as tokens [batch, kept, width]: patches, after a class token.

        `ids_keep`, int64 [batch, kept], names the patches that are not masked; None: all.
        """
        return self.transformer(self.tokens(images, ids_keep))

    def feature(self, images: Tensor, ids_keep: Tensor | None = None, positions: Tensor | None = None) -> Tensor:
        """Encode each image as one vector [batch, width]: `pool` of `forward`, at less cost where tokens are not
        read, and with tokens merged where the form says so.

        `positions` [patches, width] are those of images of another size; None: the tower's own.
        """
        if self.merges:
            return self._merged_feature(images, ids_keep, positions)
        x = self.tokens(images, ids_keep, positions=positions)
        if self.class_token is None:
            return self.pool(self.transformer(x))
        return self.transformer(x, slot=torch.zeros(x.shape[0], dtype=torch.long, device=x.device))

    @property
    def merges(self) -> bool:
        """Tell whether blocks merge tokens now: in training, and at evaluation unless the form says otherwise."""
        return self.form.merged > 0 and (self.training or self.form.merges_at_evaluation)

    def _merged_feature(self, images: Tensor, ids_keep: Tensor | None, positions: Tensor | None) -> Tensor:
        """Encode each image as one vector, as `feature`, from tokens that count as often as the patches that they stand
        for."""
        tokens = self.tokens(images, ids_keep, positions=positions)
        each = int(self.form.merged * (tokens.shape[1] - self.first) / len(self.transformer.blocks))
        x = self.transformer.merge(tokens, each, self.first)
        if self.attention_pooling is not None:
            return self.attention_pooling(x.tokens, x.bias(x.tokens.dtype))
        if self.form.pooling == "mean":
            return (x.tokens * x.size[:, :, None]).sum(dim=1) / x.size.sum(dim=1, keepdim=True)
        return self.pool(x.tokens)

    @torch.no_grad()
    def attention_map(self, images: Tensor) -> Tensor:
        """Compute how much each patch is attended to by the class token, or without one by all patches: float32 [batch,
        patches], the mean over blocks and heads."""
        return self.transformer.attended(self.tokens(images), self.first or None)[:, self.first :]

    def pre_norm_states(self, images: Tensor, masked: Tensor, mask: Tensor | None) -> Tensor:
        """Encode all patches into states before the last LayerNorm [batch, slots, width].

        Patches that are `masked`, bool [batch, patches], are replaced by `mask` [width] and keep their positions.
        """
        return self.transformer.pre_norm_states(self.tokens(images, None, masked, mask))

    def tokens(
        self,
        images: Tensor,
        ids_keep: Tensor | None = None,
        masked: Tensor | None = None,
        mask: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """Compute the input of the blocks [batch, kept, width]: embedded patches, after a class token.

        Removed patches are dropped while they are still bytes: nothing is ever computed from them.
        """
        patches = patchify(images, self.patch)
        positions = self.positions if positions is None else positions
        if ids_keep is not None:
            # A patch is looked up as one; take_along_dim would look up each of its bytes.
            patches = patches[torch.arange(len(patches), device=patches.device)[:, None], ids_keep]
            positions = positions[ids_keep]
        x = self.embed(self.normalize(patches))
        if masked is not None and mask is not None:
            x = torch.where(masked[:, :, None], mask.to(x.dtype), x)
        x = x + positions
        if self.class_token is not None:
            x = torch.cat([self.class_token.to(x.dtype).expand(x.shape[0], 1, -1), x], dim=1)
        return x if self.pre_norm is None else self.pre_norm(x)

    def patches(self, encoded: Tensor) -> Tensor:
        """Drop the class token of encoded tokens: [batch, kept patches, width]."""
        return encoded if self.class_token is None else encoded[:, 1:]

    def pool(self, encoded: Tensor) -> Tensor:
        """Pool encoded tokens [batch, kept, width] into one vector per image [batch, width]."""
        if self.attention_pooling is not None:
            return self.attention_pooling(encoded)
        if self.form.pooling == "max":
            return encoded.max(dim=1).values  # unlike amax, autograd keeps no copy of the tokens for it
        return encoded.mean(dim=1) if self.class_token is None else encoded[:, 0]
