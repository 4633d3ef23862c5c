"""Predict removed pixels and tokens from the visible ones of an image and its caption (M3AE, Geng et al. 2022;
MAE-CLIP).

MAE-CLIP's contrastive loss has an unmasked forward beside this one. Patches and tokens are masked per sample; M3AE's
released code masks all samples of a step alike. Its class token is not decoded here, as MAE's is not. A caption's
padding is masked like its tokens, but neither attended to nor predicted.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from flip.config.schema import Params
from flip.data.batch_types import PAD, Batch
from flip.model.mae_decoder import restore
from flip.model.masking import MaskOrder, mask_patches, mask_tokens
from flip.model.packing import PackedBatch, masked_tokens, put_tokens, true_counts
from flip.model.towers import Towers
from flip.model.transformer import Transformer, full_precision
from flip.model.vision import fixed_positions, sincos_line


class Visible(NamedTuple):
    """Describe what the encoder is given.

    patches: the order of each image's patches, cut after the kept ones. slots: int64 [batch, kept], token positions
    that are kept, ascending. words: bool [batch, slots], where a token is kept; lengths: int64 [batch], how many.
    """

    patches: MaskOrder
    slots: Tensor
    words: Tensor
    lengths: np.ndarray


def draw_tokens(params: Params, batch: Batch, seed: int) -> Batch:
    """Add which token positions of captions are visible, `visible_slots`, int64 [batch, kept], and how many tokens
    these hold, `visible_lengths`, and captions in all, `caption_lengths`, int64 [batch]; a batch that has it stays as
    it is.

    This and `draw` have random streams of their own: masks differ from those of the contrastive loss.
    """
    if "visible_slots" in batch:
        return batch
    valid, (_, tokens) = batch["ids"] != PAD, params.generative.kept(params.model)
    slots = mask_tokens(seed, batch["positions"], valid, tokens, "random", "generative-text")
    lengths = {"visible_lengths": true_counts(valid.gather(1, slots)), "caption_lengths": true_counts(valid)}
    return batch | {"visible_slots": slots} | lengths


def draw(params: Params, batch: Batch, seed: int) -> Visible:
    """Draw the masks of this forward, of a batch with those of `draw_tokens`."""
    patches, _ = params.generative.kept(params.model)
    valid, slots = batch["ids"] != PAD, batch["visible_slots"]
    order = mask_patches(seed, batch["positions"], params.model.patches, patches, stream="generative-image")
    words = torch.zeros_like(valid).scatter(1, slots, True) & valid
    return Visible(order, slots, words, batch["visible_lengths"])


class SeparateEncoders(nn.Module):
    """Encode each side with its own tower, and project each into the decoder's width by its own matrix (MAE-CLIP)."""

    def __init__(self, params: Params, vocabulary: int):
        super().__init__()
        model, width = params.model, params.generative.width
        self.patches = nn.Linear(model.vision.width, width)
        self.words = nn.Linear(model.text.width, width)

    def forward(self, towers: Towers, batch: Batch, visible: Visible) -> tuple[Tensor, Tensor]:
        """Encode kept patches [batch, kept, width] and kept tokens, packed [tokens, width]."""
        vision = towers.vision
        patches = vision.patches(vision(batch["images"], visible.patches.ids_keep))
        words, _ = towers.text.encode(batch["ids"], visible.slots, visible.lengths)
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

    def forward(self, towers: Towers, batch: Batch, visible: Visible) -> tuple[Tensor, Tensor]:
        """Encode kept patches [batch, kept, width] and kept tokens, packed [tokens, width]."""
        vision, ids = towers.vision, batch["ids"].gather(1, visible.slots)
        patches = vision.tokens(batch["images"], visible.patches.ids_keep)
        kept = PackedBatch.from_mask(ids != PAD, visible.lengths)
        words = self.words[kept.pack(ids)] + self.modality + self.positions[kept.pack(visible.slots)]
        every = kept.with_prefix(patches.shape[1])
        x = every.pack(torch.cat([patches, kept.unpack(words)], dim=1))
        x = every.unpack(self.embed(vision.transformer(x, every)))
        return vision.patches(x[:, : patches.shape[1]]), kept.pack(x[:, patches.shape[1] :])


ENCODERS = {"separate": SeparateEncoders, "shared": SharedEncoder}


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
        self.image = Side(fixed_positions(head.width, model))
        self.text = Side(sincos_line(head.width, model.tokens).float())
        self.transformer = Transformer(head, params.form.vision)
        self.pixels = nn.Linear(head.width, 3 * model.patch**2) if head.pixels else None
        self.words = nn.Linear(head.width, vocabulary) if head.words else None

    def decode(
        self, patches: Tensor, words: Tensor, visible: Visible, valid: Tensor, lengths: np.ndarray
    ) -> tuple[Tensor, Tensor]:
        """Compute states of all patches [batch, patches, width] and of the longest caption's token positions [batch,
        longest, width], zero at padding; `valid`, bool [batch, slots], are all tokens, `lengths` of them each."""
        patches = self.image.mark(restore(patches, self.image.mask_token, visible.patches.ids_restore))
        slots = put_tokens(self.text.mask_token.to(words.dtype).repeat(*valid.shape, 1), visible.words, words)
        every = PackedBatch.from_mask(valid, lengths).with_prefix(patches.shape[1])
        x = every.pack(torch.cat([patches, self.text.mark(slots)], dim=1))
        patches, slots = every.unpack(self.transformer(x, every)).tensor_split([patches.shape[1]], dim=1)
        return patches, slots

    def forward(self, towers: Towers, batch: Batch, seed: int) -> dict[str, Tensor]:
        """Predict pixels and tokens.

        Returns `pixels` [batch, patches, patch * patch * 3] with `removed_patches`, bool [batch, patches], and `words`,
        logits [removed tokens, vocabulary], with `removed_words`, bool [batch, slots]; padding is never among them.
        """
        batch = draw_tokens(self.params, batch, seed)
        visible, valid, lengths = draw(self.params, batch, seed), batch["ids"] != PAD, batch["caption_lengths"]
        patches, words = self.encoder(towers, batch, visible)
        patches, words = self.decode(patches, words, visible, valid, lengths)
        outputs = {}
        if self.pixels is not None:
            outputs["pixels"] = full_precision(self.pixels(patches))
            outputs["removed_patches"] = visible.patches.ids_restore >= visible.patches.ids_keep.shape[1]
        if self.words is not None:
            removed = valid & ~visible.words
            count = int((lengths - visible.lengths).sum())
            hidden = masked_tokens(words, removed[:, : words.shape[1]], count)
            outputs |= {"words": full_precision(self.words(hidden)), "removed_words": removed}
        return outputs
