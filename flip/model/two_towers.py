"""The towers, their projections into the common space, scale and bias of the logits, the decoder, and what further
losses need; each only where the parameters ask for it."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flip.config.schema import Params
from flip.data.batch_types import PAD, PAIRS, kind
from flip.model.mae_decoder import Decoder
from flip.model.masking import Order, mask_patches, mask_tokens
from flip.model.passes import passes
from flip.model.precision import full_precision
from flip.model.text import TextTower
from flip.model.transformer import Transformer, initialize
from flip.model.vision import VisionTower


def projection(width: int, common: int, kind: str) -> nn.Module:
    """From a tower's width into the common space: none, linear, or affine (with a bias)."""
    return nn.Identity() if kind == "none" else nn.Linear(width, common, bias=kind == "affine")


class TwoTowers(nn.Module):
    """`vision` and `text` are None where no loss reads that side; what ties them is there where a loss does.

    `passes` compute what further losses read: modules called with (towers, batch, seed) that give named outputs. Those
    marked `joint`, as a loss needs the features of all pairs together, run in both rounds of micro-batches; those that
    `reads_one_side` run on pictures or captions alone, too.
    """

    def __init__(self, params: Params, vocabulary: int):
        super().__init__()
        model, form = params.model, params.form
        self.params = params
        self.vision = VisionTower(model, form.vision) if params.has_image_tower else None
        self.text = TextTower(model, form.text, vocabulary) if params.has_text_tower else None
        self.image_projection = nn.Identity()
        if params.aligned:
            self.image_projection = projection(model.vision.width, params.embedding, form.vision.projection)
            self.text_projection = projection(model.text.width, params.embedding, form.text.projection)
            self.log_scale = nn.Parameter(torch.tensor(-math.log(params.logits.temperature)))
            self.clamp_scale()
            self.register_load_state_dict_post_hook(lambda model, _: model.clamp_scale())
        bias = params.sigmoid.initial_bias(params.train.global_batch)
        self.logit_bias = None if bias is None else nn.Parameter(torch.tensor(bias))
        self.decoder = Decoder(model, params.reconstruction, form.vision) if params.reconstruction.weight else None
        self.passes = nn.ModuleDict(passes(params, vocabulary))
        self.apply(initialize)
        for module in self.modules():
            if isinstance(module, Transformer):
                module.recompute = params.train.checkpoint_activations

    @property
    def image_tower(self) -> nn.ModuleDict:
        """What gives image features, by the same names: it can be loaded, or locked, by itself."""
        return nn.ModuleDict({"vision": self.vision, "image_projection": self.image_projection})

    @property
    def text_tower(self) -> nn.ModuleDict:
        """What gives text features; without a common space, the tower alone."""
        parts = ("text", "text_projection") if self.params.aligned else ("text",)
        return nn.ModuleDict({name: getattr(self, name) for name in parts})

    def project_image(self, encoded: Tensor) -> Tensor:
        return self.image_projection(self.vision.pool(encoded))

    def encode_image(self, images: Tensor, ids_keep: Tensor | None = None) -> Tensor:
        """Image features [batch, embedding], not normalised, of uint8 images [batch, height, width, 3]."""
        return self.image_projection(self.vision.feature(images, ids_keep))

    def encode_text(self, ids: Tensor, ids_keep: Tensor | None = None) -> Tensor:
        """Text features [batch, embedding], not normalised, of token ids [batch, slots] padded with PAD."""
        return self.text_projection(self.text(ids, ids_keep))

    @property
    def scale(self) -> Tensor:
        """Logit scale (1 / temperature)."""
        return self.log_scale.exp()

    @torch.no_grad()
    def clamp_scale(self) -> None:
        """Puts the scale back to between 1 and its limit, where it has one. This is for after each step: a clamp of
        what is computed would leave no gradient to come back by (open_clip clamps the parameter, too)."""
        if self.params.aligned and (limit := self.params.logits.max_scale) is not None:
            self.log_scale.clamp_(0, math.log(limit))

    def align(self, image: Tensor, batch: dict[str, Tensor], seed: int, send: Callable | None) -> dict:
        """Image and text features [batch, embedding] of unit length, the logits' scale and, if there is one, bias; of
        image features [batch, embedding] of any length."""
        params, words = self.params, None
        if params.masking.text:
            valid = batch["ids"] != PAD
            words = mask_tokens(seed, batch["positions"], valid, params.kept_tokens, params.masking.text_policy)
        outputs = {"image": F.normalize(full_precision(image), dim=-1)}
        if send:
            outputs["sent"] = send(outputs["image"])
        outputs["text"] = F.normalize(full_precision(self.encode_text(batch["ids"], words)), dim=-1)
        outputs["scale"] = self.scale
        if self.logit_bias is not None:
            outputs["bias"] = self.logit_bias.clone()  # not the parameter itself: it may become a leaf of its own
        return outputs

    def forward(self, batch: dict[str, Tensor], seed: int, joint: bool = False, send: Callable | None = None) -> dict:
        """What the objectives need from a batch of images, ids and positions (in the training order). In place of
        images there may be the features [batch, embedding] that a locked image tower has for them. What is for pairs
        is left out where the batch has pictures or captions alone.

        With `joint`, only what the joint ones do: features. Else also, where there is a decoder, the predicted patches
        [batch, patches, pixels] and which were removed, and what the other passes give. `send` is called with image
        features before text features are computed; `sent` is what it gives.
        """
        paired = kind(batch) == PAIRS
        outputs = self.forward_pairs(batch, seed, joint, send) if paired else {}
        for one in self.passes.values():
            if (one.joint or not joint) and (paired or one.reads_one_side):
                outputs |= one(self, batch, seed)
        return outputs

    def forward_pairs(self, batch: dict[str, Tensor], seed: int, joint: bool, send: Callable | None) -> dict:
        """What the towers and the decoder give, as for `forward`."""
        order, image, encoded, outputs = self.image_mask(batch, seed), batch.get("features"), None, {}
        if self.decoder is not None and not joint:
            encoded = self.vision(batch["images"], order.ids_keep)
        if self.params.aligned:
            if image is None and encoded is None:
                image = self.encode_image(batch["images"], order and order.ids_keep)
            elif image is None:
                image = self.project_image(encoded)
            outputs |= self.align(image, batch, seed, send)
        return outputs if encoded is None else outputs | self.reconstruct(encoded, order)

    def image_mask(self, batch: dict[str, Tensor], seed: int) -> Order | None:
        """Draws which patches a batch's positions keep; None where all are."""
        params = self.params
        if not params.masking.image:
            return None
        return mask_patches(seed, batch["positions"], params.model.patches, params.kept_patches)

    def reconstruct(self, encoded: Tensor, order: Order) -> dict[str, Tensor]:
        """Predicts patches, `prediction` [batch, patches, pixels], and says which were `removed` [batch, patches], from
        what the image tower makes of those that were kept, `encoded` [batch, kept, width], a class token before them
        where it has one."""
        prediction = full_precision(self.decoder(encoded, order.ids_restore))
        return {"prediction": prediction, "removed": order.ids_restore >= order.ids_keep.shape[1]}
