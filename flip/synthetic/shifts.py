"""Draw test images: scenes from random streams of their own, and four sets with a distribution shift."""

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
from flip.synthetic.surfaces import printed
from flip.synthetic.textures import crop

SHIFTED = ("sketch", "rendition", "corruption", "viewpoint")
# A share of these leaks into the URL table. The others do not: the table stays as it was before they were added.
LEAKING = ("fine", "coarse", "retrieval", *SHIFTED)
SETS = tuple(WORLD)


# Sets of another one's images, so that no more are kept out of training.
IMAGES_OF = {"entailment": "fine", "composition": "pointing"}


def classes(name: str) -> tuple[str, ...]:
    """Return a set's class names; none where images have captions."""
    others: dict[str, tuple[str, ...]] = {
        "fine": FINE,
        "validation": FINE,
        "entailment": entailment.CLASSES,
        "retrieval": (),
        "pointing": (),
        "composition": (),
    }
    return others.get(name, COARSE)


def size(world: World, name: str, split: str = "test") -> int:
    """Return the number of images in a set, or in the training split that a probe is fitted on."""
    counted = "shifted" if name in SHIFTED else "pointing" if name == "composition" else name
    return getattr(world.probe if split == "train" else world.tests, counted)


def label(name: str, index: int) -> int:
    """Return the class index of a set's image; classes take turns, so they are balanced."""
    return index % len(classes(name))


def scene_of(world: World, name: str, index: int, split: str = "test") -> Scene:
    """Return the scene of image `index` of a set: mostly one thing, of its class; any scene for sets with captions."""
    name = IMAGES_OF.get(name, name)
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
    """Draw a number between the limits, of either sign."""
    return random.choice((-1, 1)) * random.uniform(low, high)


def tilted(scene: Scene, random: Random) -> Scene:
    """Return a scene whose things are turned further, seen from the side or from behind, nearer or farther."""
    zoom = random.choice((random.uniform(0.6, 0.75), random.uniform(1.15, 1.35)))
    behind = random.random() < 0.5
    turn, tilt = either(random, 20, 50), (either(random, 20, 50), either(random, 10, 45))
    things = [
        replace(t, angle=t.angle + turn, tilt=tilt, mirrored=behind, size=t.size * zoom, x=t.x * zoom, y=t.y * zoom)
        for t in scene.things
    ]
    return replace(scene, things=tuple(things))


def sketch(scene: Scene) -> np.ndarray:
    """Draw a scene as outlines in chalk, each line up to three times, sometimes hatched: uint8 [height, width, 3]."""
    random = Random(scene.look)
    image = 0.25 * crop("paper", scene.width, scene.height, random).astype(np.float32)
    chalk, width = (
        random.uniform(190, 250),
        max(1, round(min(scene.width, scene.height) * random.uniform(0.012, 0.03))),
    )
    for thing in scene.things:
        polygons = render.placed(thing, scene.width, scene.height)
        if random.random() < 0.4:
            hatched = printed(replace(thing, texture="striped", size=thing.size * 0.35), scene, random)
            mask = np.where(hatched, render.silhouette(polygons, scene), 0)
            render.paint(image, mask // 2, np.array([chalk] * 3, np.float32))
        for _ in range(random.randint(1, 3)):
            wobble = np.array([random.gauss(0, 9), random.gauss(0, 9)]).astype(np.int32)
            lines = [polygon + wobble for polygon in polygons]
            cv2.polylines(image, lines, True, (chalk,) * 3, width, cv2.LINE_AA, 4)
    return render.develop(image, random, noise=0.15)


def rainbow(scene: Scene, random: Random) -> np.ndarray:
    """Return hues that run across the image: float32 [height, width, 3], RGB."""
    x = np.arange(scene.width)[None, :] * random.uniform(1, 3) + np.arange(scene.height)[:, None] * either(random, 0, 3)
    hsv = np.empty((scene.height, scene.width, 3), np.uint8)
    hsv[...] = 0, random.randint(150, 255), random.randint(180, 255)
    hsv[..., 0] = (x + random.uniform(0, 180)) % 180
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB).astype(np.float32)


def material(scene: Scene, random: Random) -> np.ndarray:
    """Return a texture of another background than the scene's: float32 [height, width, 3], RGB."""
    names = [name for name in ("grass", "sand", "water", "brick", "wood") if name != scene.background]
    return crop(random.choice(names), scene.width, scene.height, random).astype(np.float32)


