"""What one process works on in a training step: pairs, patches, words. Imports no torch."""

from dataclasses import dataclass, replace

from flip.config.schema import Job, Params

# open_clip's SimpleTokenizer; the others' size is in params.yaml.
CLIP_VOCABULARY = 49408


@dataclass(frozen=True)
class Work:
    """One process's share of a step.

    pairs: pairs of its own; everyone: of all processes together; part: pairs whose activations are held at a time.
    words: tokens that the text tower sees per caption, mean; longest: slots that its attention looks at.
    caption: tokens of a caption, mean; shown: those that the masked pass over both modalities sees.
    """

    params: Params
    pairs: int
    everyone: int
    part: int
    words: float
    longest: float
    caption: float
    shown: float

    @property
    def processes(self) -> int:
        return self.everyone // self.pairs

    @property
    def whole(self) -> bool:
        """Whether the step runs over all its pairs at once (train/accumulate.py does otherwise)."""
        return not self.params.train.micro_batch


def kept_words(params: Params, caption: float) -> float:
    """Tokens left of a caption of `caption` tokens (start and end included) on average: random masking draws from
    all slots, prioritized masking takes padding first (FLIP, section 3). Exact where all captions have one length."""
    if params.masking.text_policy == "prioritized":
        return min(caption, params.kept_tokens)
    return caption * params.kept_tokens / params.model.tokens


def work(params: Params, gpus: int = 1, caption: float | None = None) -> Work:
    """The share of one of `gpus` processes; captions fill all slots where no mean length is given.

    In a batch of thousands some caption fills all slots, so attention looks at all of them in any case.
    """
    train, tokens = params.train, params.model.tokens
    pairs = -(-train.global_batch // gpus)
    caption = tokens if params.captions.fill or caption is None else min(caption, tokens)
    words, shown = kept_words(params, caption), caption * params.generative.kept(params.model)[1] / tokens
    part = min(train.micro_batch or pairs, pairs)
    return Work(params, pairs, pairs * gpus, part, words, params.kept_tokens, caption, shown)


def views(work: Work) -> list[Work]:
    """What SimCLR's views ask of the image tower: two whole pictures per pair; nothing where its loss has no weight."""
    params = work.params
    if not params.simclr.weight:
        return []
    unmasked = params.model_copy(update={"masking": params.masking.model_copy(update={"image": 0.0})})
    return [replace(work, params=unmasked, pairs=2 * work.pairs, everyone=2 * work.everyone, part=2 * work.part)]


def job_gpus(job: Job) -> int:
    """GPUs that a job of the cluster holds: nodes x processes per node x GPUs per process."""
    return job.nodes * job.processes * job.gpus


def vocabulary(params: Params) -> int:
    """Entries of the token embedding: WordPiece, trained here, gets start and end tokens where captions have them."""
    tokenizer, captions = params.tokenizer, params.captions
    if "clip" in (tokenizer.kind, captions.tokenizer):
        return CLIP_VOCABULARY
    if captions.translated:
        return tokenizer.multilingual + captions.start + captions.end
    return tokenizer.vocabulary + (captions.start + captions.end if tokenizer.kind == "wordpiece" else 0)
