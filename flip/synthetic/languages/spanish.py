"""Spanish: two genders; what is told of a thing follows it and agrees with it, unless it is a noun itself (naranja)."""

from typing import NamedTuple

from flip.synthetic.languages.base import Language, Named


class Noun(NamedTuple):
    """None begins with a stressed a-, which would take "un" though feminine."""

    article: str  # un, una: its gender
    one: str
    many: str


INVARIABLE = {
    "naranja", "escarlata", "esmeralda", "violeta", "marfil", "rosa", "a rayas", "de lunares", "a cuadros",
}  # fmt: skip


def agreeing(word: str, noun: Noun, several: bool) -> str:
    """A word, masculine and singular, as it goes with the noun: roja, rojos, azules."""
    if word in INVARIABLE:
        return word
    if word.endswith("o"):
        word = word[:-1] + ("a" if noun.article == "una" else "o")
    return word + ("" if not several else "s" if word[-1] in "aeo" else "es")


class Spanish(Language):
    shapes = {
        "ball": (Noun("una", "pelota", "pelotas"), Noun("un", "círculo", "círculos"), Noun("un", "disco", "discos")),
        "star": (Noun("una", "estrella", "estrellas"), Noun("un", "pentáculo", "pentáculos")),
        "heart": (Noun("un", "corazón", "corazones"), Noun("un", "corazoncito", "corazoncitos")),
        "triangle": (Noun("un", "triángulo", "triángulos"), Noun("una", "pirámide", "pirámides")),
        "square": (Noun("un", "cuadrado", "cuadrados"), Noun("una", "caja", "cajas"), Noun("un", "bloque", "bloques")),
        "cross": (Noun("una", "cruz", "cruces"), Noun("una", "crucecita", "crucecitas")),
        "moon": (Noun("una", "luna", "lunas"), Noun("una", "media luna", "medias lunas")),
        "arrow": (Noun("una", "flecha", "flechas"), Noun("un", "puntero", "punteros")),
        "ring": (Noun("un", "anillo", "anillos"), Noun("un", "aro", "aros"), Noun("una", "rosquilla", "rosquillas")),
        "house": (Noun("una", "casa", "casas"), Noun("una", "casita", "casitas"), Noun("una", "cabaña", "cabañas")),
        "tree": (Noun("un", "árbol", "árboles"), Noun("un", "pino", "pinos"), Noun("un", "abeto", "abetos")),
        "fish": (Noun("un", "pez", "peces"), Noun("una", "carpa", "carpas")),
        "mug": (Noun("una", "taza", "tazas"), Noun("un", "tazón", "tazones")),
        "key": (Noun("una", "llave", "llaves"), Noun("un", "llavín", "llavines")),
        "mushroom": (Noun("una", "seta", "setas"), Noun("un", "hongo", "hongos")),
        "boat": (Noun("un", "barco", "barcos"), Noun("un", "buque", "buques"), Noun("un", "velero", "veleros")),
    }
    things = (Noun("una", "cosa", "cosas"), Noun("un", "objeto", "objetos"))
    colours = {
        "red": ("rojo", "carmesí", "escarlata"),
        "orange": ("naranja", "anaranjado"),
        "yellow": ("amarillo", "dorado"),
        "green": ("verde", "esmeralda"),
        "blue": ("azul", "celeste"),
        "purple": ("morado", "violeta"),
        "white": ("blanco", "marfil"),
        "pink": ("rosa", "rosado"),
    }
    textures = {
        "plain": (),
        "striped": ("a rayas", "rayado"),
        "dotted": ("punteado", "de lunares", "moteado"),
        "checked": ("a cuadros", "cuadriculado"),
    }
    backgrounds = {
        "plain": ("sobre un fondo liso", "sin fondo", "sobre un fondo sencillo"),
        "grass": ("sobre hierba", "en la hierba", "sobre el césped"),
        "sand": ("sobre arena", "en la playa", "en el desierto"),
        "water": ("sobre el agua", "en el mar", "en el lago"),
        "night": ("de noche", "en el cielo nocturno", "a medianoche"),
        "snow": ("en la nieve", "sobre nieve", "en invierno"),
        "brick": ("en una pared de ladrillo", "delante de unos ladrillos"),
        "wood": ("sobre madera", "sobre una mesa de madera", "sobre tablas de madera"),
    }
    tags = {
        "grass": "hierba", "sand": "arena", "water": "agua", "night": "noche", "snow": "nieve", "brick": "ladrillo",
        "wood": "madera",
    }  # fmt: skip
    relations = {
        "left of": ("a la izquierda de", "a mano izquierda de", "al lado izquierdo de"),
        "right of": ("a la derecha de", "a mano derecha de", "al lado derecho de"),
        "above": ("por encima de", "arriba de"),
        "below": ("debajo de", "por debajo de", "bajo"),
        "on": ("sobre", "encima de"),
        "under": ("debajo de", "bajo"),
    }
    loosely = ("y", "con", "junto a", "al lado de", "cerca de")
    numbers = (("dos", "2", "un par de"), ("tres", "3", "varios"))
    conjunction = "y"
    longest = 28  # "a la izquierda de" for "left of"
    before = (
        "foto de archivo:", "foto:", "imagen:", "figura:", "ilustración:", "IMG_{n}", "¡nuevo!", "vector:",
        "en nuestra tienda:", "compra:", "fondo de pantalla:", "adorable:", "lo mejor:", "DSC{n}", "dibujo:", "oferta:",
    )  # fmt: skip
    after = (
        "| fondo gratis", "- imagen de archivo", "compra ya", "descarga gratis", "({n})", "clipart", "- tienda online",
        "hd", "en venta", "#{n}", "| galería", "sin derechos", "por ana", "- mejor precio", "foto {n}", "...",
    )  # fmt: skip

    def tag(self, told, noun) -> str:
        return agreeing(told, noun, False)

    def say(self, named: Named, case: str = "") -> str:
        """'una estrella roja a rayas', 'varias estrellas azules', 'una estrella en rojo'."""
        noun, number = named.noun, named.number
        told = [agreeing(word, noun, number is not None) for word in named.told]
        if number:
            return " ".join([agreeing("vario", noun, True) if number == "varios" else number, noun.many, *told])
        words = [*([noun.article] if named.article else []), noun.one, *told]
        return " ".join(words) + (f" en {named.hue}" if named.in_colour else "")


SPANISH = Spanish()
