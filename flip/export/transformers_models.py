"""Export a variant as a model of transformers: a folder that `AutoModel.from_pretrained` loads.

The classes are CLIPModel, SiglipModel, ViTMAEForPreTraining or, without its decoder, ViTMAEModel, FlavaForPreTraining
or, without its heads, FlavaModel. To add one, write a subclass of Transformers and list it in CLASSES and EXPORTS.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoConfig,
    CLIPConfig,
    CLIPModel,
    PreTrainedModel,
    SiglipConfig,
    SiglipModel,
    ViTMAEConfig,
    ViTMAEForPreTraining,
    ViTMAEModel,
)

from flip.config.frozen import merge
from flip.config.schema import Params
from flip.data.tokenizer import CaptionTokenizer
from flip.export.names import TRANSFORMERS_CLIP, TRANSFORMERS_SIGLIP, VITMAE, VITMAE_DECODER
from flip.export.target import IMAGE_TOWER, TWO_TOWERS, Loaded, Need
from flip.export.tokens import must_fill_with_end
from flip.export.transformers_base import OWN_CODE, Transformers, blocks, towers
from flip.export.transformers_flava import FlavaPretraining, FlavaTowers
from flip.model.two_towers import TwoTowers


class Clip(Transformers):
    """Convert to and from CLIPModel."""

    name = "transformers' CLIPModel"
    table = TRANSFORMERS_CLIP
    bias = False
    needs = (
        TWO_TOWERS,
        Need("form.vision.pooling", ("class",), "its image tower has a class token"),
        Need("form.vision.pre_norm", (True,), "its image tower has a LayerNorm before the blocks"),
        Need("form.vision.patch_bias", (False,), "its patch projection has no bias"),
        Need("form.vision.projection", ("linear",), "its projection has no bias"),
        Need("form.text.pooling", ("last",), "its text tower reads the end token"),
        Need("form.text.embedding_norm", (False,), "its text tower has no LayerNorm there"),
        Need("form.text.causal", (True,), "its text tower is causal"),
        Need("form.text.projection", ("linear",), "its projection has no bias"),
        Need("captions.fill", (False,), "it reads the first end token"),
        Need("sigmoid.weight", (0.0,), "its logits have no bias", lambda params: params.sigmoid.bias is not None),
    )

    def build(self, params: Params, tokenizer: CaptionTokenizer) -> CLIPModel:
        return CLIPModel(CLIPConfig(**towers(params, tokenizer), projection_dim=params.embedding))

    def fills(self, loaded: Loaded) -> bool:
        return False

    def describe(self, loaded: Loaded, source: Path, architecture: str | None) -> dict:
        found = super().describe(loaded, source, architecture)
        return merge(found, {"model": {"embedding": loaded.model.config.projection_dim}})


class Siglip(Transformers):
    """Convert to and from SiglipModel."""

    name = "transformers' SiglipModel"
    table = TRANSFORMERS_SIGLIP
    zeros = frozenset({"logit_bias", "vision_model.embeddings.patch_embedding.bias"})
    bias = True
    also = (("form.vision.patch_bias", True),)
    needs = (
        TWO_TOWERS,
        Need("form.vision.pooling", ("map",), "its image tower ends in attention pooling"),
        Need("form.vision.pre_norm", (False,), "its image tower has no LayerNorm before the blocks"),
        Need("form.vision.projection", ("none",), "its common space is the image tower's own"),
        Need("form.text.pooling", ("last",), "its text tower reads the last token"),
        Need("form.text.embedding_norm", (False,), "its text tower has no LayerNorm there"),
        Need("form.text.causal", (False,), "its text tower is not causal"),
        Need("form.text.projection", ("affine",), "its text projection has a bias"),
        Need("captions.fill", (True,), "it attends to padding, which must then be end tokens"),
    )

    def build(self, params: Params, tokenizer: CaptionTokenizer) -> SiglipModel:
        settings = towers(params, tokenizer)
        settings["text_config"]["projection_size"] = params.embedding
        return SiglipModel(SiglipConfig(**settings))

    def fills(self, loaded: Loaded) -> bool:
        return must_fill_with_end(loaded.tokenizer)


class VitMae(Transformers):
    """Convert to and from ViTMAEModel, MAE's encoder without its decoder."""

    name = "transformers' ViTMAEModel"
    table = VITMAE
    zeros = frozenset({"embeddings.patch_embeddings.projection.bias"})
    image_only = True
    usage = (
        "from transformers import AutoImageProcessor, AutoModel\n\n"
        'model = AutoModel.from_pretrained("{folder}").eval()  # mask_ratio is 0: it sees all patches\n'
        'pixels = AutoImageProcessor.from_pretrained("{folder}")(image, return_tensors="pt")  # a PIL image\n'
        "features = model(**pixels).last_hidden_state[:, 0]  # the class token"
    )
    also = (("form.vision.patch_bias", True), ("form.vision.projection", "none"))
    needs: tuple[Need, ...] = (
        IMAGE_TOWER,
        Need("form.vision.pooling", ("class",), "its image tower has a class token"),
        Need("form.vision.pre_norm", (False,), "its image tower has no LayerNorm before the blocks"),
    )

    def build(self, params: Params, tokenizer: CaptionTokenizer) -> PreTrainedModel:
        return ViTMAEModel(self.config(params, mask_ratio=0.0))

    def config(self, params: Params, **more: Any) -> ViTMAEConfig:
        """Return their configuration, with `more` keys."""
        settings = blocks(params.model.vision, params.form.vision) | more
        return ViTMAEConfig(**settings, image_size=params.model.image, patch_size=params.model.patch)

    def load(self, source: Path, architecture: str | None = None) -> Loaded:
        loaded = super().load(source, architecture)
        loaded.model.config.mask_ratio = loaded.model.embeddings.config.mask_ratio = 0.0
        return loaded

    def features(self, model: PreTrainedModel, images: Tensor) -> Tensor:
        return model(pixel_values=images).last_hidden_state[:, 0]


