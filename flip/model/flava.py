"""FLAVA's masked pass (Singh et al. 2022, section 3.1): pictures and captions with parts hidden go through their towers
and, together, through a multimodal encoder; heads say what was hidden, and whether the two belong together.

Hidden patches and words are replaced by learned vectors, so that all slots stay. The multimodal encoder sees the
towers' states before their last LayerNorm, as in the released code, after a class token, and has no positions of its
own.
"""

import torch
from torch import Tensor, nn

from flip.config.schema import Params
from flip.data.batch_types import PAIRS, kind
from flip.model.precision import full_precision
from flip.model.transformer import Layout, Transformer


def masked_head(width: int, answers: int, epsilon: float) -> nn.Sequential:
    """BERT's head for hidden tokens, its last matrix not tied to the embeddings."""
    norm = nn.LayerNorm(width, eps=epsilon)
    return nn.Sequential(nn.Linear(width, width), nn.GELU(), norm, nn.Linear(width, answers))


class Multimodal(nn.Module):
    """The encoder over both towers' states."""

    def __init__(self, params: Params):
        super().__init__()
        tower = params.flava.multimodal
        self.from_image = nn.Linear(params.model.vision.width, tower.width)
        self.from_text = nn.Linear(params.model.text.width, tower.width)
        self.class_token = nn.Parameter(0.02 * torch.randn(tower.width))
        self.transformer = Transformer(tower, params.form.vision)

    def forward(self, image: Tensor, words: Tensor, layout: Layout) -> Tensor:
        """[batch, 1 + image slots + word slots, width], zero at padding, of image [batch, slots, width] and packed
        words [tokens, width] that `layout` [batch, word slots] places."""
        image, words = self.from_image(image), self.from_text(words)
        first = self.class_token.to(image.dtype).expand(len(image), 1, -1)
        both = layout.after(1 + image.shape[1])
        x = both.pack(torch.cat([first, image, layout.unpack(words)], dim=1))
        return both.unpack(self.transformer(x, both))


class Flava(nn.Module):
    joint, reads_one_side = False, True  # each loss is a sum over pairs by themselves

    def __init__(self, params: Params, vocabulary: int):
        super().__init__()
        flava, model, epsilon = params.flava, params.model, params.form.vision.norm_epsilon
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

    def forward(self, towers, batch: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
        """Logits, by the loss's name: of hidden patches [hidden, codes] and words [hidden, vocabulary], pair by pair,
        and whether picture and caption match [batch, 2].

        The batch holds what is hidden (flip.train.targets): masked_patches and masked_words, bool [batch, slots], and
        words, the captions [batch, slots] of this pass, of which some are other pictures'. Of pictures or captions
        alone, there are the logits of that side.
        """
        image = words = layout = None
        if "masked_patches" in batch:
            image = towers.vision.hidden(batch["images"], batch["masked_patches"], self.patch_mask)
        if "masked_words" in batch:
            words, layout = towers.text.hidden(batch["words"], batch["masked_words"], self.word_mask)
        seen = self._one_side(towers, batch, image, words, layout)
        if self.multimodal is not None and kind(batch) == PAIRS:
            states = self.multimodal(image, words, layout)
            end = 1 + image.shape[1]
            seen["mmm_image"] = towers.vision.patches(states[:, 1:end])[batch["masked_patches"]]
            seen["mmm_text"] = states[:, end:][batch["masked_words"][:, : layout.slots]]
            seen["itm"] = states[:, 0]
        return {name: full_precision(self.heads[name](states)) for name, states in seen.items() if name in self.heads}

    def joined(self, towers, images: Tensor, ids: Tensor) -> Tensor:
        """The multimodal encoder's class states [batch, width] of whole pictures and captions: uint8 images [batch,
        height, width, 3] and token ids [batch, slots]."""
        nothing = torch.zeros(ids.shape, dtype=torch.bool, device=ids.device)
        patches = torch.zeros(len(images), towers.vision.positions.shape[0], dtype=torch.bool, device=ids.device)
        words, layout = towers.text.hidden(ids, nothing, self.word_mask)
        return self.multimodal(towers.vision.hidden(images, patches, self.patch_mask), words, layout)[:, 0]

    def _one_side(self, towers, batch: dict, image: Tensor | None, words: Tensor | None, layout: Layout | None) -> dict:
        """States of hidden patches and words after their towers' last LayerNorm, for the heads that read them."""
        seen = {}
        if "mim" in self.heads and image is not None:
            seen["mim"] = towers.vision.patches(towers.vision.transformer.norm(image))[batch["masked_patches"]]
        if "mlm" in self.heads and words is not None:
            seen["mlm"] = towers.text.transformer.norm(words)[layout.pack(batch["masked_words"])]
        return seen
