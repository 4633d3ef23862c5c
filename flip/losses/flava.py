"""Compute FLAVA's losses beside the contrastive one (Singh et al. 2022, section 3.1; definitions as in the released
code).

They are cross entropies of masked patches' codes, of masked tokens, and of whether image and caption match.

The contrastive loss reads images and captions as they came, so that mismatched pairs leave it alone. The released code
gives it the mismatched captions, and drops their rows, while their columns stay.

Targets are made once per step, for a process's share of the global batch, and then split with it, so that no loss
depends on how many processes or micro-batches share the batch.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flip.config.schema import Params
from flip.data.batch_types import IMAGES, PAIRS, TEXTS, batch_type
from flip.losses.objective import Batch, Objective, Setting
from flip.model import flava
from flip.model.block_masks import block_masks, word_masks
from flip.model.codebook import load_codebook, untrained
from flip.model.packing import masked_tokens
from flip.rng import uniform

MASKED = {"mim": "patches", "mlm": "words", "mmm_image": "patches", "mmm_text": "words"}
TARGETS = {"patches": "codes", "words": "words"}
ALONE = {IMAGES: {"mim"}, TEXTS: {"mlm"}}  # what is read of batches of one side


class FlavaObjective(Objective):
    """Compute FLAVA's losses, each with its weight, by name."""

    def __init__(self, setting: Setting):
        self.params, self.seed, self.group = setting.params, setting.seed, setting.group
        self.section = setting.params.flava
        self.image_tokenizer = None
        if self.section.reads_codes and setting.data:
            self.image_tokenizer = load_codebook(setting.params, setting.data, setting.device)
        elif self.section.reads_codes:
            self.image_tokenizer = untrained(setting.params, setting.device)

    @classmethod
    def reads(cls, params: Params) -> frozenset[str]:
        alone = (kind for kind, names in ALONE.items() if any(getattr(params.flava, name) for name in names))
        return frozenset({PAIRS, *alone})

    @classmethod
    def module(cls, params: Params, vocabulary: int) -> nn.Module | None:
        return flava.FlavaModel(params, vocabulary)

    @classmethod
    def transforms(cls, params: Params, seed: int, captions: Any) -> list[Callable[[Batch], Batch]]:
        share, step = params.flava.mismatched, params.train.global_batch
        return [partial(mismatch, captions, share, seed, step)] if params.flava.itm else []

    @classmethod
    def example(cls, params: Params, batch: Batch) -> Batch:
        if params.flava.itm and batch_type(batch) == PAIRS:
            wrong = torch.empty(len(batch["positions"]), dtype=torch.bool)
            batch = batch | {"other_ids": batch["ids"].clone(), "mismatched": wrong}
        return batch

    def prepare(self, batch: Batch) -> Batch:
        """Add masked_patches, words, masked_words, how many there are of each, and factors, as far as losses read them.

        This runs in main memory: on a device, drawing would synchronize for how many turns it takes and what it finds.
        """
        found = dict(batch)
        if self.section.hides_patches and "images" in batch:
            found["masked_patches"] = self._blocks(batch["positions"])
        if self.section.hides_words and "ids" in batch:
            words = found["words"] = batch["other_ids" if "other_ids" in batch else "ids"]
            share, captions = self.section.mask_text, self.params.captions
            found["masked_words"] = word_masks(self.seed, batch["positions"], words, share, captions)
        return flava.count_masked(self.section, found) | self._factors(found)

    def encode(self, batch: Batch) -> Batch:
        """Add the codes of the image's patches, int64 [batch, patches], if losses read them."""
        if self.image_tokenizer is not None and "images" in batch:
            return batch | {"codes": self.image_tokenizer(batch["images"])}
        return batch

    def __call__(self, batch: Batch, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        losses = {name: self._masked(name, batch, outputs[name]) for name in self._read(batch)}
        if self.section.itm and batch_type(batch) == PAIRS:
            losses["itm"] = self.section.itm * F.cross_entropy(outputs["itm"], (~batch["mismatched"]).long())
        return losses

    def _read(self, batch: Batch) -> list[str]:
        """List the losses of masked patches and tokens that read a batch of its type."""
        here = ALONE.get(batch_type(batch), set(MASKED))
        return [name for name in MASKED if name in here and getattr(self.section, name)]

    def _masked(self, name: str, batch: Batch, logits: Tensor) -> Tensor:
        """Average the cross entropy of what is masked over all that is masked in the global batch.

        Pairs mask different numbers of patches or tokens, so each pair's sum comes with the factor that makes the mean
        over pairs that average (`_factors`); where nothing is masked, it is 0.
        """
        masked = batch[f"masked_{MASKED[name]}"]
        targets = masked_tokens(batch[TARGETS[MASKED[name]]], masked, len(logits))
        losses = F.cross_entropy(logits, targets, reduction="none")
        factors = batch[f"{name}_factor"][:, None].expand_as(masked)
        factors = masked_tokens(factors, masked, len(logits)).to(losses.dtype)
        return getattr(self.section, name) * (losses * factors).sum() / len(masked)

    def _blocks(self, positions: Tensor) -> Tensor:
        section, model = self.section, self.params.model
        smallest = round(section.smallest_block * model.patches)
        return block_masks(self.seed, positions, model.grid, section.hidden_patches(model.patches), smallest)

    def _kept(self, batch: Batch) -> Tensor:
        """Choose the pairs that masked multimodal modelling reads, bool [batch]: matched ones; all, where the batch has
        none."""
        matched = ~batch.get("mismatched", torch.zeros_like(batch["positions"], dtype=torch.bool))
        return matched | (self.group.sum(matched.sum()) == 0)

    def _factors(self, batch: Batch) -> dict[str, Tensor]:
        """Compute pairs / masked elements of the global batch, per loss: float64 [batch], 0 for pairs left out."""
        if not (wanted := self._read(batch)):
            return {}
        every = torch.ones_like(batch["positions"], dtype=torch.bool)
        kept = self._kept(batch) if self.section.mmm_image or self.section.mmm_text else every
        rows = [kept if name.startswith("mmm") else every for name in wanted]
        masked = [batch[f"masked_{MASKED[name]}"].sum(dim=1) for name in wanted]
        totals = self.group.sum(torch.stack([(n * row).sum() for n, row in zip(masked, rows, strict=True)]))
        pairs = self.group.size * len(every)
        factors = [row * (pairs / total.clamp(min=1).double()) for row, total in zip(rows, totals, strict=True)]
        return {f"{name}_factor": factor for name, factor in zip(wanted, factors, strict=True)}


def neighbour(position: int, step: int) -> int:
    """Return the other of the two positions that form a couple in a global batch of `step` positions; for the last of
    an odd number, the one before it, and for a single one itself."""
    start = position - position % step
    other = start + (position - start ^ 1)
    return other if other < start + step else max(position - 1, start)


def mismatch(captions: Any, share: float, seed: int, step: int, batch: Batch) -> Batch:
    """Add other_ids [batch, slots], in which a share of pairs has the caption of a neighbour in its global batch of
    `step` positions, and mismatched, bool [batch]; equal captions still match."""
    if batch_type(batch) != PAIRS:
        return batch
    ids, positions = batch["ids"].clone(), batch["positions"]
    chosen = uniform(seed, "mismatched", positions, 1)[:, 0] < share
    for row in chosen.nonzero()[:, 0].tolist():
        ids[row] = captions.read_at([neighbour(int(positions[row]), step)])[0]
    return batch | {"other_ids": ids, "mismatched": (ids != batch["ids"]).any(dim=1)}
