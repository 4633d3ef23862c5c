"""Ask questions about synthetic images, each with ten annotators' answers, as in VQAv2 (Goyal et al. 2017).

Annotators agree on what they see and differ in their words: as in captions, most use the usual word.
"""

from random import Random

from flip.config.kinds.vqa import Question
from flip.synthetic.captions import INVERSE, word
from flip.synthetic.languages.english import ENGLISH
from flip.synthetic.scenes import Scene, Thing

ANNOTATORS = 10
COUNTS = {1: ("1", "one"), 2: ("2", "two"), 3: ("3", "three")}


def answered(kind: str, text: str, words: tuple[str, ...], random: Random) -> Question:
    """Return a question with each annotator's answer, drawn from synonyms."""
    return Question(kind, text, [word(words, random) for _ in range(ANNOTATORS)])


def unlike(scene: Scene, attribute: str) -> list[Thing]:
    """List the things that no other shares the attribute (shape, colour) with; of several alike, the first alone."""
    if scene.alike:
        return [scene.main]
    values = [getattr(thing, attribute) for thing in scene.things]
    return [thing for thing in scene.things if values.count(getattr(thing, attribute)) == 1]


def called(scene: Scene, thing: Thing, random: Random) -> str:
    """Return 'is the star', or 'are the stars'."""
    noun = word(ENGLISH.shapes[thing.shape], random)
    return f"are the {ENGLISH.many(noun)}" if scene.alike else f"is the {noun}"


def between(scene: Scene, random: Random) -> Question:
    """Ask where one of the first two things is, seen from the other; the scene has a relation."""
    one, other = scene.things[:2]
    relation = scene.relation
    assert relation is not None  # as `questions` looks
    if random.random() < 0.5:
        one, other, relation = other, one, INVERSE[relation]
    noun = word(ENGLISH.shapes[other.shape], random)
    text = f"where {called(scene, one, random)}, seen from the {noun}?"
    return answered("relation", text, ENGLISH.relations[relation], random)


def questions(scene: Scene, random: Random) -> list[Question]:
    """Return one question of each kind that the scene allows; each has one right answer."""
    shaped, coloured, found = unlike(scene, "shape"), unlike(scene, "colour"), []
    if shaped:
        thing = random.choice(shaped)
        text = f"what colour {called(scene, thing, random)}?"
        found.append(answered("colour", text, ENGLISH.colours[thing.colour], random))
    if coloured:
        thing = random.choice(coloured)
        hue = word(ENGLISH.colours[thing.colour], random)
        text = f"what are the {hue} things?" if scene.alike else f"what is the {hue} thing?"
        found.append(answered("shape", text, ENGLISH.shapes[thing.shape], random))
    found.append(answered("count", "how many things are there?", COUNTS[len(scene.things)], random))
    found.append(answered("place", "where is this?", ENGLISH.backgrounds[scene.background], random))
    if scene.relation and all(thing in shaped for thing in scene.things[:2]):
        found.append(between(scene, random))
    return found
