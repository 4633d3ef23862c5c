"""Draw what synthetic images show: things with random attributes, their positions and the background.

Each draw comes from a stream named after its purpose, so that changing one parameter of the data set changes nothing
else.
"""

from dataclasses import dataclass, replace
from random import Random

from flip.config.schema import World

SHAPES = (
    "ball", "star", "heart", "triangle", "square", "cross", "moon", "arrow",
    "ring", "house", "tree", "fish", "mug", "key", "mushroom", "boat",
)  # fmt: skip
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "white", "pink")
TEXTURES = ("usual", "striped", "dotted", "checked")  # usual: that of its shape (flip.synthetic.surfaces)
BACKGROUNDS = ("plain", "grass", "sand", "water", "night", "snow", "brick", "wood")

# Where things of a shape are most often seen, as fish are in water.
HABITATS = {
    "ball": "grass", "star": "night", "heart": "plain", "triangle": "brick", "square": "brick", "cross": "snow",
    "moon": "night", "arrow": "wood", "ring": "sand", "house": "snow", "tree": "grass", "fish": "water",
    "mug": "wood", "key": "plain", "mushroom": "sand", "boat": "water",
}  # fmt: skip
AT_HOME = 0.85  # share of things seen there; the others are anywhere

COARSE = SHAPES
FINE = tuple(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES)

# Where the second thing lies, seen from the first, by the relation of the first to the second.
RELATIONS = {"left of": (1, 0), "right of": (-1, 0), "above": (0, 1), "below": (0, -1), "on": (0, 1)}
TURN = 10  # degrees that things are turned by at most, either way
ASIDE = 0.04  # largest distance of the main thing from the middle along either axis


@dataclass(frozen=True)
class Thing:
    """Describe one object; lengths in units of the image's shorter side, from its centre, y downwards."""

    shape: str
    colour: str
    texture: str
    size: float
    x: float
    y: float
    angle: float  # degrees
    mirrored: bool = False
    tilt: tuple[float, float] = (0.0, 0.0)  # degrees about the vertical and the horizontal axis


@dataclass(frozen=True)
class Scene:
    """Describe an image before it is drawn; the first thing is the main one."""

    things: tuple[Thing, ...]
    relation: str | None  # of the first thing to the second
    background: str
    width: int  # pixels
    height: int
    look: str  # names the random stream of what captions do not say: light, tone, noise

    @property
    def main(self) -> Thing:
        """Return the thing that captions are about."""
        return self.things[0]

    @property
    def alike(self) -> bool:
        """Return whether the things are several of one kind, which captions count."""
        return len(self.things) > 1 and self.relation is None


def stream(world: World, *purpose: str | int) -> Random:
    """Return a random generator that depends on the data set's seed and the purpose alone, equal in every process."""
    return Random("/".join(map(str, (world.seed, *purpose))))


def draw_thing(random: Random, size: tuple[float, float], shape: str | None = None, colour: str | None = None) -> Thing:
    """Draw a thing at the centre, all attributes independently unless given."""
    drawn = random.choice(SHAPES), random.choice(COLOURS)
    return Thing(
        shape=shape or drawn[0],
        colour=colour or drawn[1],
        texture=random.choices(TEXTURES, (0.91, 0.03, 0.03, 0.03))[0],
        size=random.uniform(*size),
        x=0.0,
        y=0.0,
        angle=random.uniform(-TURN, TURN),
    )


def beside(thing: Thing, main: Thing, direction: tuple[int, int], gap: float, slip: float) -> Thing:
    """Return `thing` moved to one side of `main`, `slip` off the axis."""
    far = (thing.size + main.size) / 2 + gap
    dx, dy = direction
    return replace(thing, x=main.x + dx * far + dy * slip, y=main.y + dy * far + dx * slip)


def framed(things: list[Thing], random: Random) -> tuple[Thing, ...]:
    """Return a group of things with its main thing near the middle, as in photographs."""
    dx, dy = random.uniform(-ASIDE, ASIDE), random.uniform(-ASIDE, ASIDE)
    return tuple(replace(thing, x=thing.x + dx, y=thing.y + dy) for thing in things)


def around(main: Thing, count: int, relation: str, alike: bool, random: Random) -> list[Thing]:
    """Draw `count` smaller things: the first placed by the relation, the second off that axis, where there is room."""
    dx, dy = RELATIONS[relation]
    side = random.choice((-1, 1))
    things: list[Thing] = []
    for direction in ((dx, dy), (dy * side, dx * side))[:count]:
        thing = draw_thing(random, (0.2, 0.28))
        if alike:
            thing = replace(thing, shape=main.shape, colour=main.colour, texture=main.texture)
        touching = relation == "on" and not things and not alike
        gap = -0.03 if touching else random.uniform(0.02, 0.07)
        things.append(beside(thing, main, direction, gap, random.uniform(-0.08, 0.08)))
    return things


def draw_size(random: Random) -> dict[str, int]:
    """Draw width and height of an image in pixels."""
    short, aspect = random.randint(96, 200), random.uniform(0.7, 1.5)
    return {"width": round(short * max(1, aspect)), "height": round(short * max(1, 1 / aspect))}


def draw_scene(
    random: Random, look: str, count: int | None = None, shape: str | None = None, colour: str | None = None
) -> Scene:
    """Draw a scene of `count` things (one to three), the main one of the given shape and colour, if any."""
    drawn = random.choices((1, 2, 3), (0.65, 0.25, 0.1))[0]
    count = count or drawn
    main = draw_thing(random, (0.78, 1.0) if count == 1 else (0.6, 0.75), shape, colour)
    relation, alike = random.choice(tuple(RELATIONS)), random.random() < 0.2
    things = [main, *around(main, count - 1, relation, alike, random)]
    size = draw_size(random)
    return Scene(
        things=framed(things, random),
        relation=relation if count > 1 and not alike else None,
        background=HABITATS[main.shape] if random.random() < AT_HOME else random.choice(BACKGROUNDS),
        look=look,
        **size,
    )
