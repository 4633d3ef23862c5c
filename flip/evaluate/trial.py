"""Hold a model and the test set that it is evaluated on."""

from dataclasses import dataclass
from pathlib import Path

from flip.config.schema import Params
from flip.evaluate.encoders import ImageLoader, Tokenize
from flip.evaluate.inputs import read
from flip.model.two_towers import TwoTowers
from flip.testsets.reader import set_folder


@dataclass(frozen=True)
class Trial:
    """Hold what a kind of test set is measured with.

    `tokenize` makes token ids int64 [texts, slots] of texts, `data` is the scale's folder, `name` the set's role; it is
    `probed` where evaluate.probe names it and it has a training split.
    """

    model: TwoTowers
    tokenize: Tokenize
    data: Path
    name: str
    device: str
    probed: bool = False

    @property
    def params(self) -> Params:
        """Return the variant's parameters."""
        return self.model.params

    @property
    def folder(self) -> Path:
        """Return where the set lies."""
        return set_folder(self.params, self.data, self.name)

    @property
    def measure(self) -> str:
        """Return how outcomes of classification become a number (flip.metrics.measures)."""
        return self.params.evaluate.measure(self.name)

    def read(self, split: str = "test") -> ImageLoader:
        """Return batches of a split (flip.testsets.cache.Squares). Raises ValueError as flip.evaluate.inputs.read."""
        return read(self.params, self.data, self.name, split)
