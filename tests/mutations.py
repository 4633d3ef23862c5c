"""Mutations of params.yaml, seeded: what fingers, merges and editors do to it."""

import re
from pathlib import Path
from random import Random

TEXT = Path(__file__).parent.with_name("params.yaml").read_text()
SPECIALS = (
    ".inf", "-.inf", ".nan", "null", "~", "true", "no", "on", "y", "2020-01-01", "2001-12-14t21:59:43.10-05:00",
    "1e-3", "1.0e-3", "010", "0o17", "0x1F", "0b1", "1_000", "1:30", "1e30", "1.0e+30", "1.0e+999", "9" * 20, "-1",
    "0", "1", "2", "0.5", "1.5", "0.0", "1.0", "-0.0", "''", '" "', '"a\\0b"', '"a\\nb"', "[]", "{}", "[1, 2]", "[[a]]",
    "{a: 1}", "[0, 0]", "[1, 0]", "!!binary aGk=", "!!set {a, b}", "!!python/object:os.system {}", "!!str 1",
    "!!int '1'", "&z [*z]", "&z [1]", "*nothing", "world", "clip", "../x", "--help", "é", "\u200b", "=", "<<", "Yes",
    "NULL", "tiny", "'1'", "+1", ".5", "1.", "00", "0_", "5_000.0", "190:20:30", "%", "@x", "`x`", "| x", "> x", "'",
    '"', "{", "]",
)  # fmt: skip
NAMES = (
    "--help", "-x", "..", "../x", "a/b", "/etc/passwd", "a.b", "A", "data", "report", "index", "tables", "ledger",
    "cost", "é", "a b", "''", "null", "1", "true", "specs", "x" * 300, "fine-masked", "flip-50", "clip", "fine",
    "mirror", '"a\\n"',
)  # fmt: skip
CHARACTERS = "abcz019 .,:;-_#&*!|>'\"%@`{}[]()?<=~\t\n\r\\/\u00e9\u200b\u2028\x00\x7f\u0085\ufeff"
KEY = re.compile(r"(?<=[\s{,(])[a-z<][a-z0-9_<-]*(?=:[ \n])")
VALUE = re.compile(r"(?<=: )[^\s{}\[\],&*|>#][^{}\[\],\n#]*")
ITEM = re.compile(r"(?<=[\[,] )[^\s{}\[\],:]+(?=[,\]])|(?<=\[)[^\s{}\[\],:]+(?=[,\]])")
NAME = re.compile(r"(?<=\n  )[a-z0-9-]+(?=:[ \n])")


def _replaced(text: str, found: re.Match, new: str) -> str:
    return text[: found.start()] + new + text[found.end() :]


def _at(pattern: re.Pattern, text: str, random: Random) -> re.Match:
    return random.choice(list(pattern.finditer(text)))


def character(text: str, random: Random) -> str:
    place, how = random.randrange(len(text)), random.randrange(3)
    new = random.choice(CHARACTERS) if how else ""
    return text[:place] + new + text[place + (how != 1) :]


def line(text: str, random: Random) -> str:
    lines = text.splitlines(keepends=True)
    one, other, how = random.randrange(len(lines)), random.randrange(len(lines)), random.randrange(6)
    if how == 0:
        del lines[one]
    elif how == 1:
        lines.insert(other, lines[one])
    elif how == 2:
        lines[one], lines[other] = lines[other], lines[one]
    elif how == 3:
        lines[one] = " " * random.choice((1, 2)) + lines[one]
    elif how == 4:
        lines[one] = lines[one].removeprefix(" " * random.choice((1, 2)))
    else:
        lines.insert(one, lines[one])
    return "".join(lines)


def misspelt(name: str, random: Random) -> str:
    place = random.randrange(len(name))
    new = random.choice(("", random.choice("abcdeimnorst-_"), name[place] * 2))
    return name[:place] + new + name[place + 1 :]


def key(text: str, random: Random) -> str:
    found = _at(KEY, text, random)
    other = _at(KEY, text, random)[0]
    new = random.choice((misspelt(found[0], random), other, random.choice(NAMES), f"{found[0]}: 1, {found[0]}"))
    return _replaced(text, found, new)


def value(text: str, random: Random) -> str:
    found = _at(random.choice((VALUE, ITEM)), text, random)
    other = _at(random.choice((VALUE, ITEM)), text, random)[0]
    return _replaced(text, found, random.choice((random.choice(SPECIALS), other, f"{found[0]}, {found[0]}")))


def number(text: str, random: Random) -> str:
    found = _at(re.compile(r"(?<=[ \[])[0-9][0-9.e-]*(?=[,\]}\n])"), text, random)
    ways = (
        "-{}",
        "{}0",
        "{}000000",
        "{}e5",
        "0{}",
        "{}_0",
        "{}.0",
        "'{}'",
        "{}:30",
        "+{}",
        "0.{}",
        "{}.5",
        "{}e-9",
        "1{}",
    )
    return _replaced(text, found, random.choice(ways).format(found[0]))


def possible(text: str, random: Random) -> str:
    """Another value of the same type, near by."""
    found = _at(re.compile(r"(?<=[ \[])([0-9]+(\.[0-9]+)?|true|false)(?=[,\]}\n])"), text, random)
    if found[0] in ("true", "false"):
        return _replaced(text, found, "false" if found[0] == "true" else "true")
    return _replaced(text, found, random.choice(("1{}", "{}1", "{}0", "2{}")).format(found[0]))


def name(text: str, random: Random) -> str:
    pattern = random.choice((NAME, NAME, ITEM))
    found = _at(pattern, text, random)
    return _replaced(text, found, random.choice((random.choice(NAMES), misspelt(found[0], random))))


