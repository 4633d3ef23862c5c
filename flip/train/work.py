"""Say what one process works on in a training step: pairs, their parts, captions. Imports no torch."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from flip.config.schema import Mix, Params
from flip.config.sections.resources import Training
from flip.files import read_json

# open_clip's SimpleTokenizer; the others' size is in params.yaml.
CLIP_VOCABULARY = 49408


@dataclass(frozen=True)
class Work:
    """Hold one process's share of a step.

    params: with captions of the mean length as its slots of text, all of which are full.
    pairs: pairs of its own; processes: how many share the global batch; part: pairs whose activations are held at a
    time.
    """

    params: Params
    pairs: int
    processes: int
    part: int

    @property
    def whole(self) -> bool:
        """Tell whether the step runs over all its pairs at once (train/gradcache.py does otherwise)."""
        return not self.params.train.micro_batch


def changed(params: Params, section: str, **values: object) -> Params:
    """Return parameters with other values in one section."""
    return params.model_copy(update={section: getattr(params, section).model_copy(update=values)})


def captioned(params: Params, mean: float | None) -> Params:
    """Return parameters for captions that all have `mean` tokens (start and end included; None: all slots).

    Random masking draws from all slots, so it removes its share of any length; prioritized masking takes padding first
    (FLIP, section 3), so it leaves as many tokens as before of what is there.
    """
    slots = params.model.tokens
    length = slots if params.captions.fill or mean is None else max(min(round(mean), slots), 1)
    kept = min(params.kept_tokens, length)
    if params.masking.text and params.masking.text_policy != "random":
        params = changed(params, "masking", text=(length - kept - 0.5) / length if kept < length else 0.0)
    return changed(params, "model", tokens=length)


def work(params: Params, processes: int = 1, caption: float | None = None) -> Work:
    """Return the share of one of `processes`; captions fill all slots where no mean length is given."""
    pairs = -(-params.train.global_batch // processes)
    return Work(captioned(params, caption), pairs, processes, min(params.train.micro_batch or pairs, pairs))


def in_parts(work: Work, size: int | None) -> Work:
    """Return the same share in micro-batches of so many pairs; None: whole."""
    params = changed(work.params, "train", micro_batch=size)
    return replace(work, params=params, part=min(size or work.pairs, work.pairs))


def turns(params: Params) -> Iterator[tuple[float, Params]]:
    """Give each kind of step, with its share of the steps, as parameters of its own: in each part of a training
    (`parts`), each type of batch that takes turns (flava.mix)."""
    for part, these in parts(params):
        for name, share in these.flava.mix.shares.items():
            mix = these.flava.mix.model_copy(update=dict.fromkeys(Mix.model_fields, 0.0) | {name: 1.0})
            yield part * share, changed(these, "flava", mix=mix)


def parts(params: Params) -> Iterator[tuple[float, Params]]:
    """Give each part of a training in which the same objectives have losses, with its share of the steps."""
    starts = sorted({0.0, *(one.begins for one in params.objectives.values())})
    for start, end in zip(starts, [*starts[1:], 1.0], strict=True):
        yield end - start, params.model_copy(update={name: one.at(start) for name, one in params.objectives.items()})


def job_gpus(job: Training) -> int:
    """Return the GPUs that a job of the cluster holds: nodes x processes per node x GPUs per process."""
    return job.nodes * job.processes * job.gpus


def vocabulary(params: Params) -> int:
    """Return the entries of the token embedding: WordPiece, trained here, gets start and end tokens where captions have
    them."""
    tokenizer, captions = params.tokenizer, params.captions
    if captions.tokenizer_file:
        return read_json(captions.tokenizer_file)["vocabulary"]
    if "clip" in (tokenizer.kind, captions.tokenizer):
        return CLIP_VOCABULARY
    if captions.translated:
        return tokenizer.multilingual + captions.start + captions.end
    return tokenizer.vocabulary + (captions.start + captions.end if tokenizer.kind == "wordpiece" else 0)
