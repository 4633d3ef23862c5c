"""Define parameters of transfer: heads on frozen features, and end-to-end fine-tuning of the image tower."""

from typing import Self

from pydantic import Field, model_validator

from flip.config.sections.data import Augmentation
from flip.config.sections.model import Tower
from flip.config.sections.types import Batch, Count, Natural, Part, Place, Rate, Section

LAYOUT = (
    "a folder in clip-benchmark's webdataset layout with train and test; duplicates of its images are not removed from "
    "the training data, so name a set with the same images in evaluate.sets, too; null: none"
)


class Schedule(Section):
    """Describe AdamW over a number of steps."""

    steps: Count
    batch: Batch = Field(description="captions, questions or images per step")
    lr: Rate = Field(description="peak learning rate, after the warm-up; decays to 0 along a cosine")
    warmup: Part = Field(description="share of the steps used for warm-up")
    weight_decay: float = Field(ge=0, le=10)


class Finetuning(Schedule):
    """Describe fine-tuning of the image tower with a new linear classifier on its pooled features (FLIP, Table 12), on
    the training split of each set of which a table names `<set>-finetuned`."""

    layer_decay: float = Field(
        description="layer-wise decay: ratio of a layer's learning rate to that of the layer above it", gt=0, le=1
    )
    smoothing: Part = Field(description="label smoothing: share of the target spread over all classes")
    augmentation: Augmentation


class Transfer(Schedule):
    """Describe heads for captioning and visual question answering on frozen patch features, for variants of which a
    table names such metrics (FLIP, section 4.2, trains the tower, too)."""

    caption: Place | None = Field(
        description=f"'world', or {LAYOUT}; next to each image is a .txt of captions, one per line (as COCO's)"
    )
    nocaps: Place | None = Field(
        description="additional test set for captioning: a folder as for caption, of which only the test split is "
        "read; scored by domain if there is a .domain file next to each image (as nocaps); null: none"
    )
    vqa: Place | None = Field(
        description=f"'world', or {LAYOUT}; next to each image is a .json of "
        '[{"question": text, "answers": [those of all annotators]}] (as VQAv2)'
    )
    words: Natural = Field(description="largest number of words of a caption or a question", le=1000)
    least: Count = Field(
        description="smallest count of a word or an answer in the training split to be in the vocabulary"
    )
    captioning: Tower = Field(description="encoder, and decoder that attends to it")
    fusion: Tower = Field(description="encoder of patches and question together")
    finetuning: Finetuning

    @model_validator(mode="after")
    def has_a_folder_for_nocaps(self) -> Self:
        if self.nocaps == "world":
            raise ValueError("nocaps = 'world', which has no such set; give a folder, or null")
        return self
