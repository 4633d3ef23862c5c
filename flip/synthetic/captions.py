"""Write captions like alternative texts on the web: synonyms, omissions, boilerplate, any word order.

What a caption says, and which synonyms it uses, is drawn here; flip.synthetic.languages put it into words. The length
of a caption is checked last, so up to there one stream of random numbers gives the same content in every language.
"""

from random import Random
from typing import Any, TypedDict

from flip.synthetic.languages.base import Language, Named
from flip.synthetic.languages.english import ENGLISH
from flip.synthetic.scenes import Scene, Thing

INVERSE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above", "on": "under"}
# Pages name twice what they show: a title and a category, a name and a tag.
ECHOES = (
    "{noun}: {text}",
    "{noun} - {text}",
    "{text} | {noun}",
    "{text}, {noun}",
    "{text} - {nouns}",
    "{nouns} | {text}",
)
ECHOED = 0.6  # share of captions on the web
SHORTEST = 3  # words


class Care(TypedDict):
    """Hold the probabilities that a caption gives the shape and the colour of a thing."""

    named: float
    coloured: float


def word(words: tuple, random: Random) -> Any:
    """Draw a synonym: the usual one, which is first, with probability 0.6, otherwise any."""
    return words[0] if random.random() < 0.6 else random.choice(words)


def colour(thing: Thing, random: Random, language: Language, chance: float) -> Any | None:
    """Return a word for a thing's colour with probability `chance`, else None."""
    return word(language.colours[thing.colour], random) if random.random() < chance else None


def texture(thing: Thing, random: Random, language: Language) -> Any | None:
    """Return a word for a thing's texture, or None: rarely given, and never of a plain thing."""
    named = thing.texture != "usual" and random.random() < 0.15
    return word(language.textures[thing.texture], random) if named else None


def name(
    thing: Thing, random: Random, language: Language, count: int = 1, named: float = 0.97, coloured: float = 0.6
) -> Named:
    """Draw what a caption says of a thing, or of `count` that are alike.

    `named` and `coloured` are the probabilities that it gives shape and colour.
    """
    known = random.random() < named
    noun = word(language.shapes[thing.shape], random) if known else random.choice(language.things)
    hue, kind = colour(thing, random, language, coloured), texture(thing, random, language)
    if count > 1:
        return Named(noun, hue, kind, random.choice(language.numbers[count - 2]))
    if hue is not None and random.random() < 0.1:
        return Named(noun, hue, kind, article=True, in_colour=True)
    return Named(noun, hue, kind, hue_first=random.random() < 0.5, article=random.random() < 0.6)


def subject(scene: Scene, random: Random, detail: bool, language: Language) -> str:
    """Name the things of a scene: the main one, often the second in relation to it, sometimes the third."""
    care = Care(named=1.0, coloured=0.95) if detail else Care(named=0.97, coloured=0.6)
    main, *others = scene.things
    if scene.alike:
        return language.say(name(main, random, language, len(scene.things), **care))
    first = name(main, random, language, **care)
    if not others or random.random() > (0.9 if detail else 0.2):
        return language.say(first)
    assert scene.relation is not None  # of several things that are not alike
    second = name(others[0], random, language, **care)
    how = random.random()
    if how < 0.45:
        phrase = language.join(first, word(language.relations[scene.relation], random), second)
    elif how < 0.65:
        phrase = language.join(second, word(language.relations[INVERSE[scene.relation]], random), first)
    else:
        phrase = language.join(first, random.choice(language.loosely), second)
    if len(others) > 1 and random.random() < 0.5:
        phrase = f"{phrase} {language.conjunction} {language.say(name(others[1], random, language, **care))}"
    return phrase


def keywords(scene: Scene, random: Random, language: Language) -> str:
    """Describe a scene by a list of tags."""
    main, noun = scene.main, language.shapes[scene.main.shape][0]
    looks = colour(main, random, language, 0.6), texture(main, random, language)
    tags = [language.one(noun), *(language.tag(one, noun) for one in looks if one is not None)]
    tags += [language.tags[scene.background]] if scene.background != "plain" else []
    random.shuffle(tags)
    return random.choice((" ", ", ")).join(tags)


def sentence(scene: Scene, random: Random, detail: bool, language: Language = ENGLISH) -> str:
    """Describe things and background in either order, or by a list of tags."""
    if not detail and random.random() < 0.08:
        return keywords(scene, random, language)
    phrase = subject(scene, random, detail, language)
    if random.random() > (0.7 if detail else 0.12):
        return phrase
    where = random.choice(language.backgrounds[scene.background])
    return f"{where}, {phrase}" if random.random() < 0.15 else f"{phrase} {where}"


def echoed(text: str, scene: Scene, random: Random, language: Language) -> str:
    """Return the text with the main thing's name repeated."""
    noun = word(language.shapes[scene.main.shape], random)
    return random.choice(ECHOES).format(text=text, noun=language.one(noun), nouns=language.many(noun))


def styled(text: str, random: Random) -> str:
    """Return the text in lower case mostly, at times capitalized as a sentence or a title."""
    style = random.random()
    return text if style < 0.7 else text[0].upper() + text[1:] if style < 0.9 else text.title()


def describe(scene: Scene, random: Random, detail: bool = False, language: Language = ENGLISH) -> str:
    """Write a correct caption of 3 to 20 words; with `detail` as annotators write them, not as found on the web."""
    text = sentence(scene, random, detail, language)
    if not detail and random.random() < ECHOED:
        text = echoed(text, scene, random, language)
    text = styled(text, random)
    noisy = 0.05 if detail else 0.35
    for extra, put in ((language.before, "{extra} {text}"), (language.after, "{text} {extra}")):
        if random.random() < noisy or len(text.split()) < SHORTEST - 1:
            text = put.format(extra=random.choice(extra).format(n=random.randint(1, 9999)), text=text)
    while len(text.split()) < SHORTEST:
        text = f"{text} {random.choice(language.after).format(n=random.randint(1, 9999))}"
    return " ".join(text.split()[: language.longest])
