"""List the languages of synthetic captions by ISO 639-1 code, as flip.config.sections.data.WORLD_LANGUAGES does."""

from flip.synthetic.languages.english import ENGLISH
from flip.synthetic.languages.german import GERMAN
from flip.synthetic.languages.russian import RUSSIAN
from flip.synthetic.languages.spanish import SPANISH

LANGUAGES = {"en": ENGLISH, "de": GERMAN, "es": SPANISH, "ru": RUSSIAN}