class VitMaeDecoder(VitMae):
    """Convert to ViTMAEForPreTraining, with the decoder; VitMae reads its folders, too."""

    name = "transformers' ViTMAEForPreTraining"
    table = VITMAE_DECODER
    zeros = frozenset(f"vit.{name}" for name in VitMae.zeros)
    keeps = frozenset({"decoder"})
    usage = (
        "from transformers import AutoImageProcessor, AutoModelForPreTraining\n\n"
        'model = AutoModelForPreTraining.from_pretrained("{folder}").eval()\n'
        'pixels = AutoImageProcessor.from_pretrained("{folder}")(image, return_tensors="pt")  # a PIL image\n'
        "found = model(**pixels)  # logits: all patches, predicted from those that a random mask keeps"
    )
    needs = (*VitMae.needs, Need("reconstruction.wanted", (True,), "it has a decoder"))

    def build(self, params: Params, tokenizer: CaptionTokenizer) -> PreTrainedModel:
        head = params.reconstruction
        return ViTMAEForPreTraining(self.config(
            params, mask_ratio=params.masking.image, norm_pix_loss=head.normalize, decoder_hidden_size=head.width,
            decoder_num_hidden_layers=head.layers, decoder_num_attention_heads=head.heads,
            decoder_intermediate_size=4 * head.width,
        ))  # fmt: skip

    def load(self, source: Path, architecture: str | None = None) -> Loaded:
        loaded = super().load(source, architecture)
        whole = ViTMAEForPreTraining.from_pretrained(source, dtype=torch.float32).eval()
        patches = whole.vit.embeddings.patch_embeddings.num_patches
        loaded.further = lambda pixels, _: whole(pixel_values=pixels, noise=noise(pixels, patches)).logits
        return loaded

    def further(self, model: TwoTowers, images: Tensor, ids: Tensor | None) -> Tensor:
        """Return the predicted patches [images, patches, values] of uint8 [images, side, side, 3], under masks that are
        equal in every call."""
        shuffled = noise(images, model.params.model.patches).argsort(dim=1)
        assert model.vision is not None
        encoded = model.vision(images, shuffled[:, : model.params.kept_patches])
        decoder: Any = model.decoder
        return decoder.decode(encoded, shuffled.argsort(dim=1))


def noise(images: Tensor, patches: int) -> Tensor:
    """Return random numbers [images, patches] whose order decides which patches of each image are masked."""
    return torch.rand(len(images), patches, generator=torch.Generator().manual_seed(0))


# The class that reads a folder, by its model type; and the classes that a variant is exported to: the first that fits.
CLASSES: dict[str, type[Transformers]] = {"clip": Clip, "siglip": Siglip, "vit_mae": VitMae, "flava": FlavaTowers}
EXPORTS = (Clip, Siglip, FlavaPretraining, FlavaTowers, VitMaeDecoder, VitMae)


def kind_of(source: Path) -> Transformers:
    """Return the target for a folder with a config.json.

    Raises:
        ValueError: its model type is not supported.
    """
    kind = AutoConfig.from_pretrained(source, **OWN_CODE).model_type
    if kind not in CLASSES:
        raise ValueError(f"{source}: a model of type '{kind}'; allowed: {', '.join(CLASSES)}")
    return CLASSES[kind]()
