"""Build token embeddings, with an optional bottleneck for the large vocabulary of several languages.

The bottleneck is mSigLIP's (Zhai et al. 2023): N x K, then K x W, with K = 96 and W = 768, for about 0.5 % of accuracy.
"""

from torch import Tensor, nn


class Bottleneck(nn.Module):
    """Embed token ids of any shape as [..., width]: entries [vocabulary, narrow], then one matrix without bias."""

    def __init__(self, vocabulary: int, narrow: int, width: int):
        super().__init__()
        self.entries = nn.Embedding(vocabulary, narrow)
        self.widen = nn.Linear(narrow, width, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        return self.widen(self.entries(ids))

    @property
    def weight(self) -> Tensor:
        """Compute the equivalent plain embedding [vocabulary, width]."""
        return self.entries.weight @ self.widen.weight.T

    def initialize(self, std: float) -> None:
        """Draw normal entries, scaled so that their products with the Xavier-uniform matrix have the standard deviation
        `std` of a plain embedding's entries; mSigLIP's initialization is not published."""
        width, narrow = self.widen.weight.shape
        nn.init.normal_(self.entries.weight, std=std * ((narrow + width) / (2 * narrow)) ** 0.5)


def embedding(vocabulary: int, narrow: int | None, width: int) -> nn.Module:
    """Build a token embedding [vocabulary, width], through a bottleneck where `narrow` is given."""
    return nn.Embedding(vocabulary, width) if narrow is None else Bottleneck(vocabulary, narrow, width)
