"""Tokenize captions: WordPiece trained on the captions, CLIP's BPE, or bert-base-uncased.

    python -m flip.data.tokenizer --params specs/tiny/params/clip.yaml --manifest data/tiny/manifest.json \\
        --shards data/tiny/shards --out data/tiny/tokenizer.json

Which special tokens are put around a caption is a variant's own choice (`captions` in params.yaml); FLIP's release puts
none.
"""

import argparse
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from flip.config.frozen import load
from flip.config.schema import Captions, Params
from flip.data.batch_types import PAD
from flip.data.shard import open_captions
from flip.data.translations import translations_folder
from flip.files import read_json, write_json

SPECIAL = {"start": "[CLS]", "end": "[SEP]"}
TRAINING_CAPTIONS = 1_000_000  # a vocabulary does not get better from more

Encode = Callable[[list[str]], list[list[int]]]  # captions to token ids


def tokenizer_path(data: str | Path, captions: Captions) -> Path:
    """Return the tokenizer's file of such captions: in a folder of data, or the one that they name."""
    if captions.tokenizer_file:
        return Path(captions.tokenizer_file)
    return (translations_folder(data, captions) if captions.translated else Path(data)) / "tokenizer.json"


class CaptionTokenizer:
    """Convert a list of captions to int64 ids [captions, slots], cut at `slots`, padded with PAD or as `captions` says.

    `encode` returns the ids of their words alone, as lists of any length.

    `path` is the file of the scale, or of captions in several languages (`tokenizer_path`), which `captions` may
    replace by CLIP's.

    Start and end tokens that the vocabulary does not have (WordPiece, as it is trained here) are added to it.
    """

    def __init__(self, path: str | Path, slots: int, captions: Captions):
        self.stored = stored = _clip_definition() if captions.tokenizer == "clip" else read_json(path)
        self.slots, self.vocabulary = slots, stored["vocabulary"]
        self.encode, known = _clip() if stored["kind"] == "clip" else _fast(stored)
        self.before = self._special(known, "start") if captions.start else []
        self.after = self._special(known, "end") if captions.end else []
        self.padding = self.after[0] if captions.fill else PAD

    def _special(self, known: dict, name: str) -> list[int]:
        """Return the id of a special token, new if need be."""
        if name not in known:
            known[name] = self.vocabulary
            self.vocabulary += 1
        return [known[name]]

    def __call__(self, texts: list[str]) -> np.ndarray:
        return self.arranged(self.encode(texts))

    def arranged(self, words: Sequence[Sequence[int] | np.ndarray]) -> np.ndarray:
        """Arrange what `encode` returns with special tokens and padding: int64 [captions, slots]."""
        ids = np.full((len(words), self.slots), self.padding, dtype=np.int64)
        first, room = len(self.before), self.slots - len(self.before) - len(self.after)
        for row, tokens in zip(ids, words, strict=True):
            end = first + min(len(tokens), room)
            row[:first] = self.before
            row[first:end] = tokens[: end - first]
            row[end : end + len(self.after)] = self.after
        return ids


def _fast(stored: dict) -> tuple[Encode, dict[str, int]]:
    """Return a function from captions to lists of ids, and the ids of the special tokens: BERT's, unless others are
    named."""
    from tokenizers import Tokenizer as Fast

    # For one batch its threads cost several times what they bring; the loader has workers of its own.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    fast = Fast.from_str(json.dumps(stored["definition"]))
    fast.no_padding()
    fast.no_truncation()
    ids = {name: fast.token_to_id(token) for name, token in stored.get("special", SPECIAL).items()}
    known = {name: found for name, found in ids.items() if found is not None}
    return lambda texts: [e.ids for e in fast.encode_batch_fast(texts, add_special_tokens=False)], known


def _bpe() -> Any:
    """Build CLIP's BPE, which ships in open_clip."""
    import flip.data.torchvision_operators  # noqa: F401  (before open_clip imports torchvision)

    from open_clip import SimpleTokenizer  # isort: skip

    return SimpleTokenizer()


