"""Build the two towers with their projections into the common space, logit scale and bias, and the objectives' modules.

Each is there only where the parameters ask for it.
"""

import math
from collections.abc import Callable, Collection, Mapping
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flip.config.schema import Params
from flip.data.batch_types import PAD, PAIRS, Batch, batch_type
from flip.model.decoder import TextDecoder
from flip.model.head import Head
from flip.model.initialization import initialize_model
from flip.model.masking import MaskOrder, highest_tokens, mask_patches, mask_tokens
from flip.model.packing import PackedBatch, true_counts
from flip.model.text import TextEncoder
from flip.model.transformer import Transformer, full_precision
from flip.model.vision import VisionEncoder


def projection(width: int, common: int, kind: str) -> nn.Module:
    """Project from a tower's width into the common space: none, linear, or affine (with a bias)."""
    return nn.Identity() if kind == "none" else nn.Linear(width, common, bias=kind == "affine")


def draw_captions(params: Params, batch: Batch, seed: int) -> Batch:
    """Add what is kept of a batch's captions: `kept_slots`, int64 [batch, kept], where tokens are masked, and how many
    tokens there are, `lengths`, int64 [batch].

    In main memory, nothing has to wait for the device to know it. A batch that has it, or no captions, stays as it is.
    """
    if "ids" not in batch or "lengths" in batch:
        return batch
    valid = batch["ids"] != PAD
    if not params.masking.text:
        return batch | {"lengths": true_counts(valid)}
    kept, policy = params.kept_tokens, params.masking.text_policy
    if params.masking.reads_words:
        scores, batch = batch["token_scores"], {name: x for name, x in batch.items() if name != "token_scores"}
        slots = highest_tokens(scores, valid, kept)
    else:
        slots = mask_tokens(seed, batch["positions"], valid, kept, policy)
    return batch | {"kept_slots": slots, "lengths": true_counts(valid.gather(1, slots))}


CHECKPOINT = {"simclr": "views"}  # what a section's module is called in checkpoints, where it has another name


