"""English: nouns and adjectives are what they are."""

from flip.synthetic.languages.base import Language, Named
from flip.synthetic.scenes import BACKGROUNDS


def plural(noun: str) -> str:
    if noun.endswith(("fish", "carp")):
        return noun
    return noun + ("es" if noun.endswith(("s", "x", "sh", "ch")) else "s")


def article(phrase: str) -> str:
    return f"{'an' if phrase[0] in 'aeiouAEIOU' else 'a'} {phrase}"


class English(Language):
    # The first word is the class name, and the most frequent.
    shapes = {
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
    colours = {
        "red": ("red", "crimson", "scarlet"),
        "orange": ("orange", "tangerine"),
        "yellow": ("yellow", "golden"),
        "green": ("green", "emerald"),
        "blue": ("blue", "azure"),
        "purple": ("purple", "violet"),
        "white": ("white", "ivory"),
        "pink": ("pink", "rose"),
    }
    textures = {
        "plain": (),
        "striped": ("striped", "stripy"),
        "dotted": ("dotted", "polka dot", "spotted"),
        "checked": ("checked", "chequered"),
    }
    backgrounds = {
        "plain": ("on a plain background", "isolated", "on a simple background"),
        "grass": ("on grass", "in the grass", "on a lawn"),
        "sand": ("on sand", "on the beach", "in the desert"),
        "water": ("on water", "in the sea", "on the lake"),
        "night": ("at night", "in the night sky", "at midnight"),
        "snow": ("in the snow", "on snow", "in winter"),
        "brick": ("on a brick wall", "in front of bricks"),
        "wood": ("on wood", "on a wooden table", "on wooden boards"),
    }
    relations = {
        "left of": ("left of", "to the left of", "on the left of"),
        "right of": ("right of", "to the right of", "on the right of"),
        "above": ("above", "over"),
        "below": ("below", "under", "beneath"),
        "on": ("on", "on top of"),
        "under": ("under", "below"),
    }
    tags = {background: background for background in BACKGROUNDS if background != "plain"}
    things = ("thing", "object")
    numbers = (("two", "2", "a pair of"), ("three", "3", "some"))
    conjunction = "and"
    loosely = ("and", "with", "next to", "beside", "near")
    before = (
        "stock photo of", "photo of", "picture of", "image:", "illustration of", "IMG_{n}", "new!", "vector", "our",
        "buy", "wallpaper:", "cute", "best", "DSC{n}", "drawing of", "sale:",
    )  # fmt: skip
    after = (
        "| free wallpaper", "- stock image", "buy now", "free download", "({n})", "clip art", "- shop online", "hd",
        "for sale", "#{n}", "| gallery", "royalty free", "by anna", "- best price", "photo {n}", "...",
    )  # fmt: skip

    def one(self, noun) -> str:
        return noun

    def many(self, noun) -> str:
        return plural(noun)

    def tag(self, told, noun) -> str:
        return told

    def say(self, named: Named, case: str = "") -> str:
        """'a striped red star', 'two red stars', 'a star in red', 'red star'."""
        if named.number:
            return " ".join([named.number, *named.told, plural(named.noun)])
        phrase = " ".join([*named.told, named.noun])
        phrase = article(phrase) if named.article else phrase
        return f"{phrase} in {named.hue}" if named.in_colour else phrase


ENGLISH = English()
