"""Describe the parameters of a captioning decoder."""

from typing import Any, ClassVar, Literal

from pydantic import Field

from flip.config.objectives.section import IMAGE, TEXT, Facts, ObjectiveSection
from flip.config.sections.types import Few, Share, Weight


class Captioning(ObjectiveSection):
    """Describe a decoder that predicts captions from images (CoCa, Yu et al. 2022; CapPa and SigLIP 2's, for the part
    without boxes). It is as wide as the text tower, and has as many heads."""

    facts: ClassVar[Facts] = {
        "captioning weight": (lambda one: f"{one.weight:g}", ("weight",)),
        "predicted in parallel": (lambda one: f"{100 * one.parallel:g}%" if one.weight else "", ("parallel",)),
        "decoder": (
            lambda one: (
                (
                    f"{one.layers} layers on {one.input.replace('_', ' ')}"
                    + f", {one.queries} queries" * bool(one.queries)
                )
                if one.weight
                else ""
            ),
            ("layers", "input", "queries"),
        ),
    }

    weight: Weight = Field(description="weight of the loss; 0 builds no decoder")
    layers: Few = Field(description="decoder blocks: causal attention, attention to the image, MLP")
    input: Literal["text_tower", "tokens"] = Field(
        description="input of the first block: states of the causal text tower (CoCa), or its own embeddings"
    )
    queries: Few | None = Field(
        description="number of learned queries that pool the patches for the decoder (CoCa); null: it reads all patches"
    )
    parallel: Share = Field(
        description="share of captions predicted in parallel, all tokens at once from the image alone (CapPa; SigLIP "
        "2: 0.5)"
    )

    @property
    def reads_patches(self) -> bool:
        return True

    @property
    def towers(self) -> frozenset[str]:
        return frozenset({IMAGE, TEXT} if self.input == "text_tower" else {IMAGE})

    def check(self, params: Any) -> None:
        if params.image_tower.locked:
            raise ValueError(
                "captioning.weight reads patches, of which a locked image tower keeps nothing: set it to 0, or "
                "image_tower.lr_scale above 0"
            )
        if self.input != "text_tower":
            return
        if not (params.form.text.causal and params.captions.start):
            raise ValueError(
                "captioning.input = 'text_tower' predicts each token from the states of those before it: set "
                "form.text.causal and captions.start to true, or use 'tokens'"
            )
        if params.masking.text or self.parallel:
            raise ValueError(
                "captioning.input = 'text_tower' needs all tokens: set masking.text and captioning.parallel to 0, or "
                "use 'tokens'"
            )
