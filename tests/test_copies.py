"""Batches reach the device as they are, and numbers come back; on a GPU neither copy waits for what it works on."""

import pytest
import torch

from flip.device import FromDevice, ToDevice, pick_device
from flip.files import read_json
from flip.train.step import build_loader
from tests.conftest import SMALL

DEVICE = pick_device()


@pytest.mark.parametrize("variant", ["clip", "slip", "flava"])
def test_a_batch_arrives_as_it_is(change, small_data, variant):
    manifest, params = read_json(small_data / "manifest.json"), change(variant, SMALL)
    plain, own = (build_loader(params, small_data, manifest, 0, device=device) for device in ("cpu", DEVICE))
    sent, to_device = plain.batch(0, 8), ToDevice(DEVICE)
    for _ in range(3):  # memory is used again
        found = to_device(own.batch(0, 8))
        assert found.keys() == sent.keys()
        for name, tensor in found.items():
            assert tensor.device.type == DEVICE
            assert torch.equal(tensor.cpu(), sent[name]), name


def test_what_is_there_stays_there():
    x = torch.arange(3, device=DEVICE)
    assert ToDevice(DEVICE)({"x": x})["x"].data_ptr() == x.data_ptr()


def test_a_number_comes_back():
    assert FromDevice(torch.tensor(1.5, device=DEVICE, requires_grad=True))() == 1.5


@pytest.mark.skipif(DEVICE == "cpu", reason="needs a GPU")
def test_neither_waits_for_what_the_gpu_works_on():
    stream = torch.cuda.Stream()

    def beside_work():
        number, busy = FromDevice(torch.ones((), device=DEVICE)), torch.cuda.Event()
        torch.cuda._sleep(2**32)  # a second or more
        busy.record()
        with torch.cuda.stream(stream):
            total = FromDevice(ToDevice(DEVICE)({"x": torch.arange(1000)})["x"].sum())
        return number(), total(), busy.query()

    beside_work()  # to allocate memory, which it then has, may wait
    torch.cuda.synchronize()
    assert beside_work() == (1, 499500, False)