def pasted(text: str, random: Random) -> str:
    """A block once more, somewhere."""
    lines = text.splitlines(keepends=True)
    start, length = random.randrange(len(lines)), random.choice((1, 2, 5, 20, 100))
    place = random.choice((start, start + length, random.randrange(len(lines))))
    return "".join(lines[:place] + lines[start : start + length] + lines[place:])


def like(text: str, random: Random) -> str:
    """Another name after a `like`, or a merge key in its place."""
    found = _at(re.compile(r"(?<=like: )[a-z0-9-]+"), text, random)
    other = _at(re.compile(r"(?<=like: )[a-z0-9-]+"), text, random)[0]
    return _replaced(
        text, found, random.choice((other, misspelt(found[0], random), f"{found[0]}, <<: {other}", "null"))
    )


def encoded(text: str, random: Random) -> bytes:
    place = random.randrange(len(text))
    before, after = text[:place].encode(), text[place:].encode()
    bad = random.choice((b"\xff", b"\xc3", b"\x00", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\x1b", b"\xe2\x80\xa8", b"\t"))
    ways = (
        lambda: before + bad + after,
        lambda: text.replace("\n", random.choice(("\r\n", "\r"))).encode(),
        lambda: b"\xef\xbb\xbf" + before + after,
        lambda: (before + after).decode().replace("e", "\u00e9", 1).encode("latin-1", "replace"),
        lambda: text.encode("utf-16"),
        lambda: before,
        lambda: b"---\n" + before + b"\n---\n" + after,
        lambda: text.replace("  ", "\t", random.choice((1, 5, 10**6))).encode(),
    )
    return random.choice(ways)()


def twice(text: str, random: Random) -> str:
    return value(line(text, random), random)


WAYS = (
    character,
    character,
    line,
    key,
    value,
    value,
    number,
    possible,
    possible,
    possible,
    name,
    pasted,
    like,
    encoded,
    twice,
)


def mutated(text: str, seed: int) -> tuple[str, bytes]:
    """How, and the file's new content."""
    random = Random(seed)
    way = random.choice(WAYS)
    found = way(text, random)
    return way.__name__, found if isinstance(found, bytes) else found.encode("utf-8", "surrogatepass")


def block(key: str, text: str = TEXT) -> str:
    """A top-level block of the file, with the comments in it."""
    return re.search(rf"^{key}:.*\n(?:(?:[ #].*)?\n)*", text, re.MULTILINE)[0]


REST = """
variants:
  clip: {}
  flip-50: {masking: {image: 0.5}, train: {batch_scale: 2}}
  flip-75: {masking: {image: 0.75}, train: {batch_scale: 4}}
  flip-50-tuned: {start: flip-50}
  flip-50-mae: {like: flip-50, reconstruction: {weight: 1.0}}
  clip-short: {train: {epochs_scale: 0.25, warmup_scale: 0.25}}
  clip-half: {train: {epochs_scale: 0.5}}
  clip-eighth: {train: {epochs_scale: 0.125, warmup_scale: 0.125}}
  clip-sixteenth: {train: {epochs_scale: 0.0625, warmup_scale: 0.0625}}
  clip-larger: {like: clip-short, model: larger}
  clip-form:
    like: clip-short
    model: {tokens: 77}
    captions: {tokenizer: clip, start: true, end: true}
    form:
      vision: {pooling: class, positions: learned}
      text: {pooling: last, causal: true}
  sigmoid:
    like: clip-short
    logits: {temperature: 0.1, max_scale: null}
    contrastive: {weight: 0.0}
    sigmoid: {weight: 1.0}
  sigmoid-matched: {like: sigmoid, sigmoid: {bias: matched}}
  lit:
    like: clip-short
    image_tower: {weights: clip-short, lr_scale: 0.0}
    augmentation: {crop_area: [1.0, 1.0], flip: false}
  siglit: {like: lit, contrastive: {weight: 0.0}, sigmoid: {weight: 1.0}, logits: {temperature: 0.1, max_scale: null}}
reports:
  ablations:
    title: FLIP ablations
    question: Can a model learn from half of each image?
    about: >-
      Some sentences, and
      others.
    tables:
      a:
        title: "Mask ratio: all"
        variants: [clip, flip-50, flip-75, flip-50-tuned, flip-50-mae]
        metrics: [fine, coarse, fine-probe, retrieval-image-r1, pointing, entailment-text, composition-swap-relation]
      d:
        title: Inference unmasking
        variants: [flip-50, sigmoid, sigmoid-matched, siglit, lit, clip-form]
        metrics: [fine-masked, fine]
      c:
        title: At the other scale
        scales: [gpu]
        mixed_data: true
        variants: [clip, flip-50]
        metrics: [caption-cider, vqa-colour, coarse-finetuned, retrieval-de-text-r5]
    tradeoff:
      metric: fine
      curves:
        mask 0%: [clip-half, clip]
        mask 50%: [flip-50]
  scaling:
    title: Scaling
    question: What brings more?
    about: Three ways.
    tables:
      b: {like: a, title: Schedules, variants: [clip-sixteenth, clip-eighth, clip-short, clip-half, clip, clip-larger]}
    scaling:
      metric: fine
      laws:
        mask 0%: {fitted: [clip-sixteenth, clip-eighth, clip-short, clip-half, clip], held_out: [clip-larger]}
"""  # fmt: skip


def short() -> str:
    """A file of the same form with fewer scales, variants and tables, which is read in a fifth of the time."""
    scales = block("scales").split("  # The paper's recipe")[0]
    return "scale: tiny\n" + block("base") + block("models") + scales + REST
