"""Describe the parameters of self-distillation from an average of the image tower."""

from typing import Any, ClassVar

from pydantic import Field

from flip.config.objectives.section import IMAGE, Facts, ObjectiveSection
from flip.config.sections.data import Views
from flip.config.sections.masking import must_keep
from flip.config.sections.types import Few, Part, Share, Temperature, Weight, Width


class SelfDistillation(ObjectiveSection):
    """Describe losses whose targets come from a teacher, the moving average of the image tower, which sees the whole
    image: small crops predict its image feature (`local`: DINO, SILC), masked patches its patch states (`masked`: iBOT,
    TIPS). SigLIP 2 adds both for the last part of its training."""

    weights: ClassVar[tuple[str, ...]] = ("local", "masked")
    trains_pooling: ClassVar[bool] = True
    facts: ClassVar[Facts] = {
        "self-distillation": (
            lambda one: " + ".join(f"{weight:g} {name}" for name in one.weights if (weight := getattr(one, name))),
            weights,
        ),
        "from": (lambda one: f"{100 * one.starts_at:g}% of training" if one.wanted else "", ("starts_at",)),
    }

    local: Weight = Field(
        description="weight of the local loss: local crops predict the teacher's feature of the image (SigLIP 2: 1.0)"
    )
    masked: Weight = Field(
        description="weight of the masked loss: predict the teacher's states of masked patches (SigLIP 2: 0.25)"
    )
    starts_at: Part = Field(description="share of the training before these losses begin (SigLIP 2: 0.8)")
    momentum: Share = Field(description="momentum of the EMA teacher: share of its weights kept at each step")
    crops: Few = Field(description="local crops per image (SigLIP 2: 8)")
    crop: Share = Field(
        description="side of a local crop relative to the image's, rounded to whole patches (DINO: 96 of 224)"
    )
    views: Views
    mask_image: Share = Field(description="share of patches to mask (SigLIP 2: 0.5)")
    hidden: Width = Field(description="width of the heads' two hidden layers")
    width: Width = Field(description="width of the prototypes")
    prototypes: Width = Field(description="number of prototypes, the classes that teacher and student predict")
    temperature: Temperature = Field(
        description="temperature by which the student's cosines with prototypes are divided"
    )
    teacher_temperature: Temperature = Field(description="temperature by which the teacher's cosines are divided")
    center_momentum: Share = Field(description="momentum of the centre, the moving average of the teacher's outputs")

    @property
    def reads_patches(self) -> bool:
        return bool(self.masked)

    @property
    def towers(self) -> frozenset[str]:
        return frozenset({IMAGE})

    def crop_grid(self, grid: int) -> int:
        """Return the number of patches along the side of a local crop, of images with `grid` of them."""
        return max(round(self.crop * grid), 1)

    def masked_patches(self, patches: int) -> int:
        """Return the number of masked patches of an image."""
        return int(self.mask_image * patches + 1e-6)

    def check(self, params: Any) -> None:
        patches = params.model.patches
        if params.image_tower.locked or params.train.lora:
            raise ValueError(
                "self_distillation averages a tower that learns as a whole: set image_tower.lr_scale above 0 and "
                "train.lora to null, or its weights to 0"
            )
        if self.starts_at and len(params.objectives) == 1:
            raise ValueError("self_distillation.starts_at leaves the steps before it without a loss: set it to 0")
        if self.local and params.simclr.weight:
            raise ValueError("self_distillation.local and simclr.weight ask for other views of an image: set one to 0")
        if self.masked:
            masked = self.masked_patches(patches)
            must_keep("self_distillation.mask_image", patches - masked, patches)
            must_keep("1 - self_distillation.mask_image", masked, patches)