class TwoTowers(nn.Module):
    """Hold `vision` and `text`, which are None where no loss reads that side, and what ties them where a loss does.

    `decoder` and `passes`, by section, are the modules of objectives; MAE's decoder has a name of its own in
    checkpoints, and nowhere else. `build_heads` (flip.losses.build_heads) gives these by section; it is called once the
    towers are there, so that their initial weights do not depend on it.
    """

    def __init__(self, params: Params, vocabulary: int, build_heads: Callable[[], Mapping[str, Head]]):
        super().__init__()
        model, form = params.model, params.form
        self.params = params
        self.vision = VisionEncoder(model, form.vision) if params.has_image_tower else None
        self.text = TextEncoder(model, form.text, vocabulary) if params.has_text_tower else None
        self.image_projection: nn.Module = nn.Identity()
        if params.aligned:
            self.image_projection = projection(model.vision.width, params.embedding, form.vision.projection)
            self.text_projection = projection(model.text.width, params.embedding, form.text.projection)
            self.log_scale = nn.Parameter(torch.tensor(-math.log(params.logits.temperature)))
            self.clamp_scale()
            self.register_load_state_dict_post_hook(lambda model, _: model.clamp_scale())
        bias = params.sigmoid.initial_bias(params.train.global_batch)
        self.logit_bias = None if bias is None else nn.Parameter(torch.tensor(bias))
        heads = dict(build_heads())
        decoder = heads.pop("reconstruction", None)
        self.decoder = None if decoder is None else decoder.module
        self.passes = nn.ModuleDict({CHECKPOINT.get(name, name): head.module for name, head in heads.items()})
        self.heads = {"reconstruction": decoder} | heads if decoder else heads
        initialize_model(self)
        # What attentive masks look with: flip.train.ema has it begin as the tower, and follow it.
        self.looking: VisionEncoder | None = None
        if params.masking.is_attentive:
            self.looking = VisionEncoder(model, form.vision).requires_grad_(False)
        for module in self.modules():
            if isinstance(module, Transformer | TextDecoder):
                module.recompute = params.train.checkpoint_activations

    @property
    def image_tower(self) -> nn.ModuleDict:
        """Collect what computes image features, by the same names: it can be loaded, or locked, by itself."""
        return nn.ModuleDict({"vision": self.vision, "image_projection": self.image_projection})  # type: ignore[dict-item]

    @property
    def text_tower(self) -> nn.ModuleDict:
        """Collect what computes text features; without a common space, the tower alone."""
        parts = ("text", "text_projection") if self.params.aligned else ("text",)
        return nn.ModuleDict({name: getattr(self, name) for name in parts})

    @property
    def beside_towers(self) -> list[str]:
        """Name the modules of objectives and masks, which begin anew where weights of a start have none of them."""
        return ["looking", "decoder", *(f"passes.{name}" for name in self.passes)]

    def project_image(self, encoded: Tensor) -> Tensor:
        """Pool and project encoded tokens [batch, kept, width] of the vision tower into image features [batch,
        embedding]."""
        assert self.vision is not None
        return self.image_projection(self.vision.pool(encoded))

    def encode_image(self, images: Tensor, ids_keep: Tensor | None = None) -> Tensor:
        """Compute image features [batch, embedding], not normalised, of uint8 images [batch, height, width, 3].

        `ids_keep`, int64 [batch, kept], names the patches that are not masked; None: all.
        """
        assert self.vision is not None
        return self.image_projection(self.vision.feature(images, ids_keep))

    def encode_text(self, ids: Tensor, ids_keep: Tensor | None = None, lengths: np.ndarray | None = None) -> Tensor:
        """Compute text features [batch, embedding], not normalised, of token ids int64 [batch, slots] padded with PAD.

        `ids_keep`, int64 [batch, kept], ascending, names the slots that are not masked; None: all. `lengths`, int64
        [batch], says how many tokens these have, where it is known.
        """
        assert self.text is not None
        return self.text_projection(self.text(ids, ids_keep, lengths))

    def mask_order(self, images: Tensor, positions: Tensor, seed: int, stream: str = "image") -> MaskOrder:
        """Choose which patches of uint8 images [batch, height, width, 3] at positions of the training order, int64
        [batch], are kept; `stream` names the random numbers."""
        params = self.params
        attention = None if self.looking is None else self.looking.attention_map
        patches, kept = params.model.patches, params.kept_patches
        return mask_patches(seed, positions, patches, kept, params.masking, stream, images, attention)

    def project_text(self, states: Tensor, packing: PackedBatch) -> Tensor:
        """Pool and project encoded tokens, packed [tokens, width], of the text tower into text features [batch,
        embedding]."""
        assert self.text is not None
        return self.text_projection(self.text.pool(states, packing))

    @property
    def scale(self) -> Tensor:
        """Return the logit scale (1 / temperature), a scalar."""
        return self.log_scale.exp()

    @torch.no_grad()
    def clamp_scale(self) -> None:
        """Clamp the logit scale to between 1 and its limit, where it has one.

        This is for after each step: clamping within the forward would leave no gradient to come back by (open_clip
        clamps the parameter, too).
        """
        if self.params.aligned and (limit := self.params.logits.max_scale) is not None:
            self.log_scale.clamp_(0, math.log(limit))

    def forward(
        self,
        batch: Batch,
        seed: int,
        features_only: bool = False,
        start_gather: Callable | None = None,
        waiting: Collection[str] = (),
    ) -> Batch:
        """Compute what the objectives read from a batch of images, ids and positions (in the training order).

        In place of images there may be the features [batch, embedding] that a locked image tower has for them. Outputs
        for pairs are left out where the batch has images or captions alone.

        With `features_only`, only what losses over the global batch read is computed; what the objectives that are
        `waiting`, by section, would read, never is. `start_gather` is called with
        image features before text features are computed, so that an all-gather overlaps text encoding; `gathered` is
        what it returns.
        """
        kind, batch = batch_type(batch), draw_captions(self.params, batch, seed)
        begun = [one for name, one in self.heads.items() if name not in waiting]
        heads = [one for one in begun if kind in one.reads and (one.over_global_batch or not features_only)]
        patches, tokens = (any(getattr(one, f"reads_{part}") for one in heads) for part in ("patches", "tokens"))
        towers = Forward(self, batch, seed, patches, tokens)
        outputs = towers.aligned(start_gather) if self.params.aligned and kind == PAIRS else {}
        for head in heads:
            outputs |= head.module(towers, batch, seed)
        return outputs


