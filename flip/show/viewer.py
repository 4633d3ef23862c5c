"""Apply a trained model to sentences and images: best matches, class scores, masked patches, relevance of patches.

Features of whole test sets and of class names are computed once and cached in .flip/looks, which can be deleted at any
time.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from flip.config.faults import nearest
from flip.config.kinds import of_folder
from flip.data.batch_types import PAD
from flip.data.tokenizer import CaptionTokenizer, tokenizer_path
from flip.device import pick_device
from flip.evaluate.distinct import encode_texts
from flip.evaluate.inputs import read, read_model
from flip.evaluate.kinds.pointing import relevance
from flip.evaluate.reconstruction import drawn, ways
from flip.files import atomic, file_hash, read_json
from flip.formats.images import decode
from flip.provenance.sources import source_hash
from flip.provenance.trained import Trained
from flip.testsets.cache import Squares
from flip.testsets.reader import made_folder, prompts, set_folder, to_square

LOOKS = Path(".flip/looks")


@dataclass(frozen=True)
class SearchedSet:
    """Hold a test set: images uint8 [images, side, side, 3], a text for each, and whether the texts are class names.

    `key` identifies the content, for the cache of features.
    """

    name: str
    images: np.ndarray
    words: list[str]
    has_classes: bool
    key: str


@dataclass(frozen=True)
class ShownImage:
    """Hold an image uint8 [side, side, 3], its source, its label or caption, and the number that seeds its mask."""

    pixels: np.ndarray
    source: str
    words: str | None = None
    number: int = 0


@dataclass(frozen=True)
class Match:
    """Hold an image and its cosine with a sentence."""

    shown: ShownImage
    cosine: float


class Viewer:
    """Load a trained variant, and compute what the page shows.

    Raises:
        ValueError: the variant has no image tower, has not been trained, or its tokenizer is missing.
    """

    def __init__(self, trained: Trained) -> None:
        self.trained, self.params, self.data = trained, trained.params, trained.data
        if not self.params.has_image_tower:
            raise ValueError(
                f"'{trained.variant}' has no image tower, as no loss of it reads images: there is nothing to show"
            )
        if not (path := tokenizer_path(self.data, self.params.captions)).exists():
            raise ValueError(f"{path}: not found; {trained.data_remedy}")
        self.device = pick_device()
        self.weights = file_hash(trained.weights)
        self.model, self.tokenize = read_model(self.params, self.data, trained.weights, self.device)

    def cached(self, what: str, compute: Callable[[], Tensor]) -> Tensor:
        """Return what `compute` gives, from disk if these weights and this code have computed it before."""
        key = f"{self.weights} {source_hash('flip.show.viewer')} {what}"
        path = LOOKS / f"{sha256(key.encode()).hexdigest()[:24]}.npy"
        if not path.exists():
            with atomic(path) as file:
                np.save(file, compute().cpu().numpy())
        return torch.from_numpy(np.load(path))

    # Test sets.

    @property
    def searched(self) -> list[str]:
        """Return the test sets that are searched by default: the primary one, those of classes that a probe is fitted
        to, those of captions."""
        evaluate = self.params.evaluate
        kinds = {name: of_folder(set_folder(self.params, self.data, name)).name for name in evaluate.sets}
        classes = {evaluate.primary_set, *evaluate.probe}
        return [
            name for name, one in kinds.items() if one == "retrieval" or (one == "classification" and name in classes)
        ]

    def load_set(self, name: str) -> SearchedSet:
        """Return a test set of images with classes or captions.

        Raises:
            ValueError: the scale has no such set, or it is of another kind, missing, or too large to be kept decoded.
        """
        if name not in (sets := self.params.evaluate.sets):
            raise ValueError(f"--set {name}: no such test set; {nearest(name, sets)}")
        folder, made = set_folder(self.params, self.data, name), made_folder(self.params, self.data, name)
        if not (made / "revision.json").exists():
            raise ValueError(f"{made}: not found; {self.trained.data_remedy}")
        if (kind := of_folder(folder).name) not in ("classification", "retrieval"):
            raise ValueError(f"--set {name}: its images have {kind}, not classes or captions; name others")
        squares, revision = read(self.params, self.data, name), read_json(made / "revision.json")["sha256"]
        if not isinstance(squares, Squares):
            raise ValueError(f"--set {name}: too large to be kept decoded; name a smaller one")
        classes, _ = prompts(folder)
        words = [classes[target] for target in squares.targets] if classes else [one[0] for one in squares.targets]
        return SearchedSet(name, squares.images, words, bool(classes), f"images {revision}")

    def test_image(self, test_set: SearchedSet, number: int) -> ShownImage:
        """Return an image of a test set by its number.

        Raises:
            ValueError: the set has fewer images.
        """
        if not 0 <= number < len(test_set.words):
            raise ValueError(f"--number {number}: {test_set.name} has images 0 to {len(test_set.words) - 1}")
        words = test_set.words[number]
        return ShownImage(np.array(test_set.images[number]), f"{test_set.name}, image {number}", words, number)

    def open(self, path: Path) -> ShownImage:
        """Read an image from a file, resized and cropped to its central square as test images are.

        Raises:
            ValueError: the file is missing, or no image.
        """
        try:
            encoded = path.read_bytes()
        except OSError as error:
            raise ValueError(f"--image {path}: cannot be read as an image ({error})") from None
        image = decode(encoded, f"--image {path}")
        return ShownImage(to_square(image, self.params.model.image).numpy(), path.name)

    # Features of unit length.

    @torch.no_grad()
    def text(self, texts: list[str]) -> Tensor:
        """Return text features of unit length [texts, embedding]."""
        return F.normalize(encode_texts(self.model.encode_text, self.tokenize(texts), self.device), dim=-1)

    @torch.no_grad()
    def image(self, pixels: np.ndarray, ids_keep: Tensor | None = None) -> Tensor:
        """Return image features of unit length [images, embedding] of uint8 [images, side, side, 3].

        `ids_keep` [images, kept] are the patches that are read, by default all.
        """
        batch, found = self.params.evaluate.batch, []
        for start in range(0, len(pixels), batch):
            some = torch.from_numpy(np.array(pixels[start : start + batch])).to(self.device)
            found.append(self.model.encode_image(some, ids_keep).cpu())
        return F.normalize(torch.cat(found), dim=-1)

    def classes(self, name: str) -> list[str]:
        """Return the class names of a test set that has some."""
        names, _ = prompts(set_folder(self.params, self.data, name))
        assert names is not None
        return names

    def class_features(self, name: str) -> Tensor:
        """Return text features [classes, embedding]: means over a set's prompts, as in zero-shot classification."""
        classes = self.classes(name)
        _, templates = prompts(set_folder(self.params, self.data, name))
        assert templates is not None

        def compute() -> Tensor:
            texts = [template.format(c=one) for one in classes for template in templates]
            return F.normalize(self.text(texts).unflatten(0, (len(classes), -1)).mean(dim=1), dim=-1)

        return self.cached(f"classes {classes} {templates}", compute)

    # What the page shows.

    def matches(self, sentence: str, test_sets: list[SearchedSet], count: int) -> list[Match]:
        """Return the `count` images of all test sets with the largest cosine with a sentence."""
        text, found = self.text([sentence])[0], []
        for test_set in test_sets:
            cosines = self.cached(test_set.key, partial(self.image, test_set.images)) @ text
            best = cosines.topk(min(count, len(cosines)))
            found += [Match(self.test_image(test_set, n), c) for c, n in zip(*map(Tensor.tolist, best), strict=True)]
        return sorted(found, key=lambda match: -match.cosine)[:count]

    @cached_property
    def is_sigmoid(self) -> bool:
        """Return whether the loss judges each pair by itself (SigLIP) and not against all others."""
        return not self.params.contrastive.weight

    def scores(self, name: str, features: Tensor) -> Tensor:
        """Return probabilities [images, classes] with the model's own logit scale and bias.

        They are a softmax over the set's classes, or with the sigmoid loss a sigmoid of each.
        """
        with torch.no_grad():
            logits = self.model.scale.cpu() * features @ self.class_features(name).T
            if not self.is_sigmoid:
                return logits.softmax(dim=-1)
            bias = self.model.logit_bias
            return (logits if bias is None else logits + bias.cpu()).sigmoid()

    def best_class(self, shown: ShownImage) -> str:
        """Return the class of the primary set that fits an image best."""
        name = self.params.evaluate.primary_set
        return self.classes(name)[self.scores(name, self.image(shown.pixels[None])).argmax()]

    def kept(self, shown: ShownImage) -> Tensor | None:
        """Return ids_keep [1, kept] of the mask that training would draw for the image; None without masking."""
        if not self.params.masking.image:
            return None
        positions = torch.tensor([shown.number], device=self.device)
        images = torch.from_numpy(shown.pixels)[None].to(self.device)
        return self.model.mask_order(images, positions, self.trained.seed).ids_keep.cpu()

    @torch.no_grad()
    def relevance(self, shown: ShownImage, sentence: str) -> np.ndarray:
        """Return the cosine of each patch with the sentence, [grid, grid]."""
        images = torch.from_numpy(shown.pixels)[None].to(self.device)
        return relevance(self.model, images, self.text([sentence]).to(self.device))[0].cpu().numpy()

    @torch.no_grad()
    def drawings(self, shown: ShownImage, words: str) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return, for each objective that predicts pixels, the masked image and its reconstruction, both
        uint8 [side, side, 3]."""
        batch = {"images": torch.from_numpy(shown.pixels)[None], "ids": self.tokenize([words])}
        batch["positions"] = torch.tensor([shown.number])
        batch = {name: one.to(self.device) for name, one in batch.items()}
        found = [drawn(way(self.model, batch, self.trained.seed), batch["images"]) for way in ways(self.model).values()]
        return [(kept[0].cpu().numpy(), restored[0].cpu().numpy()) for kept, restored in found]

    def spelled(self, sentence: str) -> str | None:
        """Return a sentence as the model's tokens; None for a tokenizer that does not name them (CLIP's)."""
        captions = self.params.captions
        tokenizer = CaptionTokenizer(tokenizer_path(self.data, captions), self.params.model.tokens, captions)
        if tokenizer.stored["definition"] is None:
            return None
        names = {number: token for token, number in tokenizer.stored["definition"]["model"]["vocab"].items()}
        ids = [one for one in tokenizer([sentence])[0].tolist() if one != PAD]
        return " ".join(names[one] for one in ids if one in names)