def rendition(scene: Scene) -> np.ndarray:
    """Draw things of brick or wood or in rainbow colours, or the image as mosaic, poster or negative."""
    random = Random(scene.look)
    style = random.choice(("material", "rainbow", "mosaic", "poster", "negative"))
    filling = {"material": material, "rainbow": rainbow}.get(style)
    image = render.background(scene, random)
    for thing in reversed(scene.things):
        render.draw_thing(image, thing, scene, random, filling(scene, random) if filling else None)
    return restyled(render.develop(image, random), style, random)


def restyled(image: np.ndarray, style: str, random: Random) -> np.ndarray:
    """Return an image (uint8 [height, width, 3]) as mosaic, poster or negative; unchanged for other styles."""
    height, width = image.shape[:2]
    if style == "mosaic":
        stones = random.randint(22, 32) / min(height, width)
        small = cv2.resize(image, None, fx=stones, fy=stones, interpolation=cv2.INTER_AREA)
        return cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST)
    if style == "poster":
        return cv2.medianBlur(image, 7) // 80 * 80 + 40
    return 255 - image if style == "negative" else image


def corruption(scene: Scene) -> np.ndarray:
    """Draw a scene with noise, blur, strong compression, fog or occlusion."""
    random = Random(f"{scene.look}/corruption")
    return random.choice((noisy, blurred, compressed, foggy, occluded))(render.draw(scene), random)


def noisy(image: np.ndarray, random: Random) -> np.ndarray:
    """Return the image with strong noise."""
    height, width = image.shape[:2]
    grains = crop("noise", width, height, random, (1, 2)).astype(np.float32) - 128
    return np.clip(image + grains * random.uniform(1.2, 2.4), 0, 255).astype(np.uint8)


def blurred(image: np.ndarray, random: Random) -> np.ndarray:
    """Return the image blurred by a Gaussian of 2 to 4 % of its shorter side."""
    return cv2.GaussianBlur(image, (0, 0), min(image.shape[:2]) * random.uniform(0.02, 0.04))


def compressed(image: np.ndarray, random: Random) -> np.ndarray:
    """Return the image after JPEG compression at quality 4 to 9."""
    return render.decode(render.encode(image, random.randint(4, 9)))


def foggy(image: np.ndarray, random: Random) -> np.ndarray:
    """Return the image blended with white."""
    return cv2.addWeighted(image, random.uniform(0.25, 0.45), np.full_like(image, 255), random.uniform(0.45, 0.55), 0)


def occluded(image: np.ndarray, random: Random) -> np.ndarray:
    """Draw two or three bars across the image, in place, and return it."""
    height, width = image.shape[:2]
    for _ in range(random.randint(2, 3)):
        ends = ((0, random.randint(0, height)), (width, random.randint(0, height)))
        colour = [random.randint(0, 255) for _ in range(3)]
        cv2.line(image, *ends, colour, max(3, round(min(height, width) * random.uniform(0.06, 0.1))))
    return image


def captions_of(
    world: World, index: int, language: Language = ENGLISH, name: str = "retrieval", split: str = "test"
) -> list[str]:
    """Write five different, correct captions of an image of the retrieval set, or of another set."""
    scene, random = scene_of(world, name, index, split), stream(world, f"{split} captions", index)
    found: dict[str, str] = {}
    while len(found) < 5:
        text = describe(scene, random, detail=True, language=language)
        found.setdefault(text.lower(), text)
    return list(found.values())


def annotations(
    world: World, name: str, index: int, language: Language = ENGLISH, split: str = "test"
) -> dict[str, str]:
    """Return the annotations of image `index` by file extension: class, captions (a line each), boxes or pairs."""
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
    """Return image `index` of a set in words: a caption, or its class name."""
    found = annotations(world, name, index)
    return found["txt"].splitlines()[0] if "txt" in found else classes(name)[label(name, index)]


def jpeg_of(world: World, name: str, index: int, split: str = "test") -> bytes:
    """Return image `index` of a set as a JPEG file."""
    scene = scene_of(world, name, index, split)
    draw = {"sketch": sketch, "rendition": rendition, "corruption": corruption}.get(name, render.draw)
    return render.encode(draw(scene), render.quality(scene))
