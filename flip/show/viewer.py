"""A trained model that sentences and pictures are shown to: what fits best, which class, which patches, where it looks.

What it makes of whole test sets and of class names is computed once and kept in .flip/looks, which can be deleted at
any time.
"""

from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from flip.config.faults import nearest
from flip.data.batch_types import PAD
from flip.data.images import decode
from flip.data.tokenizer import Tokenizer, tokenizer_path
from flip.device import pick_device
from flip.evaluate.distinct import encode_texts
from flip.evaluate.inputs import read, read_model
from flip.evaluate.kinds.pointing import relevance
from flip.evaluate.reconstruction import drawn, ways
from flip.files import atomic, file_hash, read_json
from flip.model.masking import mask_patches
from flip.provenance.layout import Trained
from flip.provenance.sources import source_hash
from flip.testsets.cache import Squares
from flip.testsets.kinds import of_folder
from flip.testsets.reader import made_folder, prompts, set_folder, to_square

LOOKS = Path(".flip/looks")


@dataclass(frozen=True)
class Shelf:
    """A test set: its pictures uint8 [pictures, side, side, 3], what each shows, in words, whether these are classes;
    `key` stands for what it holds."""

    name: str
    pictures: np.ndarray
    words: list[str]
    has_classes: bool
    key: str


@dataclass(frozen=True)
class Picture:
    """uint8 [side, side, 3], where it is from, what it is said to show (None: nobody says), and the number by which
    its mask is drawn."""

    pixels: np.ndarray
    source: str
    words: str | None = None
    number: int = 0


@dataclass(frozen=True)
class Match:
    picture: Picture
    cosine: float


