"""Read images of domains that training captions do not cover (Agrawal et al. 2019), laid out as those of captioning."""

from flip.config.kinds.caption import Caption


class Nocaps(Caption):
    """Measure the head for captioning on other images."""

    name = "nocaps"


KIND = Nocaps()
