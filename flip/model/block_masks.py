"""Draw the masks of masked modelling: blocks of patches (BEiT, Algorithm 1) and single tokens (BERT), for FLAVA's
losses; and what is shown in place of masked tokens.

Random numbers follow from (seed, stream, position) alone, as those of all masks do (flip.model.masking).
"""

import math

import torch
from torch import Tensor

from flip.config.schema import Captions
from flip.data.batch_types import PAD
from flip.model.packing import has_values
from flip.rng import uniform

TRIES, DRAWS = 10, 128  # tries per block, as in BEiT's released code; and in all, which no mask comes near
ASPECT = 0.3  # of the longest block; its inverse is that of the tallest


def block_masks(seed: int, positions: Tensor, grid: int, most: int, smallest: int) -> Tensor:
    """Draw masked patches in blocks (BEiT, Bao et al. 2022, Algorithm 1): bool [batch, grid^2], true where masked.

    `positions`, int64 [batch], are those in the training order. Blocks of random area (from `smallest` patches up to
    what is left of `most`) and aspect ratio are placed at random until `most` patches are covered, or ten blocks in a
    row would cover more than `most`, or nothing new.
    """
    if not has_values(positions):
        return torch.zeros(len(positions), grid**2, dtype=torch.bool, device=positions.device)
    draws = uniform(seed, "blocks", positions, 4 * DRAWS).unflatten(1, (DRAWS, 4))
    lines = torch.arange(grid, device=positions.device)
    masks = torch.zeros(len(positions), grid, grid, dtype=torch.bool, device=positions.device)
    failed = torch.zeros_like(positions)
    for area, aspect, y, x in draws.permute(1, 2, 0):
        room = most - masks.sum(dim=(1, 2))
        going = (room > 0) & (failed < TRIES)
        if not going.any():
            break
        area = smallest + (room - smallest) * area
        aspect = torch.exp(math.log(ASPECT) * (1 - 2 * aspect))
        height, width = (area * aspect).sqrt().round(), (area / aspect).sqrt().round()
        top, left = (y * (grid - height + 1)).floor(), (x * (grid - width + 1)).floor()
        rows = (lines >= top[:, None]) & (lines < (top + height)[:, None])
        columns = (lines >= left[:, None]) & (lines < (left + width)[:, None])
        block = rows[:, :, None] & columns[:, None, :]
        new = (block & ~masks).sum(dim=(1, 2))
        taken = going & (height < grid) & (width < grid) & (new > 0) & (new <= room)
        masks |= block & taken[:, None, None]
        failed = torch.where(taken, 0, failed + 1)
    return masks.flatten(1)


def word_masks(seed: int, positions: Tensor, ids: Tensor, share: float, captions: Captions) -> Tensor:
    """Draw masked tokens, each with probability `share`: bool [batch, slots], for ids int64 [batch, slots].

    Start tokens, end tokens and padding are never masked.
    """
    words = ids != PAD
    lengths = words.sum(dim=1, keepdim=True)
    slots = torch.arange(ids.shape[1], device=ids.device)
    if captions.start:
        words = words & (slots > 0)
    if captions.end:
        words = words & (slots != lengths - 1)
    return words & (uniform(seed, "words", positions, ids.shape[1]) < share)


def shown_words(
    seed: int, positions: Tensor, ids: Tensor, masked: Tensor, shares: tuple[float, float], vocabulary: int
) -> tuple[Tensor, Tensor]:
    """Draw what stands in place of masked tokens (BERT, Devlin et al. 2019, section 3.1).

    `ids`, int64 [batch, slots], are those of captions, of which some are `masked`, bool [batch, slots]. `shares` of the
    masked are shown as a random token of the vocabulary, and as they are. Returns the ids to show, int64 [batch,
    slots], and which tokens the mask vector replaces, bool [batch, slots].
    """
    random, kept = shares
    draw = uniform(seed, "shown words", positions, ids.shape[1])
    others = (uniform(seed, "random words", positions, ids.shape[1]) * vocabulary).long()
    return torch.where(masked & (draw < random), others, ids), masked & (draw >= random + kept)
