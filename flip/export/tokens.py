"""Convert tokenizers between flip's tokenizer.json and the files that transformers and open_clip read."""

import json
from pathlib import Path
from typing import Any

from flip.data.tokenizer import SPECIAL, CaptionTokenizer

HIDDEN = "<hidden word>"  # the masked token
# How open_clip cleans captions before it tokenizes them, as normalizers of the tokenizer itself.
CANONICAL = [
    {"type": "Replace", "pattern": {"String": "_"}, "content": " "},
    {"type": "Replace", "pattern": {"Regex": r"[!-/:-@\[-`{-~]"}, "content": ""},
    {"type": "Lowercase"},
]
SPACES = [
    {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
    {"type": "Strip", "strip_left": True, "strip_right": True},
]
CLEAN = {"_clean_whitespace": SPACES, "_clean_lower": [*SPACES, {"type": "Lowercase"}]}
CLEAN |= {"_clean_canonicalize": [*CANONICAL, *SPACES]}


def is_clips(tokenizer: CaptionTokenizer) -> bool:
    """Return whether it is CLIP's BPE with start and end tokens, as in open_clip's own tokenizer."""
    return tokenizer.stored["kind"] == "clip" and bool(tokenizer.before and tokenizer.after) and tokenizer.padding < 0


def backend(tokenizer: CaptionTokenizer) -> tuple[Any, dict[str, str]]:
    """Return a tokenizer of the library tokenizers that adds our special tokens to each caption, and these tokens."""
    from tokenizers import Tokenizer as Fast
    from tokenizers.processors import TemplateProcessing

    if tokenizer.stored["kind"] == "clip":
        from open_clip import SimpleTokenizer
        from transformers import CLIPTokenizer

        clip = SimpleTokenizer()
        names = {"start": "<|startoftext|>", "end": "<|endoftext|>"}
        vocabulary = dict(clip.encoder) | {names["start"]: clip.sot_token_id, names["end"]: clip.eot_token_id}
        for plain in ("<start_of_text>", "<end_of_text>"):
            del vocabulary[plain]
        merges = sorted(clip.bpe_ranks, key=clip.bpe_ranks.get)
        fast = CLIPTokenizer(vocab=vocabulary, merges=merges).backend_tokenizer
    else:
        fast, names = (
            Fast.from_str(json.dumps(tokenizer.stored["definition"])),
            tokenizer.stored.get("special", SPECIAL),
        )
    around = {"start": tokenizer.before, "end": tokenizer.after}
    used = {side: names[side] for side, ids in around.items() if ids}
    fast.add_special_tokens(list(used.values()))  # new ones get the next ids, as in flip/data/tokenizer.py
    for side, token in used.items():
        assert fast.token_to_id(token) == around[side][0]
    template = [*([used["start"]] if "start" in used else []), "$A", *([used["end"]] if "end" in used else [])]
    known = [(token, fast.token_to_id(token)) for token in used.values()]
    fast.post_processor = TemplateProcessing(single=template, special_tokens=known)
    fast.no_padding()
    fast.no_truncation()
    return fast, used


def write_tokenizer(tokenizer: CaptionTokenizer, folder: Path, hides_words: bool = False) -> None:
    """Write tokenizer.json and tokenizer_config.json for transformers' AutoTokenizer, which pads with end tokens.

    With `hides_words`, the vocabulary has a masked token, too, and the tokenizer returns an attention mask.
    """
    from transformers import PreTrainedTokenizerFast

    fast, used = backend(tokenizer)
    roles = {"start": "bos_token", "end": "eos_token"}
    named, inputs = {roles[side]: token for side, token in used.items()} | {"pad_token": used["end"]}, ["input_ids"]
    if hides_words:
        fast.add_special_tokens([HIDDEN])
        assert fast.token_to_id(HIDDEN) == tokenizer.vocabulary
        named, inputs = named | {"mask_token": HIDDEN}, [*inputs, "attention_mask"]
    PreTrainedTokenizerFast(
        tokenizer_object=fast, model_max_length=tokenizer.slots, model_input_names=inputs, **named
    ).save_pretrained(folder)


def stored_tokenizer(tokenizer: Any, vocabulary: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the content of our tokenizer.json for a tokenizer of transformers or open_clip, and section `captions`.

    Raises:
        ValueError: it is not backed by the library tokenizers, or does not end captions with a token.
    """
    from open_clip import SimpleTokenizer

    if isinstance(tokenizer, SimpleTokenizer):
        return {"kind": "clip", "vocabulary": vocabulary, "definition": None}, {"start": True, "end": True}
    clean = getattr(getattr(tokenizer, "clean_fn", None), "__name__", None)
    theirs = getattr(tokenizer, "tokenizer", tokenizer)  # open_clip keeps transformers' in its own
    if not hasattr(theirs, "backend_tokenizer"):
        raise ValueError(f"{type(theirs).__name__}: no tokenizer.json next to the weights; convert the tokenizer first")
    definition = json.loads(theirs.backend_tokenizer.to_str())
    if clean:
        steps = [*CLEAN[clean], *([definition["normalizer"]] if definition["normalizer"] else [])]
        definition["normalizer"] = {"type": "Sequence", "normalizers": steps}
    around = theirs("")["input_ids"]  # the special tokens alone
    tokens = theirs.convert_ids_to_tokens(around)
    if not 1 <= len(tokens) <= 2:
        raise ValueError(f"captions end in no token of their own, or have {len(tokens)} around them; allowed: 1 or 2")
    special = dict(SPECIAL) | dict(zip(("start", "end") if len(tokens) == 2 else ("end",), tokens, strict=True))
    stored = {"kind": "fast", "vocabulary": vocabulary, "definition": definition, "special": special}
    return stored, {"start": len(tokens) == 2, "end": True}


def must_fill_with_end(tokenizer: Any) -> bool:
    """Return True for a tokenizer that pads with the end token.

    Raises:
        ValueError: it pads with another token, as SigLIP 2's does.
    """
    theirs = getattr(tokenizer, "tokenizer", tokenizer)
    if getattr(theirs, "pad_token_id", None) != theirs("")["input_ids"][-1]:
        raise ValueError("its captions are filled up with a padding token; allowed: the end token, as SigLIP 1 does")
    return True
