"""Draw scenes: background, shadows, objects with fill and outline, lighting, noise and blur; a few ms each."""

from collections.abc import Sequence
from colorsys import hsv_to_rgb
from random import Random

import cv2
import numpy as np
import simplejpeg

from flip.synthetic.scenes import Scene, Thing
from flip.synthetic.shapes import placed
from flip.synthetic.surfaces import ink, printed
from flip.synthetic.textures import crop

# Hue in degrees, saturation, value: from and to. Backgrounds are dim, so that things stand out.
TONES = {
    "red": ((-8, 8), (0.5, 0.7), (0.9, 1.0)),
    "orange": ((22, 32), (0.5, 0.7), (0.92, 1.0)),
    "yellow": ((50, 60), (0.45, 0.65), (0.92, 1.0)),
    "green": ((105, 140), (0.4, 0.6), (0.85, 1.0)),
    "blue": ((205, 225), (0.4, 0.6), (0.9, 1.0)),
    "purple": ((266, 285), (0.4, 0.55), (0.9, 1.0)),
    "white": ((0, 360), (0.0, 0.03), (0.95, 1.0)),
    "pink": ((318, 335), (0.35, 0.5), (0.95, 1.0)),
    "wall": ((0, 360), (0.05, 0.35), (0.6, 1.0)),
}
DIM = 0.45  # light on the background, as a share of that on things
WHITE, BLACK = np.full(3, 255, np.float32), np.zeros(3, np.float32)


def tone(name: str, random: Random) -> np.ndarray:
    """Draw one of the colours that a name stands for: float32 [3], RGB from 0 to 255."""
    hue, saturation, value = (random.uniform(*limits) for limits in TONES[name])
    return np.array(hsv_to_rgb(hue / 360 % 1, saturation, value), np.float32) * 255


def contrast(colour: np.ndarray, amount: float) -> np.ndarray:
    """Return a colour (float32 [3], RGB) made darker if it is light, and lighter if it is dark."""
    luminance = colour @ np.array((0.299, 0.587, 0.114), np.float32)
    return colour + amount * ((BLACK if luminance > 90 else WHITE) - colour)


def background(scene: Scene, random: Random) -> np.ndarray:
    """Draw a scene's background: float32 [height, width, 3], RGB from 0 to 255."""
    if scene.background == "plain":
        return np.tile(DIM * tone("wall", random), (scene.height, scene.width, 1))
    tile = DIM * crop(scene.background, scene.width, scene.height, random, (0.8, 1.7)).astype(np.float32)
    return tile * np.array([random.uniform(0.88, 1.1) for _ in range(3)], np.float32)


def paint(image: np.ndarray, mask: np.ndarray, fill: np.ndarray) -> None:
    """Blend `fill` (a colour [3] or an image) into the image, in place, by the mask (uint8 [height, width])."""
    image += (mask.astype(np.float32) / 255)[..., None] * (fill - image)


def silhouette(polygons: Sequence[np.ndarray], scene: Scene) -> np.ndarray:
    """Return the mask of polygons: uint8 [height, width], 255 inside, antialiased at the edge."""
    mask = np.zeros((scene.height, scene.width), np.uint8)
    cv2.fillPoly(mask, polygons, 255, cv2.LINE_AA, 4)
    return mask


def shadow(image: np.ndarray, mask: np.ndarray, random: Random) -> None:
    """Darken the image [height, width, 3], in place, in a shadow that the mask casts."""
    reach = min(mask.shape) * 0.03
    shift = np.array([[1, 0, random.uniform(-reach, reach)], [0, 1, random.uniform(0.3, 1) * reach]], np.float32)
    soft = cv2.warpAffine(cv2.blur(mask, (5, 5)), shift, mask.shape[::-1])
    image *= (1 - soft.astype(np.float32) * (random.uniform(0.25, 0.5) / 255))[..., None]


def draw_thing(image: np.ndarray, thing: Thing, scene: Scene, random: Random, fill: np.ndarray | None = None) -> None:
    """Draw one thing onto the image, in place, in its own colours or in those of the image `fill`."""
    polygons = placed(thing, scene.width, scene.height)
    mask = silhouette(polygons, scene)
    colour = tone(thing.colour, random)
    shadow(image, mask, random)
    paint(image, mask, colour if fill is None else fill)
    if fill is None:
        second = ink(thing, random)
        shade = contrast(colour, random.uniform(0.4, 0.55)) if second is None else second
        paint(image, np.where(printed(thing, scene, random), mask, 0), shade)
    edge = contrast(colour, random.uniform(0.45, 0.75)).tolist()
    cv2.polylines(image, polygons, True, edge, random.choice((1, 1, 2)), cv2.LINE_AA, 4)


def light(image: np.ndarray, random: Random) -> np.ndarray:
    """Return the image [height, width, 3] with light that falls off to one side."""
    height, width = image.shape[:2]
    x, y = random.uniform(-0.18, 0.18), random.uniform(-0.18, 0.18)
    ramp = np.linspace(-x, x, width, dtype=np.float32) + np.linspace(-y, y, height, dtype=np.float32)[:, None]
    return image * (ramp + random.uniform(0.85, 1.1))[..., None]


def develop(image: np.ndarray, random: Random, blur: float = 0.35, noise: float = 0.35) -> np.ndarray:
    """Add light, blur (in a share `blur` of images) and noise (of strength up to `noise`).

    float32 [height, width, 3] -> uint8 [height, width, 3].
    """
    image = light(image, random)
    if random.random() < blur:
        image = cv2.GaussianBlur(image, (0, 0), random.uniform(0.5, 1.1))
    height, width = image.shape[:2]
    image += (crop("noise", width, height, random).astype(np.float32) - 128) * random.uniform(0, noise)
    return np.clip(image, 0, 255).astype(np.uint8)


def draw(scene: Scene) -> np.ndarray:
    """Draw a scene, the main thing in front: uint8 [height, width, 3], RGB."""
    random = Random(scene.look)
    image = background(scene, random)
    for thing in reversed(scene.things):
        draw_thing(image, thing, scene, random)
    return develop(image, random)


def encode(image: np.ndarray, quality: int) -> bytes:
    """Encode an image (uint8 [height, width, 3], RGB) as JPEG."""
    return simplejpeg.encode_jpeg(image, quality=quality, colorspace="RGB", colorsubsampling="420")


def quality(scene: Scene) -> int:
    """Return the JPEG quality (60 to 95) that a scene's image is encoded with."""
    return Random(f"{scene.look}/quality").randint(60, 95)


def decode(image: bytes) -> np.ndarray:
    """Decode a JPEG file: uint8 [height, width, 3], RGB."""
    return simplejpeg.decode_jpeg(image, colorspace="RGB")
