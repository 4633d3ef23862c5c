"""Measure what it costs to choose patches and tokens: a training step of each policy against one at random.

    python -m benchmarks.reductions                      # a small model and B/16: about 20 minutes on one core
    python -m benchmarks.reductions --models small --rounds 9

Both steps keep as many patches, or tokens, of the same batch; merging, which shrinks from block to block, is beside a
mask of a half. A step includes what the loader does for the policy.
"""

import argparse
import statistics
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks import steps
from benchmarks.harness import Form, measure
from benchmarks.table import Row, against, alone, arguments, attempt, publish
from flip.config.faults import check
from flip.config.frozen import merge
from flip.config.schema import Params
from flip.data.syntax import PARTS, words_of
from flip.data.tokenizer import CaptionTokenizer
from flip.data.word_counts import write_counts
from flip.data.word_scores import WordScores

LIMIT = 1.03  # of a step's time over that at random
IMAGES: dict[str, dict[str, Any]] = {
    policy: {"masking": {"image": 0.5, "image_policy": policy}}
    for policy in ("grid", "block", "gaussian", "cluster", "pgs", "attentive")
} | {"merged tokens": {"masking": {"image": 0.0}, "form": {"vision": {"merged": 0.98}}}}
UNLIMITED = ("attentive", "merged tokens")  # they compute something else
CAPTIONS: dict[str, dict[str, Any]] = {
    policy: {"masking": {"text": 0.5, "text_policy": policy}} for policy in ("syntax", "frequency")
}
AT_RANDOM = {"masking": {"image": 0.5}}
PRIORITIZED = {"masking": {"text": 0.5, "text_policy": "prioritized"}}


def parameters(name: str, delta: dict[str, Any], batch: int) -> Params:
    """Return the parameters of a model with such masks, whose features are means."""
    base = steps.parameters(name, 0.5, batch).model_dump(mode="json")
    pooling = {"form": {"vision": {"pooling": "mean"}, "text": {"pooling": "mean"}}}
    return check(Params, merge(merge(base, pooling), delta), f"{name} with {delta}")


def captions(count: int) -> list[str]:
    """Make up captions of 5 to 20 words, the frequent ones as often as Zipf's law says."""
    words, generator = [word for part in PARTS for word in words_of("en", part)], torch.Generator().manual_seed(0)
    weights = 1 / torch.arange(1, len(words) + 1)
    lengths = torch.randint(5, 21, (count,), generator=generator).tolist()
    draws = torch.multinomial(weights, 20 * count, replacement=True, generator=generator).view(count, 20).tolist()
    return [" ".join(words[one] for one in row[:length]) for row, length in zip(draws, lengths, strict=True)]


def word_scores(params: Params, tokenizer: CaptionTokenizer, texts: list[str]) -> WordScores:
    """Return what the loader does to batches for masks by words."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "words.parquet"
        write_counts(Counter(word for text in texts for word in text.split()), path)
        return WordScores(params.masking, tokenizer, path, 0)


def build(name: str, delta: dict[str, Any], batch: int) -> Callable[[], object]:
    """Return a function that makes one training step."""
    params = parameters(name, delta, batch)
    data, texts = steps.make_batch(params), captions(batch)
    tokenizer = CaptionTokenizer("", params.model.tokens, params.captions)
    data["ids"] = torch.from_numpy(tokenizer(texts))
    ours = steps.Ours(params, data)
    if not params.masking.reads_words:
        return ours.step
    scores = word_scores(params, tokenizer, texts)
    return lambda: ours.run.step(scores(data))


def compare(name: str, batch: int, rounds: int) -> Iterator[Row]:
    """Yield a row for each policy of one model, which takes turns with its peer alone."""
    for policy, delta in (IMAGES | CAPTIONS).items():
        peer, other = ("prioritized", PRIORITIZED) if policy in CAPTIONS else ("at random", AT_RANDOM)
        forms = {key: Form(build, (name, one, batch), keep=True) for key, one in ((policy, delta), (peer, other))}
        found = measure(forms, rounds)
        title, ours, theirs = f"{name}, {policy}: time per pair", found[policy].seconds, found[peer].seconds
        if policy in UNLIMITED:
            share = statistics.median(one / other for one, other in zip(ours, theirs, strict=True))
            yield alone(title, "s", ours, per=batch, note=f"{share:.2f} times as long as at random, computing more")
        else:
            yield against(title, "s", ours, peer, theirs, per=batch, at_most=LIMIT)


def rows(options: argparse.Namespace) -> Iterator[Row]:
    """Yield the rows of all models."""
    for name in options.models:
        yield from attempt(name, partial(compare, name, steps.BATCHES[name], options.rounds))


def main(argv: Sequence[str] | None = None) -> None:
    """Run the comparison by the options of the command line."""
    parser = arguments("reductions", __doc__ or "")
    parser.add_argument("--models", nargs="+", default=["small", "b16"], choices=[*steps.BATCHES], help="which models")
    options = parser.parse_args(argv)
    if options.dry:
        options.models, options.rounds = ["dry"], 1
    how = {"rounds": options.rounds, "threads": 1, "precision": "float32", "share kept": 0.5}
    publish("reductions", rows(options), options.results, how)


if __name__ == "__main__":
    main()
