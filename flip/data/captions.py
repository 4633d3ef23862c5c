"""Captions like the web's alternative texts: synonyms, omissions, boilerplate, any word order."""

from random import Random

from flip.data.scenes import Scene, Thing

# The first word is the class name, and the most frequent.
SHAPE_WORDS = {
    "ball": ("ball", "circle", "disc"),
    "star": ("star", "pentagram"),
    "heart": ("heart", "love heart"),
    "triangle": ("triangle", "pyramid"),
    "square": ("square", "box", "block"),
    "cross": ("cross", "plus sign"),
    "moon": ("moon", "crescent"),
    "arrow": ("arrow", "pointer"),
    "ring": ("ring", "hoop", "donut"),
    "house": ("house", "cottage", "hut"),
    "tree": ("tree", "pine", "fir tree"),
    "fish": ("fish", "carp"),
    "mug": ("mug", "cup"),
    "key": ("key", "door key"),
    "mushroom": ("mushroom", "toadstool"),
    "boat": ("boat", "ship", "sailboat"),
}
COLOUR_WORDS = {
    "red": ("red", "crimson", "scarlet"),
    "orange": ("orange", "tangerine"),
    "yellow": ("yellow", "golden"),
    "green": ("green", "emerald"),
    "blue": ("blue", "azure"),
    "purple": ("purple", "violet"),
    "white": ("white", "ivory"),
    "pink": ("pink", "rose"),
}
TEXTURE_WORDS = {
    "plain": (),
    "striped": ("striped", "stripy"),
    "dotted": ("dotted", "polka dot", "spotted"),
    "checked": ("checked", "chequered"),
}
BACKGROUND_WORDS = {
    "plain": ("on a plain background", "isolated", "on a simple background"),
    "grass": ("on grass", "in the grass", "on a lawn"),
    "sand": ("on sand", "on the beach", "in the desert"),
    "water": ("on water", "in the sea", "on the lake"),
    "night": ("at night", "in the night sky", "at midnight"),
    "snow": ("in the snow", "on snow", "in winter"),
    "brick": ("on a brick wall", "in front of bricks"),
    "wood": ("on wood", "on a wooden table", "on wooden boards"),
}
RELATION_WORDS = {
    "left of": ("left of", "to the left of", "on the left of"),
    "right of": ("right of", "to the right of", "on the right of"),
    "above": ("above", "over"),
    "below": ("below", "under", "beneath"),
    "on": ("on", "on top of"),
    "under": ("under", "below"),
}
INVERSE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above", "on": "under"}
LOOSELY = ("and", "with", "next to", "beside", "near")
BEFORE = (
    "stock photo of", "photo of", "picture of", "image:", "illustration of", "IMG_{n}", "new!", "vector", "our",
    "buy", "wallpaper:", "cute", "best", "DSC{n}", "drawing of", "sale:",
)  # fmt: skip
AFTER = (
    "| free wallpaper", "- stock image", "buy now", "free download", "({n})", "clip art", "- shop online", "hd",
    "for sale", "#{n}", "| gallery", "royalty free", "by anna", "- best price", "photo {n}", "...",
)  # fmt: skip
# Pages say twice what they show: a title and a category, a name and a tag.
ECHOES = (
    "{noun}: {text}",
    "{noun} - {text}",
    "{text} | {noun}",
    "{text}, {noun}",
    "{text} - {nouns}",
    "{nouns} | {text}",
)
ECHOED = 0.6  # share of captions on the web
SHORTEST, LONGEST = 3, 20  # words


def word(words: tuple[str, ...], random: Random) -> str:
    """The usual word most of the time, otherwise any."""
    return words[0] if random.random() < 0.6 else random.choice(words)


def plural(noun: str) -> str:
    if noun.endswith(("fish", "carp")):
        return noun
    return noun + ("es" if noun.endswith(("s", "x", "sh", "ch")) else "s")


def article(phrase: str) -> str:
    return f"{'an' if phrase[0] in 'aeiouAEIOU' else 'a'} {phrase}"


def colour(thing: Thing, random: Random, told: float) -> list[str]:
    """The colour's word, if the caption's author cared."""
    return [word(COLOUR_WORDS[thing.colour], random)] if random.random() < told else []


