"""Define by what a variant's pairs are chosen among those of its scale."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from flip.config.sections.types import Place, Section, Tiny

# Keys that each policy reads; of a pair of keys, one is given.
KEYS = {
    "clip-score": ({"by"}, {"share", "threshold"}),
    "frequency": ({"share", "word_threshold"}, set()),
    "balance": ({"cap"}, set()),
}
MAY = {"balance": {"entries"}}


class Curation(Section):
    """Describe which pairs are kept. Epochs count the pairs of the scale, kept or not, so that variants of equal epochs
    take equal compute."""

    policy: Literal["clip-score", "frequency", "balance"] = Field(
        description="rule of selection: cosines of a trained model's features (CLIP score), rare words in captions "
        "(WFPP), or balanced entries in captions (MetaCLIP)"
    )
    by: Place | None = Field(
        None, description="model for clip-score: a variant, or a folder (with a /) that `flip import` made"
    )
    share: Annotated[float, Field(gt=0, le=1)] | None = Field(None, description="share of the pairs to keep")
    threshold: float | None = Field(None, description="smallest cosine that clip-score keeps", ge=-1, le=1)
    word_threshold: Tiny | None = Field(
        None, description="t of frequency: a word of frequency f counts 1 - sqrt(t / f)"
    )
    cap: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None,
        description="approximate limit of pairs per entry for balance, as a share of all pairs (MetaCLIP's t over its "
        "pool size)",
    )
    entries: Place | None = Field(
        None, description="file of entries for balance, one per line; null: all words of the captions"
    )

    @model_validator(mode="after")
    def has_the_keys_of_its_policy(self) -> Self:
        needed, one_of = KEYS[self.policy]
        given = {key for key in type(self).model_fields if key != "policy" and getattr(self, key) is not None}
        if missing := needed - given:
            raise ValueError(f"policy = '{self.policy}' needs {', '.join(sorted(missing))}")
        if one_of and len(one_of & given) != 1:
            raise ValueError(f"policy = '{self.policy}' takes one of {' and '.join(sorted(one_of))}")
        if surplus := given - needed - one_of - MAY.get(self.policy, set()):
            raise ValueError(f"policy = '{self.policy}' does not read {', '.join(sorted(surplus))}; leave it out")
        return self

    @property
    def text(self) -> str:
        """Say it in words: 'frequency, 50% kept'."""
        kept = {"share": "{:.4g}% kept", "threshold": "cosines from {:g} on", "cap": "{:.4g}% of each entry"}
        given = [(words, getattr(self, key)) for key, words in kept.items() if getattr(self, key) is not None]
        words = [one.format(value if "cosines" in one else 100 * value) for one, value in given]
        return ", ".join([self.policy, *([f"by {self.by}"] if self.by else []), *words])

    @property
    def reads_words(self) -> bool:
        """Tell whether it reads how often words are in all captions."""
        return self.policy == "frequency"

    @property
    def reads_mentions(self) -> bool:
        """Tell whether it counts first how many captions mention each entry."""
        return self.policy == "balance"

    def check(self, params: object) -> None:
        """Raise ValueError where samples are not pairs."""
        if getattr(params, "mix", None) is not None:
            raise ValueError("curation chooses pairs, and flava.mix uses them as other things; set curation to null")
