"""German: three genders; adjectives follow article, gender and case; nouns keep their capitals."""

from typing import NamedTuple

from flip.synthetic.languages.base import Language, Named


class Noun(NamedTuple):
    article: str  # der, die, das: its gender
    one: str
    many: str
    dative: str | None = None  # where it is not like the nominative


class Colour(NamedTuple):
    adjective: str
    noun: str  # as in "ein Stern in Rot"
    declined: bool = True


# Endings of adjectives by gender, after "ein" and without an article; in the plural without an article it is -e.
AFTER_EIN = {
    "nominative": {"der": "er", "die": "e", "das": "es"},
    "dative": {"der": "en", "die": "en", "das": "en"},
}
ALONE = {"nominative": AFTER_EIN["nominative"], "dative": {"der": "em", "die": "er", "das": "em"}}
EIN = {
    "nominative": {"der": "ein", "die": "eine", "das": "ein"},
    "dative": {"der": "einem", "die": "einer", "das": "einem"},
}


def declined(told, ending: str) -> str:
    """A colour's or texture's adjective."""
    word = told.adjective if isinstance(told, Colour) else told
    return word if isinstance(told, Colour) and not told.declined else word + ending


class German(Language):
    shapes = {
        "ball": (Noun("der", "Ball", "Bälle"), Noun("der", "Kreis", "Kreise"), Noun("die", "Scheibe", "Scheiben")),
        "star": (Noun("der", "Stern", "Sterne"), Noun("das", "Pentagramm", "Pentagramme")),
        "heart": (Noun("das", "Herz", "Herzen", "Herzen"), Noun("das", "Herzchen", "Herzchen")),
        "triangle": (Noun("das", "Dreieck", "Dreiecke"), Noun("die", "Pyramide", "Pyramiden")),
        "square": (Noun("das", "Quadrat", "Quadrate"), Noun("der", "Kasten", "Kästen"), Noun("der", "Block", "Blöcke")),
        "cross": (Noun("das", "Kreuz", "Kreuze"), Noun("das", "Pluszeichen", "Pluszeichen")),
        "moon": (Noun("der", "Mond", "Monde"), Noun("die", "Mondsichel", "Mondsicheln")),
        "arrow": (Noun("der", "Pfeil", "Pfeile"), Noun("der", "Zeiger", "Zeiger")),
        "ring": (Noun("der", "Ring", "Ringe"), Noun("der", "Reifen", "Reifen"), Noun("der", "Donut", "Donuts")),
        "house": (Noun("das", "Haus", "Häuser"), Noun("das", "Häuschen", "Häuschen"), Noun("die", "Hütte", "Hütten")),
        "tree": (Noun("der", "Baum", "Bäume"), Noun("die", "Kiefer", "Kiefern"), Noun("die", "Tanne", "Tannen")),
        "fish": (Noun("der", "Fisch", "Fische"), Noun("der", "Karpfen", "Karpfen")),
        "mug": (Noun("der", "Becher", "Becher"), Noun("die", "Tasse", "Tassen")),
        "key": (Noun("der", "Schlüssel", "Schlüssel"), Noun("der", "Türschlüssel", "Türschlüssel")),
        "mushroom": (Noun("der", "Pilz", "Pilze"), Noun("der", "Fliegenpilz", "Fliegenpilze")),
        "boat": (
            Noun("das", "Boot", "Boote"),
            Noun("das", "Schiff", "Schiffe"),
            Noun("das", "Segelboot", "Segelboote"),
        ),
    }
    things = (Noun("das", "Ding", "Dinge"), Noun("der", "Gegenstand", "Gegenstände"))
    colours = {
        "red": (Colour("rot", "Rot"), Colour("karminrot", "Karminrot"), Colour("scharlachrot", "Scharlachrot")),
        "orange": (Colour("orangefarben", "Orange"), Colour("mandarinenfarben", "Mandarinorange")),
        "yellow": (Colour("gelb", "Gelb"), Colour("golden", "Gold")),
        "green": (Colour("grün", "Grün"), Colour("smaragdgrün", "Smaragdgrün")),
        "blue": (Colour("blau", "Blau"), Colour("azurblau", "Azurblau")),
        "purple": (Colour("lila", "Lila", declined=False), Colour("violett", "Violett")),
        "white": (Colour("weiß", "Weiß"), Colour("elfenbeinfarben", "Elfenbein")),
        "pink": (Colour("rosa", "Rosa", declined=False), Colour("pinkfarben", "Pink")),
    }
    textures = {
        "plain": (),
        "striped": ("gestreift", "geringelt"),
        "dotted": ("gepunktet", "getupft", "gesprenkelt"),
        "checked": ("kariert", "gewürfelt"),
    }
    backgrounds = {
        "plain": ("auf einfarbigem Hintergrund", "freigestellt", "auf schlichtem Hintergrund"),
        "grass": ("auf Gras", "im Gras", "auf einem Rasen"),
        "sand": ("auf Sand", "am Strand", "in der Wüste"),
        "water": ("auf dem Wasser", "im Meer", "auf dem See"),
        "night": ("bei Nacht", "am Nachthimmel", "um Mitternacht"),
        "snow": ("im Schnee", "auf Schnee", "im Winter"),
        "brick": ("auf einer Ziegelwand", "vor Ziegelsteinen"),
        "wood": ("auf Holz", "auf einem Holztisch", "auf Holzbrettern"),
    }
    tags = {
        "grass": "Gras", "sand": "Sand", "water": "Wasser", "night": "Nacht", "snow": "Schnee", "brick": "Ziegel",
        "wood": "Holz",
    }  # fmt: skip
    relations = {
        "left of": (("links von", "dative"), ("links neben", "dative"), ("auf der linken Seite von", "dative")),
        "right of": (("rechts von", "dative"), ("rechts neben", "dative"), ("auf der rechten Seite von", "dative")),
        "above": (("über", "dative"), ("oberhalb von", "dative")),
        "below": (("unter", "dative"), ("unterhalb von", "dative"), ("direkt unter", "dative")),
        "on": (("auf", "dative"), ("oben auf", "dative")),
        "under": (("unter", "dative"), ("unterhalb von", "dative")),
    }
    loosely = (
        ("und", "nominative"), ("mit", "dative"), ("neben", "dative"), ("an der Seite von", "dative"),
        ("in der Nähe von", "dative"),
    )  # fmt: skip
    numbers = (("zwei", "2", "ein Paar"), ("drei", "3", "einige"))
    conjunction = "und"
    before = (
        "Stockfoto:", "Foto:", "Bild:", "Abbildung:", "Illustration:", "IMG_{n}", "neu!", "Vektor:", "bei uns:",
        "jetzt kaufen:", "Hintergrundbild:", "niedlich:", "top:", "DSC{n}", "Zeichnung:", "Angebot:",
    )  # fmt: skip
    after = (
        "| Gratis-Hintergrund", "- Stockbild", "jetzt kaufen", "kostenloser Download", "({n})", "Clipart",
        "- Onlineshop", "hd", "zu verkaufen", "#{n}", "| Galerie", "lizenzfrei", "von Anna", "- Bestpreis", "Foto {n}",
        "...",
    )  # fmt: skip

    def tag(self, told, noun) -> str:
        return declined(told, "")

    def say(self, named: Named, case: str = "nominative") -> str:
        """'ein gestreifter roter Stern', 'zwei rote Sterne'; dative: 'einem roten Stern', 'rotem Stern'."""
        noun = named.noun
        if named.number:
            return " ".join([named.number, *(declined(told, "e") for told in named.told), noun.many])
        ending = (AFTER_EIN if named.article else ALONE)[case][noun.article]
        words = [EIN[case][noun.article]] if named.article else []
        words += [declined(told, ending) for told in named.told]
        words.append((case == "dative" and noun.dative) or noun.one)
        return " ".join(words) + (f" in {named.hue.noun}" if named.in_colour else "")


GERMAN = German()