class Forward:
    """Compute each part of the towers' forward over a batch once, when it is first read.

    `vision` and `text` are the towers themselves, for objectives that give them another input. Where an objective
    `reads_patches` or `reads_tokens`, image or text features are made of the states that it reads, too.
    """

    def __init__(
        self, model: TwoTowers, batch: Batch, seed: int, reads_patches: bool = False, reads_tokens: bool = False
    ):
        self.model, self.batch, self.seed = model, batch, seed
        self.reads_patches, self.reads_tokens = reads_patches, reads_tokens
        self.vision, self.text, self.params = model.vision, model.text, model.params

    @cached_property
    def order(self) -> MaskOrder | None:
        """Draw which patches the batch's positions keep; None where all are kept."""
        if not self.params.masking.image:
            return None
        return self.model.mask_order(self.batch["images"], self.batch["positions"], self.seed)

    @property
    def _ids_keep(self) -> Tensor | None:
        return None if self.order is None else self.order.ids_keep

    @cached_property
    def encoded(self) -> Tensor:
        """Encode the kept patches [batch, kept, width], after a class token where the tower has one."""
        assert self.vision is not None
        return self.vision(self.batch["images"], self._ids_keep)

    @cached_property
    def image(self) -> Tensor:
        """Compute image features [batch, embedding] of unit length."""
        features = self.batch.get("features")
        if features is None and self.reads_patches:
            features = self.model.project_image(self.encoded)
        elif features is None:
            features = self.model.encode_image(self.batch["images"], self._ids_keep)
        return F.normalize(full_precision(features), dim=-1)

    @property
    def second(self) -> Tensor:
        """Compute features of the images' second views [batch, embedding], of unit length, with masks of their own."""
        images, kept = self.batch["second"], None
        if self.params.masking.image:
            kept = self.model.mask_order(images, self.batch["positions"], self.seed, "second image").ids_keep
        return F.normalize(full_precision(self.model.encode_image(images, kept)), dim=-1)

    @cached_property
    def text_states(self) -> tuple[Tensor, PackedBatch]:
        """Encode the tokens that are kept, packed [tokens, width], and say where each belongs."""
        assert self.text is not None
        return self.text.encode(*self._captions)

    @property
    def _captions(self) -> tuple[Tensor, Tensor | None, np.ndarray]:
        return self.batch["ids"], self.batch.get("kept_slots"), self.batch["lengths"]

    def encode_text(self, ids: Tensor, lengths: np.ndarray) -> Tensor:
        """Compute text features [captions, embedding] of unit length of other captions, ids int64 [captions, slots]."""
        return F.normalize(full_precision(self.model.encode_text(ids, None, lengths)), dim=-1)

    @cached_property
    def text_features(self) -> Tensor:
        """Compute text features [batch, embedding] of unit length, of the tokens that are kept."""
        if self.reads_tokens:
            features = self.model.project_text(*self.text_states)
        else:
            features = self.model.encode_text(*self._captions)
        return F.normalize(full_precision(features), dim=-1)

    def aligned(self, start_gather: Callable | None) -> dict:
        """Compute image and text features [batch, embedding] of unit length, the logits' scale and, if any, bias."""
        outputs = {"image": self.image}
        if start_gather:
            outputs["gathered"] = start_gather(outputs["image"])
        outputs |= {"text": self.text_features, "scale": self.model.scale}
        if "second" in self.batch:
            outputs["second"] = self.second
        if self.model.logit_bias is not None:
            # Not the parameter itself: it may become a leaf of its own.
            outputs["bias"] = self.model.logit_bias.clone()
        return outputs
