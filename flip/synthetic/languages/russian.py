"""Russian: three genders, six cases, no articles; after two and three things stand in the genitive singular, after
"пара" and "несколько" in the genitive plural. ё is written."""

import re
from typing import NamedTuple

from flip.synthetic.languages.base import Language, Named


class Noun(NamedTuple):
    gender: str  # m, f, n
    nominative: str
    genitive: str
    instrumental: str
    prepositional: str
    many: str
    of_many: str  # genitive plural


def noun(gender: str, forms: str) -> Noun:
    return Noun(gender, *forms.split())


# Endings of adjectives by case and gender; `many` and `of_many` are plurals.
HARD = {
    "nominative": {"m": "ый", "f": "ая", "n": "ое"},
    "genitive": {"m": "ого", "f": "ой", "n": "ого"},
    "instrumental": {"m": "ым", "f": "ой", "n": "ым"},
    "prepositional": {"m": "ом", "f": "ой", "n": "ом"},
    "many": "ые",
    "of_many": "ых",
}
SOFT = {
    "nominative": {"m": "ий", "f": "яя", "n": "ее"},
    "genitive": {"m": "его", "f": "ей", "n": "его"},
    "instrumental": {"m": "им", "f": "ей", "n": "им"},
    "prepositional": {"m": "ем", "f": "ей", "n": "ем"},
    "many": "ие",
    "of_many": "их",
}


def is_adjective(word: str) -> bool:
    """The others are phrases that follow the noun: в полоску."""
    return word.endswith(("ый", "ой", "ий"))


def declined(word: str, case: str, gender: str) -> str:
    """An adjective, given as its masculine nominative; `case` may be `many` or `of_many`, too."""
    endings = (SOFT if word.endswith("ий") else HARD)[case]
    ending = endings if isinstance(endings, str) else endings[gender]
    return word if (case, gender) == ("nominative", "m") else word[:-2] + ending


