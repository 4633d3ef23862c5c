"""Find the image tokenizer of a scale: the one that is trained in the pipeline, or DALL-E's."""

from pathlib import Path

import torch

from flip.config.schema import Params
from flip.model.dalle import DallE
from flip.model.image_tokenizer import ImageTokenizer, VQTokenizer
from flip.model.weights import load_weights


def new_tokenizer(params: Params) -> ImageTokenizer:
    """Build an untrained image tokenizer of the scale's kind: trained in the pipeline, or DALL-E's."""
    return DallE(params) if params.codebook.weights else VQTokenizer(params)


def codebook_path(params: Params, data: Path) -> Path | None:
    """Return the file of the scale's image tokenizer, or None where no loss reads its codes.

    Raises:
        ValueError: the file is missing.
    """
    if not params.flava.reads_codes:
        return None
    path = Path(data) / "codebook" / "weights.safetensors"
    if not path.exists():
        raise ValueError(
            f"{path}: not found, though flava.mim or flava.mmm_image reads codes; run flip.train.image_tokenizer first"
        )
    return path


def untrained(params: Params, device: str | torch.device = "cpu") -> ImageTokenizer:
    """Build an image tokenizer whose codes say nothing, frozen: where work is counted, or nothing is learned."""
    with torch.random.fork_rng(devices=[]), torch.device(device):
        return new_tokenizer(params).requires_grad_(False)


def load_codebook(params: Params, data: Path, device: str | torch.device) -> ImageTokenizer | None:
    """Load the scale's image tokenizer, frozen, or return None where no loss reads its codes.

    Raises:
        ValueError: the file is missing, or was trained for other images or patches.
    """
    if (path := codebook_path(params, data)) is None:
        return None
    codebook = new_tokenizer(params)
    load_weights(path, codebook)
    return codebook.to(device).eval().requires_grad_(False)
