"""What a training step reads: pairs, pictures alone, or captions alone."""

PAIRS, IMAGES, TEXTS = "pairs", "images", "texts"
PAD = -1  # stands behind the words of a caption; no tokenizer has this id, while 0 is a word in CLIP's


def kind(batch: dict) -> str:
    """Of a batch, by what it holds."""
    if "ids" not in batch:
        return IMAGES
    return PAIRS if batch.keys() & {"images", "features"} else TEXTS
