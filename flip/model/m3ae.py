"""Predict removed pixels and tokens from the visible ones of an image and its caption (M3AE, Geng et al. 2022;
MAE-CLIP).

MAE-CLIP's contrastive loss has an unmasked forward beside this one. Patches and tokens are masked per sample; M3AE's
released code masks all samples of a step alike. Its class token is not decoded here, as MAE's is not. A caption's
padding is masked like its tokens, but neither attended to nor predicted.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from flip.config.schema import Params
from flip.data.batch_types import PAD
from flip.model.mae_decoder import restore
from flip.model.masking import MaskOrder, mask_patches, mask_tokens
from flip.model.packing import PackedBatch, has_values, masked_tokens
from flip.model.towers import Towers
from flip.model.transformer import Transformer, full_precision
from flip.model.vision import sincos_line, sincos_positions


class Visible(NamedTuple):
    """Describe what the encoder is given.

    patches: the order of each image's patches, cut after the kept ones. slots: int64 [batch, kept], token positions
    that are kept, ascending. words: bool [batch, slots], where a token is kept.
    """

    patches: MaskOrder
    slots: Tensor
    words: Tensor


def draw(params: Params, batch: dict[str, Tensor], seed: int) -> Visible:
    """Draw the masks of this forward, from random streams of their own: they differ from those of the contrastive
    loss."""
    patches, tokens = params.generative.kept(params.model)
    valid, positions = batch["ids"] != PAD, batch["positions"]
    order = mask_patches(seed, positions, params.model.patches, patches, "generative-image")
    slots = mask_tokens(seed, positions, valid, tokens, "random", "generative-text")
    return Visible(order, slots, torch.zeros_like(valid).scatter(1, slots, True) & valid)


class SeparateEncoders(nn.Module):
    """Encode each side with its own tower, and project each into the decoder's width by its own matrix (MAE-CLIP)."""

    def __init__(self, params: Params, vocabulary: int):
        super().__init__()
        model, width = params.model, params.generative.width
        self.patches = nn.Linear(model.vision.width, width)
        self.words = nn.Linear(model.text.width, width)

    def forward(self, towers: Towers, batch: dict[str, Tensor], visible: Visible) -> tuple[Tensor, Tensor]:
        """Encode kept patches [batch, kept, width] and kept tokens, packed [tokens, width]."""
        vision = towers.vision
        patches = vision.patches(vision(batch["images"], visible.patches.ids_keep))
        words = towers.text.encode(batch["ids"], visible.slots)
        return self.patches(patches), self.words(words)


class SharedEncoder(nn.Module):
    """Encode patches and tokens in one sequence with the vision tower's transformer (M3AE).

    Tokens have a learned vector that marks their modality; that of patches is the bias of their projection: a second
    one would only be added. Token embeddings start as large as the fixed positions that they are added to (N(0, 1), as
    in M3AE's released code).
    """

    positions: Tensor

    def __init__(self, params: Params, vocabulary: int):
        super().__init__()
        width = params.model.vision.width
        self.words = nn.Parameter(torch.randn(vocabulary, width))
        self.modality = nn.Parameter(0.02 * torch.randn(width))
        self.register_buffer("positions", sincos_line(width, params.model.tokens).float(), persistent=False)
        self.embed = nn.Linear(width, params.generative.width)

    def forward(self, towers: Towers, batch: dict[str, Tensor], visible: Visible) -> tuple[Tensor, Tensor]:
        """Encode kept patches [batch, kept, width] and kept tokens, packed [tokens, width]."""
        vision, ids = towers.vision, batch["ids"].gather(1, visible.slots)
        patches, kept = vision.tokens(batch["images"], visible.patches.ids_keep), PackedBatch.from_mask(ids != PAD)
        words = self.words[kept.pack(ids)] + self.modality + self.positions[kept.pack(visible.slots)]
        every = kept.with_prefix(patches.shape[1])
        x = every.pack(torch.cat([patches, kept.unpack(words)], dim=1))
        x = every.unpack(self.embed(vision.transformer(x, every)))
        return vision.patches(x[:, : patches.shape[1]]), kept.pack(x[:, patches.shape[1] :])


ENCODERS = {"separate": SeparateEncoders, "shared": SharedEncoder}


def put(slots: Tensor, mask: Tensor, tokens: Tensor) -> Tensor:
    """Put tokens [tokens, width] where a mask, bool [batch, slots], is true in slots [batch, slots, width]."""
    if not has_values(mask):  # the first slots do
        first = torch.arange(len(tokens), device=slots.device)
        return slots.flatten(0, 1).index_put((first,), tokens).view(slots.shape)
    slots[mask] = tokens
    return slots


class Side(nn.Module):
    """Hold one side's vectors for the decoder: the mask token, the modality's vector and fixed positions."""

    positions: Tensor

    def __init__(self, positions: Tensor):
        super().__init__()
        self.mask_token, self.modality = (nn.Parameter(0.02 * torch.randn(positions.shape[1])) for _ in range(2))
        self.register_buffer("positions", positions, persistent=False)

    def mark(self, x: Tensor) -> Tensor:
        """Add positions and modality to [batch, slots, width]; the shape stays."""
        return x + self.positions + self.modality


class CrossModal(nn.Module):
    """Hold encoder and decoder of the masked forward, and a head for each loss whose weight is above 0."""

    def __init__(self, params: Params, vocabulary: int):
        super().__init__()
        head, model = params.generative, params.model
        self.params = params
        self.encoder = ENCODERS[head.encoder](params, vocabulary)
        self.image = Side(sincos_positions(head.width, model.grid))
        self.text = Side(sincos_line(head.width, model.tokens).float())
        self.transformer = Transformer(head, params.form.vision)
        self.pixels = nn.Linear(head.width, 3 * model.patch**2) if head.pixels else None
        self.words = nn.Linear(head.width, vocabulary) if head.words else None

    def decode(self, patches: Tensor, words: Tensor, visible: Visible, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Compute states of all patches [batch, patches, width] and of the longest caption's token positions [batch,
        longest, width], zero at padding."""
        patches = self.image.mark(restore(patches, self.image.mask_token, visible.patches.ids_restore))
        slots = put(self.text.mask_token.to(words.dtype).repeat(*valid.shape, 1), visible.words, words)
        every = PackedBatch.from_mask(valid).with_prefix(patches.shape[1])
        x = every.pack(torch.cat([patches, self.text.mark(slots)], dim=1))
        patches, slots = every.unpack(self.transformer(x, every)).tensor_split([patches.shape[1]], dim=1)
        return patches, slots

    def forward(self, towers: Towers, batch: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
        """Predict pixels and tokens.

        Returns `pixels` [batch, patches, patch * patch * 3] with `removed_patches`, bool [batch, patches], and `words`,
        logits [removed tokens, vocabulary], with `removed_words`, bool [batch, slots]; padding is never among them.
        """
        visible, valid = draw(self.params, batch, seed), batch["ids"] != PAD
        patches, words = self.encoder(towers, batch, visible)
        patches, words = self.decode(patches, words, visible, valid)
        outputs = {}
        if self.pixels is not None:
            outputs["pixels"] = full_precision(self.pixels(patches))
            outputs["removed_patches"] = visible.patches.ids_restore >= visible.patches.ids_keep.shape[1]
        if self.words is not None:
            removed = valid & ~visible.words
            hidden = masked_tokens(words, removed[:, : words.shape[1]], self.params.generative.mask_text)
            outputs |= {"words": full_precision(self.words(hidden)), "removed_words": removed}
        return outputs
