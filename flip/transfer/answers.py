"""Score answers as VQAv2 does (Goyal et al. 2017).

After words, digits and punctuation are normalized, the score is the mean over annotators, each left out once, of
min(n / 3, 1), where n of the others gave the answer. The official evaluation does not normalize answers where all
annotators agree; here they are, too, as the predicted answers always are.
"""

import re
from collections import Counter
from functools import cache
from itertools import product

ENOUGH = 3  # annotators whose agreement makes an answer right
ARTICLES = {"a", "an", "the"}
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
DIGITS = {word: str(number) for number, word in enumerate(WORDS)} | {"none": "0"}
PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
# Words that people write without their apostrophes.
CONTRACTED = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've
he's how'd how'll how's isn't it'd it'd've it'll ma'am might've mightn't mightn't've must've mustn't needn't not've
o'clock oughtn't shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd
someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've there're there's
they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's what've when's
where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've wouldn't wouldn't've
y'all y'all'll y'all'd've you'd you'd've you'll you're you've
"""


@cache
def contractions() -> dict[str, str]:
    """Map words without some of their apostrophes to the correct spelling; without all only if there is but one."""
    found: dict[str, str] = {}
    for word in CONTRACTED.split():
        parts = word.split("'")
        for marks in product(("'", ""), repeat=len(parts) - 1):
            if 0 < len([mark for mark in marks if not mark]) <= max(1, len(marks) - 1):
                found["".join(part + mark for part, mark in zip(parts, (*marks, ""), strict=True))] = word
    return found


def bare(text: str) -> str:
    """Remove punctuation: marks next to a space, or in a text with a number such as 1,000, are deleted, others replaced
    by a space. A period is deleted unless a digit follows."""
    grouped = re.search(r"\d,\d", text)
    found = text
    for mark in PUNCTUATION:
        beside = f"{mark} " in text or f" {mark}" in text
        found = found.replace(mark, "" if beside or grouped else " ")
    return re.sub(r"\.(?!\d)", "", found)


def normal(text: str) -> str:
    """Normalize an answer: lower case, digits for numbers, no articles, correct apostrophes."""
    words = [DIGITS.get(word, word) for word in bare(" ".join(text.split())).lower().split()]
    return " ".join(contractions().get(word, word) for word in words if word not in ARTICLES)


def worth(count: int, annotators: int) -> float:
    """Return the score of an answer that `count` of the annotators gave; a single annotator's is right."""
    if annotators == 1:
        return float(count)
    given, left_out = min((count - 1) / ENOUGH, 1), min(count / ENOUGH, 1)
    return (count * given + (annotators - count) * left_out) / annotators


def soft_scores(answers: list[str]) -> dict[str, float]:
    """Return the score, at most 1, of each answer that annotators gave."""
    counts = Counter(map(normal, answers))
    return {answer: worth(count, len(answers)) for answer, count in counts.items()}
