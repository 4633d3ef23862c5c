"""Images of domains that captions to learn from do not show (Agrawal et al. 2019), laid out as those of captioning."""

from flip.testsets.kinds.caption import Caption


class Nocaps(Caption):
    """What the head of captioning says of other images."""

    name = "nocaps"


KIND = Nocaps()
