"""Export a variant as transformers' FlavaForPreTraining or, without its heads, FlavaModel."""

from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import FlavaConfig, FlavaForPreTraining, FlavaModel, PreTrainedModel

from flip.config.frozen import merge
from flip.config.schema import Params
from flip.data.tokenizer import CaptionTokenizer
from flip.export.names import FLAVA, FLAVA_PRETRAINING
from flip.export.target import TWO_TOWERS, Loaded, Need
from flip.export.tokens import write_tokenizer
from flip.export.transformers_base import READ, Transformers, blocks, pooled, towers
from flip.model.two_towers import TwoTowers


def attention_mask(ids: Tensor, tokenizer: Any) -> Tensor:
    """Return 1 for token positions of captions, else 0, [captions, tokens].

    These are all before the padding; if that consists of end tokens, the first of them, too.
    """
    padding = (ids == tokenizer.pad_token_id).long()
    ends = int(tokenizer("")["input_ids"][-1] == tokenizer.pad_token_id)
    return (padding.cumsum(1) == padding * ends).long()


class FlavaTowers(Transformers):
    """Convert to and from FlavaModel: towers and multimodal encoder. The masked token is the last of the vocabulary."""

    name = "transformers' FlavaModel"
    table = FLAVA
    bias = False
    vision_key = "image_config"
    keeps = frozenset({"flava"})
    note = (
        "Its poolers are zero: FLAVA's losses do not train them. The heads for masked patches and tokens are left "
        "out; where both towers and the multimodal encoder are as wide, `FlavaForPreTraining` has them."
    )
    zeros = frozenset(
        {f"{side}_model.pooler.dense.{kind}" for side in ("image", "text", "multimodal") for kind in ("weight", "bias")}
        | {
            "text_model.embeddings.token_type_embeddings.weight",
            "image_model.embeddings.patch_embeddings.projection.bias",
        }
    )
    also = (("form.vision.patch_bias", True),)
    usage = (
        READ + "found = model(**pixels, **ids)  # states of all positions: image_, text_, multimodal_embeddings\n"
        "image_features = model.image_projection(found.image_embeddings[:, 0])\n"
        "text_features = model.text_projection(found.text_embeddings[:, 0])"
    )
    needs: tuple[Need, ...] = (
        TWO_TOWERS,
        Need("flava.is_multimodal", (True,), "it has a multimodal encoder"),
        Need("form.vision.pooling", ("class",), "its image tower has a class token"),
        Need("form.vision.pre_norm", (False,), "its image tower has no LayerNorm before the blocks"),
        Need("form.vision.projection", ("affine",), "its projection has a bias"),
        Need("form.text.pooling", ("first",), "its text tower reads the start token"),
        Need("form.text.embedding_norm", (True,), "its text tower has a LayerNorm after the embeddings"),
        Need("form.text.causal", (False,), "its text tower is not causal"),
        Need("form.text.projection", ("affine",), "its text projection has a bias"),
        Need("captions.end", (True,), "padding is told by what follows the first end token"),
        Need("captions.fill", (False,), "it does not attend to padding"),
    )

    def config(self, params: Params, tokenizer: CaptionTokenizer) -> FlavaConfig:
        """Return their configuration."""
        both, flava = towers(params, tokenizer), params.flava
        text = both["text_config"] | {"vocab_size": tokenizer.vocabulary + 1}
        image = both["vision_config"] | {"vocab_size": params.codebook.codes}
        joint = blocks(flava.multimodal, params.form.vision)
        return FlavaConfig(
            image_config=image, text_config=text, multimodal_config=joint, hidden_size=flava.multimodal.width,
            projection_dim=params.embedding, init_codebook=False,
        )  # fmt: skip

    def build(self, params: Params, tokenizer: CaptionTokenizer) -> PreTrainedModel:
        return FlavaModel(self.config(params, tokenizer))

    def write_tokenizer(self, tokenizer: CaptionTokenizer, folder: Path) -> None:
        write_tokenizer(tokenizer, folder, hides_words=True)

    def load(self, source: Path, architecture: str | None = None) -> Loaded:
        loaded = super().load(source, architecture)
        model = loaded.model

        def inputs(ids: Tensor | None) -> dict[str, Tensor]:
            assert ids is not None  # captions
            return {"input_ids": ids, "attention_mask": attention_mask(ids, loaded.tokenizer)}

        loaded.encode_image = lambda images: pooled(model.get_image_features(pixel_values=images))[:, 0]
        loaded.encode_text = lambda ids: pooled(model.get_text_features(**inputs(ids)))[:, 0]
        loaded.further = lambda pixels, ids: model(pixel_values=pixels, **inputs(ids)).multimodal_embeddings[:, 0]
        return loaded

    def further(self, model: TwoTowers, images: Tensor, ids: Tensor) -> Tensor:
        """Return the class token of the multimodal encoder for images and captions, [batch, width]."""
        multimodal: Any = model.passes["flava"]
        return multimodal.class_states(model, images, ids)

    def fills(self, loaded: Loaded) -> bool:
        return False

    def state(self, loaded: Loaded) -> dict[str, Tensor]:
        """Return the weights of both towers, with the one token type that is used added to the positions."""
        found = dict(loaded.model.state_dict())
        types = found.pop("text_model.embeddings.token_type_embeddings.weight")
        found["text_model.embeddings.position_embeddings.weight"] = (
            found["text_model.embeddings.position_embeddings.weight"] + types[0]
        )
        left = ("multimodal_model.", "image_to_mm", "text_to_mm")
        return {
            name: tensor
            for name, tensor in found.items()
            if not name.startswith(left) and "pooler" not in name and "mask_token" not in name
        }

    def describe(self, loaded: Loaded, source: Path, architecture: str | None) -> dict[str, Any]:
        found = super().describe(loaded, source, architecture)
        return merge(found, {"model": {"embedding": loaded.model.config.projection_dim}})


class FlavaPretraining(FlavaTowers):
    """Convert to FlavaForPreTraining, with its heads; FlavaTowers reads its folders, too."""

    name = "transformers' FlavaForPreTraining"
    table = FLAVA_PRETRAINING
    zeros = frozenset(f"flava.{name}" for name in FlavaTowers.zeros)
    note = (
        "Its poolers are zero: FLAVA's losses do not train them. transformers does not have the image tokenizer "
        "whose codes it predicts: pass `mim_labels` from the one that `flip.train.image_tokenizer` trained."
    )
    needs = (
        *FlavaTowers.needs,
        Need("flava.is_complete", (True,), "it has a head for each loss"),
        Need("is_of_one_width", (True,), "its heads are as wide as the towers"),
    )

    def build(self, params: Params, tokenizer: CaptionTokenizer) -> PreTrainedModel:
        return FlavaForPreTraining(self.config(params, tokenizer))
