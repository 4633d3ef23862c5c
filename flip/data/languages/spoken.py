"""The languages that the world speaks, by their ISO 639-1 codes; flip.schema_data.WORLD_LANGUAGES names them, too."""

from flip.data.languages.english import ENGLISH
from flip.data.languages.german import GERMAN
from flip.data.languages.russian import RUSSIAN
from flip.data.languages.spanish import SPANISH

LANGUAGES = {"en": ENGLISH, "de": GERMAN, "es": SPANISH, "ru": RUSSIAN}
