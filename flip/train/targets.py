"""What FLAVA's masked losses compare with: hidden patches and words, codes, and factors that make means of sums.

All of it is made once per step, for a process's share of the global batch, and then split with it, so that no loss
depends on how many processes or micro-batches share the batch.
"""

import torch
from torch import Tensor

from flip.config.schema import Params
from flip.data.batch_types import IMAGES, PAIRS, TEXTS, kind
from flip.model.block_masks import block_masks, word_masks
from flip.model.image_tokenizer import ImageTokenizer
from flip.train.distributed import World


class Targets:
    def __init__(self, params: Params, codebook: ImageTokenizer | None, seed: int, world: World):
        self.params, self.codebook, self.seed, self.world = params, codebook, seed, world

    def hide(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The loader's batch with masked_patches, words, masked_words and factors, as far as losses read them: all in
        main memory, as how many turns drawing takes, and what it finds, would be waited for on a device."""
        flava, found = self.params.flava, dict(batch)
        if flava.hides_patches and "images" in batch:
            found["masked_patches"] = self._blocks(batch["positions"])
        if flava.hides_words and "ids" in batch:
            words = found["words"] = batch.get("other_ids", batch["ids"])
            share, captions = flava.mask_text, self.params.captions
            found["masked_words"] = word_masks(self.seed, batch["positions"], words, share, captions)
        return found | self._factors(found)

    def encode(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The batch on the device with codes, if losses read them."""
        if self.params.flava.reads_codes and "images" in batch:
            return batch | {"codes": self.codebook(batch["images"])}
        return batch

    def _blocks(self, positions: Tensor) -> Tensor:
        flava, model = self.params.flava, self.params.model
        smallest = round(flava.smallest_block * model.patches)
        return block_masks(self.seed, positions, model.grid, flava.hidden_patches(model.patches), smallest)

    def _kept(self, batch: dict[str, Tensor]) -> Tensor:
        """Pairs that masked multimodal modelling reads, bool [batch]: matched ones; all, where the batch has none."""
        matched = ~batch.get("mismatched", torch.zeros_like(batch["positions"], dtype=torch.bool))
        return matched | (self.world.sum(matched.sum()) == 0)

    def _factors(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Per loss, pairs over what is hidden, both in the global batch: float64 [batch], 0 for pairs left out."""
        flava = self.params.flava
        sides = {"mim": "patches", "mmm_image": "patches", "mlm": "words", "mmm_text": "words"}
        here = {PAIRS: set(sides), IMAGES: {"mim"}, TEXTS: {"mlm"}}[kind(batch)]
        if not (wanted := [name for name in sides if name in here and getattr(flava, name)]):
            return {}
        every = torch.ones_like(batch["positions"], dtype=torch.bool)
        kept = self._kept(batch) if flava.mmm_image or flava.mmm_text else every
        rows = [kept if name.startswith("mmm") else every for name in wanted]
        hidden = [batch[f"masked_{sides[name]}"].sum(dim=1) for name in wanted]
        totals = self.world.sum(torch.stack([(n * row).sum() for n, row in zip(hidden, rows, strict=True)]))
        pairs = self.world.size * len(every)
        factors = [row * (pairs / total.clamp(min=1).double()) for row, total in zip(rows, totals, strict=True)]
        return {f"{name}_factor": factor for name, factor in zip(wanted, factors, strict=True)}
