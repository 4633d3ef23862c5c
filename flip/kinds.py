"""What a training step reads: pairs, pictures alone, or captions alone."""

PAIRS, IMAGES, TEXTS = "pairs", "images", "texts"


def kind(batch: dict) -> str:
    """Of a batch, by what it holds."""
    if "ids" not in batch:
        return IMAGES
    return PAIRS if batch.keys() & {"images", "features"} else TEXTS