class Viewer:
    """A variant's model with what it needs around it."""

    def __init__(self, trained: Trained):
        self.trained, self.params, self.data = trained, trained.params, trained.data
        if not self.params.has_image_tower:
            raise ValueError(
                f"'{trained.variant}' has no image tower, as no loss of it reads pictures: there is nothing to show"
            )
        if not (path := tokenizer_path(self.data, self.params.captions)).exists():
            raise ValueError(f"{path}: not here; {trained.data_remedy}")
        self.device = pick_device()
        self.weights = file_hash(trained.weights)
        self.model, self.tokenize = read_model(self.params, self.data, trained.weights, self.device)

    def remembered(self, what: str, compute) -> Tensor:
        """What `compute` gives; from the disk, if these weights and this code have computed it before."""
        key = f"{self.weights} {source_hash('flip.show')} {what}"
        path = LOOKS / f"{sha256(key.encode()).hexdigest()[:24]}.npy"
        if not path.exists():
            with atomic(path) as file:
                np.save(file, compute().cpu().numpy())
        return torch.from_numpy(np.load(path))

    # Test sets.

    @property
    def searched(self) -> list[str]:
        """Return the sets that are searched unless others are named: the primary one, those of classes that a probe is
        fitted to, those of captions."""
        evaluate = self.params.evaluate
        kinds = {name: of_folder(set_folder(self.params, self.data, name)).name for name in evaluate.sets}
        classes = {evaluate.primary_set, *evaluate.probe}
        return [
            name for name, one in kinds.items() if one == "retrieval" or (one == "classification" and name in classes)
        ]

    def shelf(self, name: str) -> Shelf:
        """A test set of whole pictures.

        Raises:
            ValueError: the scale has no such set, it is of another kind, not here, or too large to be kept decoded.
        """
        if name not in (sets := self.params.evaluate.sets):
            raise ValueError(f"--sets {name}: no such test set; {nearest(name, sets)}")
        folder, made = set_folder(self.params, self.data, name), made_folder(self.params, self.data, name)
        if not (made / "revision.json").exists():
            raise ValueError(f"{made}: not here; {self.trained.data_remedy}")
        if (kind := of_folder(folder).name) not in ("classification", "retrieval"):
            raise ValueError(f"--sets {name}: its pictures have {kind}, not classes or captions; name others")
        squares, revision = read(self.params, self.data, name), read_json(made / "revision.json")["sha256"]
        if not isinstance(squares, Squares):
            raise ValueError(f"--sets {name}: too large to be kept decoded; name a smaller one")
        classes, _ = prompts(folder)
        words = [classes[target] for target in squares.targets] if classes else [one[0] for one in squares.targets]
        return Shelf(name, squares.pictures, words, bool(classes), f"pictures {revision}")

    def picture(self, shelf: Shelf, number: int) -> Picture:
        if not 0 <= number < len(shelf.words):
            raise ValueError(f"--number {number}: {shelf.name} has pictures 0 to {len(shelf.words) - 1}")
        words = shelf.words[number]
        return Picture(np.array(shelf.pictures[number]), f"{shelf.name}, picture {number}", words, number)

    def open(self, path: Path) -> Picture:
        """A picture from a file, cut to its central square as test pictures are.

        Raises:
            ValueError: it is not there, or no picture.
        """
        try:
            encoded = path.read_bytes()
        except OSError as error:
            raise ValueError(f"--picture {path}: cannot be read as an image ({error})") from None
        image = decode(encoded, f"--picture {path}")
        return Picture(to_square(image, self.params.model.image).numpy(), path.name)

    # Features of unit length.

    @torch.no_grad()
    def text(self, texts: list[str]) -> Tensor:
        """[texts, embedding]"""
        return F.normalize(encode_texts(self.model.encode_text, self.tokenize(texts), self.device), dim=-1)

    @torch.no_grad()
    def image(self, pixels: np.ndarray, ids_keep: Tensor | None = None) -> Tensor:
        """[pictures, embedding] of [pictures, side, side, 3]; of a part of their patches, where that is given."""
        batch, found = self.params.evaluate.batch, []
        for start in range(0, len(pixels), batch):
            some = torch.from_numpy(np.array(pixels[start : start + batch])).to(self.device)
            found.append(self.model.encode_image(some, ids_keep).cpu())
        return F.normalize(torch.cat(found), dim=-1)

    def class_features(self, name: str) -> Tensor:
        """[classes, embedding]: the mean over the set's prompts, as in zero-shot classification (CLIP, section 3.1)."""
        classes, templates = prompts(set_folder(self.params, self.data, name))

        def compute():
            texts = [template.format(c=one) for one in classes for template in templates]
            return F.normalize(self.text(texts).unflatten(0, (len(classes), -1)).mean(dim=1), dim=-1)

        return self.remembered(f"classes {classes} {templates}", compute)

    # What the page shows.

    def matches(self, sentence: str, shelves: list[Shelf], count: int) -> list[Match]:
        """The test pictures that fit a sentence best, over all shelves."""
        text, found = self.text([sentence])[0], []
        for shelf in shelves:
            cosines = self.remembered(shelf.key, lambda shelf=shelf: self.image(shelf.pictures)) @ text
            best = cosines.topk(min(count, len(cosines)))
            found += [Match(self.picture(shelf, n), c) for c, n in zip(*map(Tensor.tolist, best), strict=True)]
        return sorted(found, key=lambda match: -match.cosine)[:count]

    @cached_property
    def is_sigmoid(self) -> bool:
        """Whether a pair is judged by itself; else against all others."""
        return not self.params.contrastive.weight

    def scores(self, name: str, features: Tensor) -> Tensor:
        """[pictures, classes]: probabilities by the model's own scale (and bias), of each class among the set's, or
        where the loss judged each pair by itself (SigLIP), of each by itself."""
        with torch.no_grad():
            logits = self.model.scale.cpu() * features @ self.class_features(name).T
            if not self.is_sigmoid:
                return logits.softmax(dim=-1)
            bias = self.model.logit_bias
            return (logits if bias is None else logits + bias.cpu()).sigmoid()

    def best_class(self, picture: Picture) -> str:
        """Return the class of the primary set that fits best."""
        name = self.params.evaluate.primary_set
        classes, _ = prompts(set_folder(self.params, self.data, name))
        return classes[self.scores(name, self.image(picture.pixels[None])).argmax()]

    def kept(self, picture: Picture) -> Tensor | None:
        """ids_keep [1, kept] of the mask that training would draw for the picture's number; None where none is."""
        if not self.params.masking.image:
            return None
        positions = torch.tensor([picture.number])
        seed, patches = self.trained.seed, self.params.model.patches
        return mask_patches(seed, positions, patches, self.params.kept_patches).ids_keep

    @torch.no_grad()
    def relevance(self, picture: Picture, sentence: str) -> np.ndarray:
        """[grid, grid]: cosine of each patch with the sentence."""
        images = torch.from_numpy(picture.pixels)[None].to(self.device)
        return relevance(self.model, images, self.text([sentence]).to(self.device))[0].cpu().numpy()

    @torch.no_grad()
    def drawings(self, picture: Picture, words: str) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each way in which the model predicts pixels: what it was shown, and what it makes of it."""
        batch = {"images": torch.from_numpy(picture.pixels)[None], "ids": self.tokenize([words])}
        batch["positions"] = torch.tensor([picture.number])
        batch = {name: one.to(self.device) for name, one in batch.items()}
        found = [drawn(way(self.model, batch, self.trained.seed), batch["images"]) for way in ways(self.model).values()]
        return [tuple(one[0].cpu().numpy() for one in two) for two in found]

    def spelled(self, sentence: str) -> str | None:
        """A sentence as the model reads it, in tokens; None of a tokenizer that does not name them (CLIP's)."""
        captions = self.params.captions
        tokenizer = Tokenizer(tokenizer_path(self.data, captions), self.params.model.tokens, captions)
        if tokenizer.stored["definition"] is None:
            return None
        names = {number: token for token, number in tokenizer.stored["definition"]["model"]["vocab"].items()}
        ids = [one for one in tokenizer([sentence])[0].tolist() if one != PAD]
        return " ".join(names[one] for one in ids if one in names)
