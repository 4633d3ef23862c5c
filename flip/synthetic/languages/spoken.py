"""The languages that the world speaks, by their ISO 639-1 codes; flip.config.sections.data.WORLD_LANGUAGES names
them, too."""

from flip.synthetic.languages.english import ENGLISH
from flip.synthetic.languages.german import GERMAN
from flip.synthetic.languages.russian import RUSSIAN
from flip.synthetic.languages.spanish import SPANISH

LANGUAGES = {"en": ENGLISH, "de": GERMAN, "es": SPANISH, "ru": RUSSIAN}
