"""Test pictures of the world: scenes of their own streams, five of the sets drawn as training pictures never are."""

from dataclasses import replace
from random import Random

import cv2
import numpy as np

from flip.config.schema import World
from flip.metrics.sets import WORLD
from flip.synthetic import composition, entailment, pointing, render
from flip.synthetic.captions import describe
from flip.synthetic.languages.base import Language
from flip.synthetic.languages.english import ENGLISH
from flip.synthetic.scenes import COARSE, FINE, Scene, draw_scene, stream
from flip.synthetic.textures import crop

SHIFTED = ("sketch", "rendition", "corruption", "viewpoint")
# A share of these leaks into the URL table. The others do not: the table is what it was before they were there.
LEAKING = ("fine", "coarse", "retrieval", *SHIFTED)
SETS = tuple(WORLD)


# Sets of another one's pictures, so that no more are kept out of training.
PICTURES_OF = {"entailment": "fine", "composition": "pointing"}


def classes(name: str) -> tuple[str, ...]:
    """The set's class names; none where pictures have captions."""
    others = {"fine": FINE, "entailment": entailment.CLASSES, "retrieval": (), "pointing": (), "composition": ()}
    return others.get(name, COARSE)


def size(world: World, name: str, split: str = "test") -> int:
    """Pictures in the set, or in the training split that a probe is fitted on."""
    counted = "shifted" if name in SHIFTED else "pointing" if name == "composition" else name
    return getattr(world.probe if split == "train" else world.tests, counted)


def label(name: str, index: int) -> int:
    """Class of the set's picture; classes take turns, so they are balanced."""
    return index % len(classes(name))


def scene_of(world: World, name: str, index: int, split: str = "test") -> Scene:
    """What picture `index` of the set shows: mostly one thing, of its class; what else for sets of captions."""
    name = PICTURES_OF.get(name, name)
    random = stream(world, split, name, index)
    look = f"{world.seed}/{split} look/{name}/{index}"
    if name == "retrieval":
        return draw_scene(random, look)
    if name == "pointing":
        return pointing.draw_group(random, look)
    words = classes(name)[label(name, index)].split()
    scene = draw_scene(random, look, 1 if random.random() < 0.8 else 2, words[-1], words[0] if len(words) > 1 else None)
    return tilted(scene, random) if name == "viewpoint" else scene


def either(random: Random, low: float, high: float) -> float:
    """A number between the limits, of either sign."""
    return random.choice((-1, 1)) * random.uniform(low, high)


def tilted(scene: Scene, random: Random) -> Scene:
    """Things turned further than in training, seen from the side or from behind, nearer or farther."""
    zoom = random.choice((random.uniform(0.6, 0.75), random.uniform(1.15, 1.35)))
    behind = random.random() < 0.5
    turn, tilt = either(random, 20, 50), (either(random, 20, 50), either(random, 10, 45))
    things = [
        replace(t, angle=t.angle + turn, tilt=tilt, mirrored=behind, size=t.size * zoom, x=t.x * zoom, y=t.y * zoom)
        for t in scene.things
    ]
    return replace(scene, things=tuple(things))


def sketch(scene: Scene) -> np.ndarray:
    """Outlines in chalk on a board, each line drawn more than once, sometimes with hatching."""
    random = Random(scene.look)
    picture = 0.25 * crop("paper", scene.width, scene.height, random).astype(np.float32)
    chalk, width = (
        random.uniform(190, 250),
        max(1, round(min(scene.width, scene.height) * random.uniform(0.012, 0.03))),
    )
    for thing in scene.things:
        polygons = render.placed(thing, scene.width, scene.height)
        if random.random() < 0.4:
            hatched = render.pattern(replace(thing, texture="striped", size=thing.size * 0.35), scene, random)
            mask = np.where(hatched, render.silhouette(polygons, scene), 0)
            render.paint(picture, mask // 2, np.float32([chalk] * 3))
        for _ in range(random.randint(1, 3)):
            wobble = np.array([random.gauss(0, 9), random.gauss(0, 9)]).astype(np.int32)
            lines = [polygon + wobble for polygon in polygons]
            cv2.polylines(picture, lines, True, (chalk,) * 3, width, cv2.LINE_AA, 4)
    return render.develop(picture, random, noise=0.15)


def rainbow(scene: Scene, random: Random) -> np.ndarray:
    """float32 [height, width, 3]: hues that run across the picture."""
    x = np.arange(scene.width)[None, :] * random.uniform(1, 3) + np.arange(scene.height)[:, None] * either(random, 0, 3)
    hsv = np.empty((scene.height, scene.width, 3), np.uint8)
    hsv[...] = 0, random.randint(150, 255), random.randint(180, 255)
    hsv[..., 0] = (x + random.uniform(0, 180)) % 180
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB).astype(np.float32)


