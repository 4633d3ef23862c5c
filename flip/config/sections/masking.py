"""Define parameters of masks: which patches and tokens a training step leaves out."""

from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from flip.config.sections.types import Section, Share

if TYPE_CHECKING:
    from flip.config.sections.data import Captions

BY_WORDS = ("frequency", "syntax")
# Keys that some policies read: side of the pair that is masked, and these policies.
READ_BY = {
    "anchors": ("image", ("cluster", "pgs", "pgs-edges", "pgs-transport")),
    "momentum": ("image", ("attentive",)),
    "gaussian_variance": ("image", ("gaussian",)),
    "frequency_threshold": ("text", ("frequency",)),
}


class Masking(Section):
    image: Share = Field(description="share of patches removed; a class token always stays")
    text: Share = Field(description="share of token positions removed")
    image_policy: Literal[
        "random", "grid", "block", "gaussian", "cluster", "pgs", "pgs-edges", "pgs-transport", "attentive"
    ] = Field(
        "random",
        description="patches to keep: random; the same number in each 2 x 2 window (grid, CLIPA); all but a block "
        "(CLIPA); more near the centre (gaussian, GLIP); those least similar to random anchors (cluster "
        "masking; CLIP-PGS, whole or one of its parts); or those that an EMA of the tower attends to "
        "(attentive, A-CLIP)",
    )
    views: int = Field(
        1,
        description="crops of each image for contrastive losses, each with its own mask (A-CLIP: 2)",
        ge=1,
        le=2,
    )
    anchors: float = Field(
        0.05,
        description="share of patches that are anchors, for image_policy cluster and pgs (CLIP-PGS: 0.05)",
        gt=0,
        le=1,
    )
    momentum: float = Field(
        0.996,
        description="initial momentum of the EMA weights for image_policy attentive; rises to 1 along a cosine",
        ge=0,
        le=1,
    )
    gaussian_variance: float = Field(
        0.2, description="variance of the density for image_policy gaussian, over [-1, 1]", ge=0.01, le=100
    )
    text_policy: Literal["random", "prioritized", "truncation", "block", "frequency", "syntax"] = Field(
        description="prioritized removes padding first; truncation keeps the first tokens; block keeps contiguous "
        "tokens; frequency keeps rare words more often (CLIPF); syntax keeps nouns before adjectives, "
        "verbs and others (CLIPA)"
    )
    frequency_threshold: float = Field(
        1e-6,
        description="t of text_policy frequency, which removes a word of frequency f with probability 1 - sqrt(t / f)",
        gt=0,
        le=1,
    )

    @model_validator(mode="after")
    def keys_are_read(self) -> Self:
        for key, (side, policies) in READ_BY.items():
            value, policy = getattr(self, key), getattr(self, f"{side}_policy")
            if getattr(self, side) and policy not in policies and value != type(self).model_fields[key].default:
                raise ValueError(
                    f"{key} = {value:g} is not read by {side}_policy = '{policy}', but by {', '.join(policies)}: leave "
                    "it out, or choose one of these"
                )
        return self

    @property
    def is_attentive(self) -> bool:
        """Return whether patches are chosen by what a slow copy of the image tower attends to."""
        return bool(self.image) and self.image_policy == "attentive"

    @property
    def reads_words(self) -> bool:
        """Return whether what is kept of a caption depends on its words."""
        return bool(self.text) and self.text_policy in BY_WORDS

    def check_views(self, params: Any) -> None:
        """Raise ValueError where an image has a second view, and nothing would read it, or not as it is."""
        if self.views == 1:
            return
        if not (params.contrastive.weight or params.sigmoid.weight):
            raise ValueError(
                "masking.views = 2 is read by losses of pairs alone: set contrastive.weight or sigmoid.weight above 0, "
                "or masking.views to 1"
            )
        others = ("noise.images", "simclr.weight", "self_distillation.local")
        for key, value in ((key, attrgetter(key)(params)) for key in others):
            if value:
                raise ValueError(
                    f"masking.views = 2 cannot be combined with {key} = {value:g}: set {key} to 0 or masking.views to 1"
                )

    def check_words(self, captions: "Captions") -> None:
        """Raise ValueError where masks choose by words, and captions have others than those that are known."""
        if not self.reads_words:
            return
        if captions.translated:
            raise ValueError(
                f"masking.text_policy = '{self.text_policy}' counts the words of captions as they come: set "
                f"captions.languages to [en], or use another policy; it has {', '.join(captions.languages)}"
            )


def must_keep(key: str, kept: int, slots: int) -> None:
    """Raise ValueError where a mask, named by its key, leaves no position."""
    if kept < 1:
        raise ValueError(f"{key} keeps none of the {slots} positions; allowed: 0 to {1 - 1 / slots:.4f}")
