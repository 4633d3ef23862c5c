"""Run FLAVA's masked forward (Singh et al. 2022, section 3.1).

Images and captions with masked patches and tokens go through their towers and, together, through a multimodal encoder;
heads predict what was masked, and whether image and caption match.

Masked patches and most masked tokens are replaced by learned vectors, so that all token positions stay. The multimodal
encoder reads the towers' states before their last LayerNorm, as in the released code, after a class token, and has no
position embeddings of its own.
"""

import torch
from torch import Tensor, nn

from flip.config.objectives.flava import Flava
from flip.config.schema import Params
from flip.data.batch_types import PAD, PAIRS, Batch, batch_type
from flip.model.block_masks import shown_words
from flip.model.packing import PackedBatch, masked_tokens, true_counts
from flip.model.towers import Towers
from flip.model.transformer import Transformer, full_precision


def count_masked(section: Flava, batch: Batch) -> Batch:
    """Add how many patches and tokens of each sample are masked, `patch_counts` and `word_counts`, and how many tokens
    its caption has, `word_lengths`, int64 [batch] each; a batch that has them stays as it is."""
    found: Batch = {}
    if batch.keys() & {"patch_counts", "word_counts"}:
        return batch
    if "masked_patches" in batch:
        found["patch_counts"] = true_counts(batch["masked_patches"], section.share("patches"))
    if "masked_words" in batch:
        found["word_counts"] = true_counts(batch["masked_words"], section.share("words"))
        found["word_lengths"] = true_counts(batch["words"] != PAD)
    return batch | found


def masked_head(width: int, answers: int, epsilon: float) -> nn.Sequential:
    """Build BERT's head for masked tokens, [..., width] -> [..., answers]; its last matrix is not tied to the
    embeddings."""
    norm = nn.LayerNorm(width, eps=epsilon)
    return nn.Sequential(nn.Linear(width, width), nn.GELU(), norm, nn.Linear(width, answers))


class Multimodal(nn.Module):
    """Encode the states of both towers in one sequence."""

    def __init__(self, params: Params):
        super().__init__()
        tower = params.flava.multimodal
        self.from_image = nn.Linear(params.model.vision.width, tower.width)
        self.from_text = nn.Linear(params.model.text.width, tower.width)
        self.class_token = nn.Parameter(0.02 * torch.randn(tower.width))
        self.transformer = Transformer(tower, params.form.vision)

    def forward(self, image: Tensor, words: Tensor, packing: PackedBatch) -> Tensor:
        """Encode image states [batch, slots, width] and packed text states [tokens, width], placed by `packing` [batch,
        slots].

        Returns states [batch, 1 + image slots + text slots, width], zero at padding; the first is the class token's.
        """
        image, words = self.from_image(image), self.from_text(words)
        first = self.class_token.to(image.dtype).expand(len(image), 1, -1)
        both = packing.with_prefix(1 + image.shape[1])
        x = both.pack(torch.cat([first, image, packing.unpack(words)], dim=1))
        return both.unpack(self.transformer(x, both))


