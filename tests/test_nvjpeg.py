"""Batches that a GPU decodes are the loader's but for rounding, an image that it refuses is replaced as the loader
does, and where there is no GPU, or no decoder, the processor decodes and it is said why.

Where no GPU is at hand another decoder with torchcodec's signature stands in for nvJPEG, on the processor.
"""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import simplejpeg
import torch

from flip.data.crops import resize
from flip.data.gpu_decode import GpuImageReader, resize_crop
from flip.data.loader import ImageReader, Loader
from flip.data.shard import Shard
from flip.files import read_json
from flip.train.step import build_loader
from tests.conftest import SMALL

CROPS = {"augmentation": {"crop_area": [0.3, 1.0], "flip": True}}
CUDA = torch.cuda.is_available()
needs_gpu = pytest.mark.skipif(not CUDA, reason="needs a GPU")


PLAIN = simplejpeg.decode_jpeg


@pytest.fixture(autouse=True)
def one_decoder(monkeypatch):
    """The processor's too is exact, and decodes at full size."""
    monkeypatch.setattr(simplejpeg, "decode_jpeg", lambda jpeg, *_: PLAIN(jpeg, "RGB"))


def other_decoder(jpegs, *, device):
    """As torchcodec.decoders.decode_jpeg."""
    try:
        found = [PLAIN(jpeg, "RGB") for jpeg in jpegs]
    except ValueError as error:
        raise RuntimeError(error) from None
    return [torch.from_numpy(image).permute(2, 0, 1).to(device) for image in found]


@pytest.fixture
def loaders(change, small_data):
    """The loader, and one that decodes on a device."""

    def make(decode=other_decoder, device="cpu", **settings):
        params = change("clip", SMALL | CROPS | settings)
        plain = build_loader(params, small_data, read_json(small_data / "manifest.json"), 0)
        images = plain.images
        other = GpuImageReader(
            decode, device, images.shards, images.order, images.side, images.augmentation, images.seed
        )
        return plain, Loader(plain.order, other, plain.captions)

    return make


def apart(one, other):
    return (one["images"].float() - other["images"].cpu().float()).abs()


@pytest.mark.parametrize("size", [(144, 144), (65, 300), (64, 64), (20, 100), (1, 9)])
def test_squares_are_those_of_the_processor(size):
    image = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    expected = np.empty((64, 64, 3), np.uint8)
    resize(image, expected)
    found = resize_crop(torch.from_numpy(image).permute(2, 0, 1), (0, 0, *size), 64)
    assert found.dtype == torch.uint8
    assert np.abs(found.numpy().astype(int) - expected).max() <= 1


@pytest.mark.parametrize("flip", [True, False])
def test_batches_are_the_loaders_but_for_rounding(loaders, flip):
    plain, other = loaders(augmentation=CROPS["augmentation"] | {"flip": flip})
    one, two = plain.batch(0, 48), other.batch(0, 48)
    assert list(one) == list(two)
    for name in set(one) - {"images"}:
        assert torch.equal(one[name], two[name])
    assert one["images"].dtype == two["images"].dtype == torch.uint8
    assert apart(one, two).max() <= 1
    parts = list(zip(range(3), other.batches(0, 16, 2, 16), strict=False))
    assert torch.equal(torch.cat([part["images"] for _, part in parts]), two["images"])


@pytest.mark.parametrize("cut", [20, -2])
def test_a_refused_image_is_replaced_as_the_loader_does_it(loaders, monkeypatch, cut):
    """Also where nothing but the JPEG's end is missing, of which a GPU says nothing."""
    plain, other = loaders()
    read, whole = Shard.encoded, plain.images.shards.encoded(plain.order.locate(3))
    monkeypatch.setattr(Shard, "encoded", lambda self, i: read(self, i)[: cut if read(self, i) == whole else None])
    one, two = plain.batch(0, 8), other.batch(0, 8)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert other.images.broken == plain.images.broken
    assert apart(plain.batch(8, 8), other.batch(8, 8)).max() <= 1


def test_a_full_gpu_is_no_broken_image(loaders):
    def full(jpegs, *, device):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        loaders(full)[1].batch(0, 8)


def build(change, small_data, variant="clip", device="cuda", **settings):
    params = change(variant, SMALL | {"train": {**SMALL.get("train", {}), "decoder": "gpu"}} | settings)
    return build_loader(params, small_data, read_json(small_data / "manifest.json"), 0, device=device)


def test_without_a_gpu_the_processor_decodes_and_it_is_said(change, small_data):
    with pytest.warns(UserWarning, match="train.decoder: gpu: no GPU is available; the processor decodes"):
        assert type(build(change, small_data, device="cpu").images) is ImageReader


@pytest.mark.parametrize("variant", ["slip", "sigmoid-noise"])
def test_what_the_processor_makes_of_images_it_decodes(change, small_data, variant):
    with pytest.warns(UserWarning, match="made by the processor; the processor decodes"):
        assert type(build(change, small_data, variant).images) is ImageReader


def test_without_torchcodec_it_says_what_to_install(change, small_data, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", None)
    with pytest.warns(UserWarning, match=r"pip install 'flip\[gpu\]'; the processor decodes"):
        assert type(build(change, small_data).images) is ImageReader


def test_torchcodec_is_what_decodes(change, small_data, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchcodec", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", SimpleNamespace(decode_jpeg=other_decoder))
    found = build(change, small_data).images
    assert (type(found), found.decode, found.device) == (GpuImageReader, other_decoder, torch.device("cuda"))


@needs_gpu
def test_nvjpeg_gives_the_processors_pixels_to_a_few_steps_of_255(loaders):
    decode = pytest.importorskip("torchcodec.decoders").decode_jpeg
    plain, other = loaders(decode, "cuda")
    one, two = plain.batch(0, 48), other.batch(0, 48)
    assert two["images"].device.type == "cuda"
    assert apart(one, two).mean() < 3
    threads = [part["images"] for _, part in zip(range(3), other.batches(0, 16, 2, 16), strict=False)]
    assert torch.equal(torch.cat(threads), two["images"])