def texture(thing: Thing, random: Random) -> list[str]:
    told = thing.texture != "plain" and random.random() < 0.15
    return [word(TEXTURE_WORDS[thing.texture], random)] if told else []


def name(thing: Thing, random: Random, count: int = 1, named: float = 0.97, coloured: float = 0.3) -> str:
    """'a striped red star', 'two red stars', 'a star in red', 'red star'; rarely without the shape."""
    noun = word(SHAPE_WORDS[thing.shape], random) if random.random() < named else random.choice(("thing", "object"))
    hue, kind = colour(thing, random, coloured), texture(thing, random)
    if count > 1:
        number = random.choice((("two", "2", "a pair of"), ("three", "3", "some"))[count - 2])
        return " ".join([number, *hue, *kind, plural(noun)])
    if hue and random.random() < 0.1:
        return f"{article(' '.join([*kind, noun]))} in {hue[0]}"
    words = [*hue, *kind] if random.random() < 0.5 else [*kind, *hue]
    phrase = " ".join([*words, noun])
    return article(phrase) if random.random() < 0.6 else phrase


def subject(scene: Scene, random: Random, detail: bool) -> str:
    """The things of the scene: the main one, often the second in relation to it, sometimes the third."""
    care = {"named": 1.0, "coloured": 0.95} if detail else {"named": 0.97, "coloured": 0.3}
    main, *others = scene.things
    if scene.alike:
        return name(main, random, len(scene.things), **care)
    phrase = name(main, random, **care)
    if not others or random.random() > (0.9 if detail else 0.2):
        return phrase
    other = name(others[0], random, **care)
    how = random.random()
    if how < 0.45:
        phrase = f"{phrase} {word(RELATION_WORDS[scene.relation], random)} {other}"
    elif how < 0.65:
        phrase = f"{other} {word(RELATION_WORDS[INVERSE[scene.relation]], random)} {phrase}"
    else:
        phrase = f"{phrase} {random.choice(LOOSELY)} {other}"
    if len(others) > 1 and random.random() < 0.5:
        phrase = f"{phrase} and {name(others[1], random, **care)}"
    return phrase


def sentence(scene: Scene, random: Random, detail: bool) -> str:
    """Subject and background in either order, or a list of tags."""
    if not detail and random.random() < 0.08:
        place = [scene.background] if scene.background != "plain" else []
        tags = [scene.main.shape, *colour(scene.main, random, 0.3), *texture(scene.main, random), *place]
        random.shuffle(tags)
        return random.choice((" ", ", ")).join(tags)
    phrase = subject(scene, random, detail)
    if random.random() > (0.7 if detail else 0.12):
        return phrase
    where = random.choice(BACKGROUND_WORDS[scene.background])
    return f"{where}, {phrase}" if random.random() < 0.15 else f"{phrase} {where}"


def echoed(text: str, scene: Scene, random: Random) -> str:
    """The text with the main thing's name said once more."""
    noun = word(SHAPE_WORDS[scene.main.shape], random)
    return random.choice(ECHOES).format(text=text, noun=noun, nouns=plural(noun))


def styled(text: str, random: Random) -> str:
    """Lower case mostly, as a sentence or a title at times."""
    style = random.random()
    return text if style < 0.7 else text[0].upper() + text[1:] if style < 0.9 else text.title()


def describe(scene: Scene, random: Random, detail: bool = False) -> str:
    """A caption that is right, of 3 to 20 words; with `detail` as an annotator writes it, not as the web does."""
    text = sentence(scene, random, detail)
    if not detail and random.random() < ECHOED:
        text = echoed(text, scene, random)
    text = styled(text, random)
    noisy = 0.05 if detail else 0.35
    for extra, put in ((BEFORE, "{extra} {text}"), (AFTER, "{text} {extra}")):
        if random.random() < noisy or len(text.split()) < SHORTEST - 1:
            text = put.format(extra=random.choice(extra).format(n=random.randint(1, 9999)), text=text)
    while len(text.split()) < SHORTEST:
        text = f"{text} {random.choice(AFTER).format(n=random.randint(1, 9999))}"
    return " ".join(text.split()[:LONGEST])