class FlavaModel(nn.Module):
    """Hold mask vectors, multimodal encoder and heads, each only where a loss of the parameters reads it."""

    def __init__(self, params: Params, vocabulary: int):
        super().__init__()
        flava, model, epsilon = params.flava, params.model, params.form.vision.norm_epsilon
        self.section, self.vocabulary = flava, vocabulary
        both, codes = flava.multimodal.width, params.codebook.codes
        self.patch_mask = nn.Parameter(0.02 * torch.randn(model.vision.width)) if flava.hides_patches else None
        self.word_mask = nn.Parameter(0.02 * torch.randn(model.text.width)) if flava.hides_words else None
        self.multimodal = Multimodal(params) if flava.is_multimodal else None
        heads = {"mim": (model.vision.width, codes), "mlm": (model.text.width, vocabulary)}
        heads |= {"mmm_image": (both, codes), "mmm_text": (both, vocabulary)}
        self.heads = nn.ModuleDict(
            {name: masked_head(*sizes, epsilon) for name, sizes in heads.items() if getattr(flava, name)}
        )
        if flava.itm:
            self.heads["itm"] = nn.Sequential(nn.Linear(both, both), nn.Tanh(), nn.Linear(both, 2))

    def forward(self, towers: Towers, batch: Batch, seed: int) -> dict[str, Tensor]:
        """Compute logits by the loss's name: of masked patches [masked, codes] and tokens [masked, vocabulary], sample
        by sample, and whether image and caption match [batch, 2].

        `towers` is a flip.model.two_towers.Forward. The batch holds masked_patches and masked_words, bool [batch,
        slots], and words, the captions int64 [batch, slots] of
        this forward, some of which are those of other images (flip.losses.flava). For images or
        captions alone, there are only the logits of that side.
        """
        batch, image, words, packing = count_masked(self.section, batch), None, None, None
        if "masked_patches" in batch:
            image = towers.vision.pre_norm_states(batch["images"], batch["masked_patches"], self.patch_mask)
        if "masked_words" in batch:
            ids, masked = self._shown(batch, seed)
            words, packing = towers.text.pre_norm_states(ids, masked, self.word_mask, batch["word_lengths"])
        seen = self._one_side(towers, batch, image, words, packing)
        if self.multimodal is not None and batch_type(batch) == PAIRS:
            assert image is not None
            assert packing is not None
            states = self.multimodal(image, words, packing)
            end = 1 + image.shape[1]
            seen["mmm_image"] = self._patches(towers.vision.patches(states[:, 1:end]), batch)
            masked = batch["masked_words"][:, : packing.slots]
            seen["mmm_text"] = masked_tokens(states[:, end:], masked, int(batch["word_counts"].sum()))
            seen["itm"] = states[:, 0]
        return {name: full_precision(self.heads[name](states)) for name, states in seen.items() if name in self.heads}

    def class_states(self, towers: Towers, images: Tensor, ids: Tensor) -> Tensor:
        """Compute the multimodal encoder's class states [batch, width] of unmasked images and captions: uint8 images
        [batch, height, width, 3] and token ids int64 [batch, slots]."""
        assert self.multimodal is not None
        nothing = torch.zeros(ids.shape, dtype=torch.bool, device=ids.device)
        patches = torch.zeros(len(images), towers.vision.positions.shape[0], dtype=torch.bool, device=ids.device)
        words, packing = towers.text.pre_norm_states(ids, nothing, self.word_mask)
        return self.multimodal(towers.vision.pre_norm_states(images, patches, self.patch_mask), words, packing)[:, 0]

    def _shown(self, batch: Batch, seed: int) -> tuple[Tensor, Tensor]:
        """Return the ids that the text tower is shown, and the tokens that the mask vector replaces."""
        shares = (self.section.random_words, self.section.kept_words)
        return shown_words(seed, batch["positions"], batch["words"], batch["masked_words"], shares, self.vocabulary)

    def _one_side(
        self, towers: Towers, batch: dict, image: Tensor | None, words: Tensor | None, packing: PackedBatch | None
    ) -> dict:
        """Compute states of masked patches and tokens after their towers' last LayerNorm, for the heads that read
        them."""
        seen = {}
        if "mim" in self.heads and image is not None:
            seen["mim"] = self._patches(towers.vision.patches(towers.vision.transformer.norm(image)), batch)
        if "mlm" in self.heads and words is not None and packing is not None:
            masked, count = packing.pack(batch["masked_words"])[None], int(batch["word_counts"].sum())
            seen["mlm"] = masked_tokens(towers.text.transformer.norm(words)[None], masked, count)
        return seen

    def _patches(self, states: Tensor, batch: Batch) -> Tensor:
        """Take the states of masked patches, [batch, patches, width] -> [masked, width]."""
        return masked_tokens(states, batch["masked_patches"], int(batch["patch_counts"].sum()))
