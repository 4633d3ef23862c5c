"""Evaluation against clip-benchmark's: recall at k of a retrieval set, and the zero-shot head of a class list.

    python -m benchmarks.evaluation                       # 5,000 pictures x 25,000 captions; 100 classes x 80 prompts

Both get the same features, or the same weights and token ids, and must give the same numbers. Retrieval is features
to recalls, with the product of all with all, which `the product alone` is. The head is the text tower's; texts are
token ids beforehand on both sides, and clip-benchmark has open_clip's model, which computes padding and one class at a
time.
"""

import torch
import torch.nn.functional as F

from benchmarks.harness import Form, called, measure, peer, same
from benchmarks.steps import VOCABULARY, WORDS, Ours, Theirs, make_batch, parameters
from benchmarks.table import against, arguments, attempt, publish
from flip.evaluate import retrieval, zeroshot
from flip.evaluate.encoders import Full
from flip.model.text import PAD

CAPTIONS = 5  # of a picture
BATCH = 64  # clip-benchmark's


def features(pictures: int, width: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Unit features of pictures and captions that are near their own, and each caption's picture."""
    generator = torch.Generator().manual_seed(0)
    owners = torch.arange(pictures).repeat_interleave(CAPTIONS)
    images = F.normalize(torch.randn(pictures, width, generator=generator), dim=-1)
    noise = F.normalize(torch.randn(len(owners), width, generator=generator), dim=-1)
    return images, F.normalize(images[owners] + 4 * noise, dim=-1), owners


def ours(images, texts, owners) -> list[float]:
    found = retrieval.places((texts @ images.T).numpy(), owners.numpy())
    return [float((before < k).mean()) for before in found for k in retrieval.RECALLS]


def theirs(images, texts, owners) -> list[float]:
    """What `evaluate` of clip_benchmark.metrics.zeroshot_retrieval does after its features."""
    benchmark = peer("clip_benchmark.metrics.zeroshot_retrieval")
    scores = texts @ images.T
    right = torch.zeros_like(scores, dtype=bool)
    right[torch.arange(len(scores)), owners] = True
    sides = ((scores, right), (scores.T, right.T))
    return [
        (benchmark.batchify(benchmark.recall_at_k, *side, BATCH, "cpu", k=k) > 0).float().mean().item()
        for side in sides
        for k in retrieval.RECALLS
    ]


def product(images, texts, owners) -> list[float]:
    texts @ images.T
    return []


RETRIEVAL = {"flip": ours, "clip-benchmark": theirs, "product": product}


def searched(who: str, pictures: int, width: int):
    inputs = features(pictures, width)
    return lambda: RETRIEVAL[who](*inputs)


def retrieve(pictures: int, width: int, rounds: int):
    """Rows of time and memory."""
    small = features(min(pictures, 500), width)
    same("recalls", ours(*small), theirs(*small), 1e-6)
    found = measure({who: Form(searched, (who, pictures, width), keep=True) for who in RETRIEVAL}, rounds)
    name, who = f"retrieval, {pictures:,} x {CAPTIONS * pictures:,}", called("clip-benchmark")
    mine, other, least = (found[who] for who in RETRIEVAL)
    yield against(f"{name}: time", "s", mine.seconds, who, other.seconds, at_least=25)
    yield against(f"{name}: the product alone", "s", least.seconds, who, other.seconds, note="the bound")
    yield against(f"{name}: memory", "B", [mine.rise], who, [other.rise], note="the scores are most of ours")


def prompts(count: int, slots: int) -> torch.Tensor:
    """Token ids [count, slots] of as many words as captions have."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(WORDS[0], WORDS[1] + 1, (count, 1), generator=generator)
    ids = torch.randint(1, VOCABULARY - 2, (count, slots), generator=generator)
    ids[torch.arange(slots) >= lengths] = PAD
    return ids.scatter_(1, lengths - 1, VOCABULARY - 1)


def headed(who: str, model: str, classes: int, templates: int):
    """The function that makes a head, of weights that both have."""
    params = parameters(model, 0.0, 8)
    batch = make_batch(params)
    one, other = Ours(params, batch), Theirs(params, batch)
    other.copy(one.run)
    ids = prompts(classes * templates, params.model.tokens)
    names, forms = [str(number) for number in range(classes)], [f"{number} {{c}}" for number in range(templates)]

    def tokenize(texts: list[str]) -> torch.Tensor:
        rows = [int(name) * templates + int(form) for form, name in map(str.split, texts)]
        return ids[rows] if who == "flip" else ids[rows].where(ids[rows] != PAD, 0)

    if who == "flip":
        return lambda: zeroshot.head(Full(one.run.model.eval()), tokenize, names, forms, "cpu")
    build = peer("clip_benchmark.metrics.zeroshot_classification").zero_shot_classifier
    return lambda: build(other.model.eval(), tokenize, names, forms, "cpu", amp=False)


def heads(model: str, classes: int, templates: int, rounds: int):
    """A row of time."""
    kinds = ("flip", "clip-benchmark")
    one, other = (headed(who, model, min(classes, 4), templates)() for who in kinds)
    note = f"weights equal to {same('head', one, other, 1e-4):.0e}"
    found = measure({who: Form(headed, (who, model, classes, templates), keep=True) for who in kinds}, rounds)
    name = f"zero-shot head, {classes:,} classes x {templates} prompts, {model} text tower"
    yield against(f"{name}: time", "s", found["flip"].seconds, called("clip-benchmark"),
                  found["clip-benchmark"].seconds, at_least=7, note=note)  # fmt: skip


def rows(options):
    name = f"retrieval, {options.pictures:,} pictures"
    yield from attempt(name, lambda: retrieve(options.pictures, options.width, options.rounds))
    sizes = (options.model, options.classes, options.templates, options.rounds)
    yield from attempt("zero-shot head", lambda: heads(*sizes))


def main(argv=None):
    parser = arguments("evaluation", __doc__)
    parser.add_argument("--pictures", type=int, default=5000, help="of the retrieval set (default: 5,000)")
    parser.add_argument("--width", type=int, default=512, help="of the features (default: 512)")
    parser.add_argument("--classes", type=int, default=100, help="of the head (default: 100)")
    parser.add_argument("--templates", type=int, default=80, help="prompts per class (default: 80)")
    parser.add_argument("--model", default="small", help="whose text tower (default: small; see benchmarks.steps)")
    options = parser.parse_args(argv)
    if options.dry:
        options.pictures, options.width, options.classes, options.templates = 60, 16, 3, 4
        options.model, options.rounds = "dry", 1
    how = {"rounds": options.rounds, "threads": 1, "precision": "float32"}
    publish("evaluation", rows(options), options.results, how)


if __name__ == "__main__":
    main()
