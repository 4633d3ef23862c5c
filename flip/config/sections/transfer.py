"""Define parameters of transfer: heads on frozen features, and end-to-end fine-tuning of the image tower."""

from typing import Self

from pydantic import Field, model_validator

from flip.config.sections.data import Augmentation
from flip.config.sections.model import Tower
from flip.config.sections.types import Batch, Count, Natural, Part, Place, Rate, Section

LAYOUT = (
    "a folder in clip-benchmark's webdataset layout with train and test, whose images are not looked for in the "
    "training data, so name a set with the same ones in evaluate.sets, too; null: the scale has none"
)


class Schedule(Section):
    """Describe AdamW over a number of steps."""

    steps: Count
    batch: Batch = Field(description="captions, questions or images per step")
    lr: Rate = Field(description="learning rate after the warm-up; a cosine leads it to 0")
    warmup: Part = Field(description="share of the steps over which the learning rate grows")
    weight_decay: float = Field(ge=0, le=10)


class Finetuning(Schedule):
    """Describe fine-tuning of the image tower with a new linear classifier on its pooled features (FLIP, Table 12), on
    the training split of each set of which a table names `<set>-finetuned`."""

    layer_decay: float = Field(description="ratio of a layer's learning rate to that of the layer above it", gt=0, le=1)
    smoothing: Part = Field(description="share of the target that is spread over all classes")
    augmentation: Augmentation


class Transfer(Schedule):
    """Describe heads for captioning and visual question answering on frozen patch features, for variants of which a
    table names such metrics (FLIP, section 4.2, trains the tower, too)."""

    caption: Place | None = Field(
        description=f"'world', or {LAYOUT}; beside each image a .txt of captions, a line each (as COCO's)"
    )
    nocaps: Place | None = Field(
        description="a folder as for caption, of which the test split alone is read: what captions are tested on, too, "
        "and by domain, where a .domain says it beside each image (as nocaps); null: the scale has none"
    )
    vqa: Place | None = Field(
        description=f"'world', or {LAYOUT}; beside each image a .json of "
        '[{"question": text, "answers": [those of all annotators]}] (as VQAv2)'
    )
    words: Natural = Field(description="words of a caption or a question at most", le=1000)
    least: Count = Field(description="times that a word, or an answer, must occur in the training split to be known")
    captioning: Tower = Field(description="encoder, and decoder that attends to it")
    fusion: Tower = Field(description="encoder of patches and question together")
    finetuning: Finetuning

    @model_validator(mode="after")
    def has_a_folder_for_nocaps(self) -> Self:
        if self.nocaps == "world":
            raise ValueError("nocaps = 'world', which has no such set; give a folder, or null")
        return self