def material(scene: Scene, random: Random) -> np.ndarray:
    """float32 [height, width, 3]: what another background is made of."""
    names = [name for name in ("grass", "sand", "water", "brick", "wood") if name != scene.background]
    return crop(random.choice(names), scene.width, scene.height, random).astype(np.float32)


def rendition(scene: Scene) -> np.ndarray:
    """Things of brick or wood, in rainbow colours; or the whole as mosaic, poster or negative."""
    random = Random(scene.look)
    style = random.choice(("material", "rainbow", "mosaic", "poster", "negative"))
    filling = {"material": material, "rainbow": rainbow}.get(style)
    picture = render.background(scene, random)
    for thing in reversed(scene.things):
        render.draw_thing(picture, thing, scene, random, filling(scene, random) if filling else None)
    return restyled(render.develop(picture, random), style, random)


def restyled(picture: np.ndarray, style: str, random: Random) -> np.ndarray:
    """The finished picture in another manner; unknown styles leave it as it is."""
    height, width = picture.shape[:2]
    if style == "mosaic":
        stones = random.randint(22, 32) / min(height, width)
        small = cv2.resize(picture, None, fx=stones, fy=stones, interpolation=cv2.INTER_AREA)
        return cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST)
    if style == "poster":
        return cv2.medianBlur(picture, 7) // 80 * 80 + 40
    return 255 - picture if style == "negative" else picture


def corruption(scene: Scene) -> np.ndarray:
    """Noise, blur, coarse compression, fog or something in front."""
    random = Random(f"{scene.look}/corruption")
    return random.choice((noisy, blurred, compressed, foggy, occluded))(render.draw(scene), random)


def noisy(picture: np.ndarray, random: Random) -> np.ndarray:
    height, width = picture.shape[:2]
    grains = crop("noise", width, height, random, (1, 2)).astype(np.float32) - 128
    return np.clip(picture + grains * random.uniform(1.2, 2.4), 0, 255).astype(np.uint8)


def blurred(picture: np.ndarray, random: Random) -> np.ndarray:
    return cv2.GaussianBlur(picture, (0, 0), min(picture.shape[:2]) * random.uniform(0.02, 0.04))


def compressed(picture: np.ndarray, random: Random) -> np.ndarray:
    return render.decode(render.encode(picture, random.randint(4, 9)))


def foggy(picture: np.ndarray, random: Random) -> np.ndarray:
    return cv2.addWeighted(
        picture, random.uniform(0.25, 0.45), np.full_like(picture, 255), random.uniform(0.45, 0.55), 0
    )


def occluded(picture: np.ndarray, random: Random) -> np.ndarray:
    """Two or three bars across the picture."""
    height, width = picture.shape[:2]
    for _ in range(random.randint(2, 3)):
        ends = ((0, random.randint(0, height)), (width, random.randint(0, height)))
        colour = [random.randint(0, 255) for _ in range(3)]
        cv2.line(picture, *ends, colour, max(3, round(min(height, width) * random.uniform(0.06, 0.1))))
    return picture


def captions_of(
    world: World, index: int, language: Language = ENGLISH, name: str = "retrieval", split: str = "test"
) -> list[str]:
    """Five different captions of a retrieval picture, or of another set's, all of them right."""
    scene, random = scene_of(world, name, index, split), stream(world, f"{split} captions", index)
    found = {}
    while len(found) < 5:
        text = describe(scene, random, detail=True, language=language)
        found.setdefault(text.lower(), text)
    return list(found.values())


def annotations(
    world: World, name: str, index: int, language: Language = ENGLISH, split: str = "test"
) -> dict[str, str]:
    """What stands beside picture `index` of the set, by extension: class, captions (a line each), boxes, pairs."""
    if name == "retrieval":
        return {"txt": "\n".join(captions_of(world, index, language))}
    if name == "pointing":
        return pointing.annotations(scene_of(world, name, index))
    if name == "composition":
        return composition.annotations(scene_of(world, name, index), stream(world, split, "pairs", index))
    if name == "entailment":
        random = stream(world, split, "statement", index)
        return entailment.annotations(scene_of(world, name, index, split), random)
    return {"cls": str(label(name, index))}


def wording(world: World, name: str, index: int) -> str:
    """Picture `index` of the set in words: a caption, or its class name."""
    found = annotations(world, name, index)
    return found["txt"].splitlines()[0] if "txt" in found else classes(name)[label(name, index)]


def jpeg_of(world: World, name: str, index: int, split: str = "test") -> bytes:
    """Picture `index` of the set, encoded."""
    scene = scene_of(world, name, index, split)
    draw = {"sketch": sketch, "rendition": rendition, "corruption": corruption}.get(name, render.draw)
    return render.encode(draw(scene), render.quality(scene))
