"""Both towers, their projections into the common space, the temperature, and the decoder where one is asked for."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flip.model.decoder import Decoder
from flip.model.masking import mask_patches, mask_tokens
from flip.model.precision import full_precision
from flip.model.text import PAD, TextTower
from flip.model.transformer import Transformer, initialize
from flip.model.vision import VisionTower
from flip.schema import Params


class TwoTowers(nn.Module):
    def __init__(self, params: Params, vocabulary: int):
        super().__init__()
        model = params.model
        self.params = params
        self.vision = VisionTower(model)
        self.text = TextTower(model, vocabulary)
        self.image_projection = nn.Linear(model.vision.width, model.embedding, bias=False)
        self.text_projection = nn.Linear(model.text.width, model.embedding, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(-math.log(params.train.temperature)))
        self.decoder = Decoder(model, params.reconstruction) if params.reconstruction.weight else None
        self.apply(initialize)
        for module in self.modules():
            if isinstance(module, Transformer):
                module.recompute = params.train.checkpoint_activations

    def project_image(self, encoded: Tensor) -> Tensor:
        return self.image_projection(encoded.mean(dim=1))

    def encode_image(self, images: Tensor, ids_keep: Tensor | None = None) -> Tensor:
        """Image features [batch, embedding], not normalised, of uint8 images [batch, height, width, 3]."""
        return self.project_image(self.vision(images, ids_keep))

    def encode_text(self, ids: Tensor, ids_keep: Tensor | None = None) -> Tensor:
        """Text features [batch, embedding], not normalised, of token ids [batch, slots] padded with PAD."""
        return self.text_projection(self.text(ids, ids_keep))

    @property
    def scale(self) -> Tensor:
        """Logit scale (1 / temperature), clipped: past the limit it has no gradient, as in FLIP's release."""
        return self.log_scale.clamp(0, math.log(self.params.train.max_scale)).exp()

    def forward(self, batch: dict[str, Tensor], seed: int, decode: bool = True) -> dict[str, Tensor]:
        """What the objectives need from a batch of images, ids and positions (in the training order).

        Returns image and text features [batch, embedding] of unit length, the logit scale and, where there is a
        decoder and unless `decode` says no, the predicted patches [batch, patches, pixels] and which were removed.
        """
        params, positions = self.params, batch["positions"]
        order, words = None, None
        if params.masking.image:
            order = mask_patches(seed, positions, params.model.patches, params.kept_patches)
        if params.masking.text:
            valid = batch["ids"] != PAD
            words = mask_tokens(seed, positions, valid, params.kept_tokens, params.masking.text_policy)
        encoded = self.vision(batch["images"], order and order.ids_keep)
        outputs = {
            "image": F.normalize(full_precision(self.project_image(encoded)), dim=-1),
            "text": F.normalize(full_precision(self.encode_text(batch["ids"], words)), dim=-1),
            "scale": self.scale,
        }
        if decode and self.decoder is not None:
            outputs["prediction"] = full_precision(self.decoder(encoded, order.ids_restore))
            outputs["removed"] = order.ids_restore >= params.kept_patches
        return outputs