class Russian(Language):
    shapes = {
        "ball": (
            noun("m", "мяч мяча мячом мяче мячи мячей"),
            noun("m", "круг круга кругом круге круги кругов"),
            noun("m", "диск диска диском диске диски дисков"),
        ),
        "star": (
            noun("f", "звезда звезды звездой звезде звёзды звёзд"),
            noun("f", "пентаграмма пентаграммы пентаграммой пентаграмме пентаграммы пентаграмм"),
        ),
        "heart": (
            noun("n", "сердце сердца сердцем сердце сердца сердец"),
            noun("n", "сердечко сердечка сердечком сердечке сердечки сердечек"),
        ),
        "triangle": (
            noun("m", "треугольник треугольника треугольником треугольнике треугольники треугольников"),
            noun("f", "пирамида пирамиды пирамидой пирамиде пирамиды пирамид"),
        ),
        "square": (
            noun("m", "квадрат квадрата квадратом квадрате квадраты квадратов"),
            noun("f", "коробка коробки коробкой коробке коробки коробок"),
            noun("m", "блок блока блоком блоке блоки блоков"),
        ),
        "cross": (
            noun("m", "крест креста крестом кресте кресты крестов"),
            noun("m", "плюс плюса плюсом плюсе плюсы плюсов"),
        ),
        "moon": (
            noun("f", "луна луны луной луне луны лун"),
            noun("m", "полумесяц полумесяца полумесяцем полумесяце полумесяцы полумесяцев"),
        ),
        "arrow": (
            noun("f", "стрелка стрелки стрелкой стрелке стрелки стрелок"),
            noun("m", "указатель указателя указателем указателе указатели указателей"),
        ),
        "ring": (
            noun("n", "кольцо кольца кольцом кольце кольца колец"),
            noun("m", "обруч обруча обручем обруче обручи обручей"),
            noun("m", "пончик пончика пончиком пончике пончики пончиков"),
        ),
        "house": (
            noun("m", "дом дома домом доме дома домов"),
            noun("m", "домик домика домиком домике домики домиков"),
            noun("f", "хижина хижины хижиной хижине хижины хижин"),
        ),
        "tree": (
            noun("n", "дерево дерева деревом дереве деревья деревьев"),
            noun("f", "сосна сосны сосной сосне сосны сосен"),
            noun("f", "ёлка ёлки ёлкой ёлке ёлки ёлок"),
        ),
        "fish": (
            noun("f", "рыба рыбы рыбой рыбе рыбы рыб"),
            noun("m", "карп карпа карпом карпе карпы карпов"),
        ),
        "mug": (
            noun("f", "кружка кружки кружкой кружке кружки кружек"),
            noun("f", "чашка чашки чашкой чашке чашки чашек"),
        ),
        "key": (
            noun("m", "ключ ключа ключом ключе ключи ключей"),
            noun("m", "ключик ключика ключиком ключике ключики ключиков"),
        ),
        "mushroom": (
            noun("m", "гриб гриба грибом грибе грибы грибов"),
            noun("m", "мухомор мухомора мухомором мухоморе мухоморы мухоморов"),
        ),
        "boat": (
            noun("f", "лодка лодки лодкой лодке лодки лодок"),
            noun("m", "корабль корабля кораблём корабле корабли кораблей"),
            noun("m", "парусник парусника парусником паруснике парусники парусников"),
        ),
    }
    things = (
        noun("f", "вещь вещи вещью вещи вещи вещей"),
        noun("m", "предмет предмета предметом предмете предметы предметов"),
    )
    colours = {
        "red": ("красный", "багровый", "алый"),
        "orange": ("оранжевый", "мандариновый"),
        "yellow": ("жёлтый", "золотой"),
        "green": ("зелёный", "изумрудный"),
        "blue": ("синий", "лазурный"),
        "purple": ("фиолетовый", "лиловый"),
        "white": ("белый", "кремовый"),
        "pink": ("розовый", "розоватый"),
    }
    textures = {
        "plain": (),
        "striped": ("полосатый", "в полоску"),
        "dotted": ("в горошек", "в крапинку", "пятнистый"),
        "checked": ("клетчатый", "в клетку"),
    }
    backgrounds = {
        "plain": ("на однотонном фоне", "без фона", "на простом фоне"),
        "grass": ("на траве", "в траве", "на лужайке"),
        "sand": ("на песке", "на пляже", "в пустыне"),
        "water": ("на воде", "в море", "на озере"),
        "night": ("ночью", "в ночном небе", "в полночь"),
        "snow": ("в снегу", "на снегу", "зимой"),
        "brick": ("на кирпичной стене", "на фоне кирпичей"),
        "wood": ("на древесине", "на деревянном столе", "на деревянных досках"),
    }
    tags = {
        "grass": "трава", "sand": "песок", "water": "вода", "night": "ночь", "snow": "снег", "brick": "кирпич",
        "wood": "древесина",
    }  # fmt: skip
    relations = {
        "left of": (("слева от", "genitive"), ("левее", "genitive"), ("по левую сторону от", "genitive")),
        "right of": (("справа от", "genitive"), ("правее", "genitive"), ("по правую сторону от", "genitive")),
        "above": (("над", "instrumental"), ("выше", "genitive")),
        "below": (("под", "instrumental"), ("ниже", "genitive"), ("прямо под", "instrumental")),
        "on": (("на", "prepositional"), ("поверх", "genitive")),
        "under": (("под", "instrumental"), ("ниже", "genitive")),
    }
    loosely = (
        ("и", "nominative"), ("с", "instrumental"), ("рядом с", "instrumental"), ("возле", "genitive"),
        ("около", "genitive"),
    )  # fmt: skip
    # "2" and "3" are read as words are. Of two words the second goes with feminine nouns.
    numbers = (("два две", "2", "пара"), ("три", "3", "несколько"))
    conjunction = "и"
    before = (
        "стоковое фото:", "фото:", "картинка:", "изображение:", "иллюстрация:", "IMG_{n}", "новинка!", "вектор:",
        "у нас:", "купить:", "обои:", "мило:", "лучшее:", "DSC{n}", "рисунок:", "распродажа:",
    )  # fmt: skip
    after = (
        "| бесплатные обои", "- стоковое изображение", "купить сейчас", "скачать бесплатно", "({n})", "клипарт",
        "- интернет-магазин", "hd", "на продажу", "#{n}", "| галерея", "без лицензии", "от Анны", "- лучшая цена",
        "фото {n}", "...",
    )  # fmt: skip

    def one(self, noun) -> str:
        return noun.nominative

    def tag(self, told, noun) -> str:
        return declined(told, "nominative", noun.gender) if is_adjective(told) else told

    def say(self, named: Named, case: str = "nominative") -> str:
        """'красная звезда в полоску', 'две красные звезды', 'пара красных звёзд', 'звезда красного цвета'."""
        noun, number, form, adjectives = named.noun, [], case, case
        if named.number in ("пара", "несколько"):
            number, form, adjectives = [named.number], "of_many", "of_many"
        elif named.number:
            words = named.number.split()
            number, form = [words[-1] if noun.gender == "f" else words[0]], "genitive"
            adjectives = "many" if noun.gender == "f" else "of_many"
        told = [declined(word, adjectives, noun.gender) for word in named.told if is_adjective(word)]
        behind = [word for word in named.told if not is_adjective(word)]
        colour = [declined(named.hue, "genitive", "m"), "цвета"] if named.in_colour else []
        return " ".join([*number, *told, getattr(noun, form), *behind, *colour])

    def join(self, first: Named, relation, second: Named) -> str:
        """With "со" before two consonants of which the first is a sibilant: со звездой."""
        return re.sub(r"\bс (?=[сзшж][бвгджзйклмнпрстфхцчшщ])", "со ", super().join(first, relation, second))


RUSSIAN = Russian()