def _clip() -> tuple[Encode, dict[str, int]]:
    """Return what `_fast` does, of CLIP's BPE."""
    clip = _bpe()
    return lambda texts: [clip.encode(text) for text in texts], {"start": clip.sot_token_id, "end": clip.eot_token_id}


def clip_vocabulary() -> dict[str, int]:
    """Return the ids of the tokens of CLIP's BPE."""
    return _bpe().encoder


def _clip_definition() -> dict:
    """Return the content of tokenizer.json for CLIP's BPE."""
    return {"kind": "clip", "vocabulary": _bpe().vocab_size, "definition": None}


def captions(manifest: dict, folder: Path) -> Iterator[str]:
    """Yield the training captions, shard by shard."""
    for entry in manifest["shards"]:
        yield from open_captions(folder, entry).captions()


def train_wordpiece(texts: Iterable[str], vocabulary: int, accents: bool = False) -> dict:
    """Train a lower-casing WordPiece model of at most `vocabulary` entries, as BERT's, on an iterator of texts.

    Accents are stripped, as in BERT's English models, or kept, composed to one letter: what has them is another letter
    in Russian (й, ё) and German (ü), and may make another word in Spanish.

    The trainer numbers letters in the order of a hash table and breaks ties by those numbers, so that each run would
    find another vocabulary. Letters that it is given keep their order.
    """
    from tokenizers import Tokenizer as Fast
    from tokenizers import models, normalizers, pre_tokenizers, trainers

    normalizer: normalizers.Normalizer
    normalizer, splitter = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    if accents:
        lower = normalizers.BertNormalizer(lowercase=True, strip_accents=False)
        normalizer = normalizers.Sequence([normalizers.NFC(), lower])
    words = Counter(word for text in texts for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text)))
    letters = sorted({letter for word in words for letter in word})
    known = ["[UNK]", *letters, *(f"##{letter}" for letter in letters)]
    trained = Fast(models.WordPiece(unk_token="[UNK]"))
    trained.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.WordPieceTrainer(vocab_size=vocabulary, special_tokens=known, show_progress=False)
    trained.train_from_iterator((" ".join([word] * count) for word, count in sorted(words.items())), trainer)
    # A new model, in which the letters are no longer special.
    fast = Fast(models.WordPiece(vocab=trained.get_vocab(), unk_token="[UNK]"))
    fast.normalizer, fast.pre_tokenizer = normalizer, splitter
    return json.loads(fast.to_str())


def _bert(path: str) -> dict:
    from transformers import AutoTokenizer

    try:
        return json.loads(
            AutoTokenizer.from_pretrained(path, use_fast=True, trust_remote_code=False).backend_tokenizer.to_str()
        )
    except (OSError, ValueError) as error:
        raise ValueError(
            f"tokenizer.path: no tokenizer at '{path}' ({error}); give a folder that holds tokenizer.json or "
            "vocab.txt, or a hub name where the network allows it"
        ) from None


def build(params: Params, texts: Iterable[str]) -> dict:
    """Return the content of tokenizer.json; `texts` is only read where a vocabulary is learned.

    Raises:
        ValueError: a bert tokenizer that is not there.
    """
    kind = params.tokenizer.kind
    if kind == "clip":
        return _clip_definition()
    definition = (
        _bert(str(params.tokenizer.path)) if kind == "bert" else train_wordpiece(texts, params.tokenizer.vocabulary)
    )
    return {"kind": kind, "vocabulary": len(definition["model"]["vocab"]), "definition": definition}


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m flip.data.tokenizer", description=__doc__.splitlines()[0])
    parser.add_argument("--params", required=True, help="frozen parameters")
    parser.add_argument("--manifest", required=True, help="data/<scale>/manifest.json")
    parser.add_argument("--shards", type=Path, required=True, help="folder with the shards")
    parser.add_argument("--out", required=True, help="tokenizer.json")
    options = parser.parse_args(argv)
    texts = islice(captions(read_json(options.manifest), options.shards), TRAINING_CAPTIONS)
    try:
        write_json(options.out, build(load(options.params), texts))
    except ValueError as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
