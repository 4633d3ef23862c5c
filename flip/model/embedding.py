"""A bottlenecked token embedding: the vocabulary of several languages is large, and may be narrower than the text tower
(mSigLIP, Zhai et al. 2023: N x K, then K x W, with K = 96, W = 768, for about 0.5 % of accuracy)."""

from torch import Tensor, nn


class Bottleneck(nn.Module):
    """Ids of any shape -> [..., width], by entries [vocabulary, narrow] and one matrix without bias."""

    def __init__(self, vocabulary: int, narrow: int, width: int):
        super().__init__()
        self.entries = nn.Embedding(vocabulary, narrow)
        self.widen = nn.Linear(narrow, width, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        return self.widen(self.entries(ids))

    @property
    def weight(self) -> Tensor:
        """The plain embedding that does the same: [vocabulary, width]."""
        return self.entries.weight @ self.widen.weight.T

    def initialize(self, std: float) -> None:
        """Normal entries, scaled so that products with the Xavier-uniform matrix have the deviation of a plain
        embedding's entries; how mSigLIP begins is not published."""
        width, narrow = self.widen.weight.shape
        nn.init.normal_(self.entries.weight, std=std * ((narrow + width) / (2 * narrow)) ** 0.5)


def embedding(vocabulary: int, narrow: int | None, width: int) -> nn.Module:
    """Tokens' embeddings, [vocabulary, width]; through a bottleneck where `narrow` is given."""
    return nn.Embedding(vocabulary, width) if narrow is None else Bottleneck(vocabulary, narrow, width)
