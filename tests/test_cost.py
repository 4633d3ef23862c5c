"""Costs: counted FLOPs equal those written down by hand, masked steps cost what their kept patches cost, the paper's
relative FLOPs come out of its own model, and the reference's ratio is one in each round."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from flip.config.resolve import read_project
from flip.files import read_json
from flip.losses import build_towers
from flip.provenance.unread import RUN, nested
from flip.train.step_cost import Step, measure
from tests.conftest import SMALL


def encoder_flops(tower, slots):
    """Multiply-adds x 2 of a transformer, forward: 12 width^2 per slot in matrices, 2 slots x width in attention."""
    return 2 * tower.layers * slots * (12 * tower.width**2 + 2 * slots * tower.width)


def counted(params, kept):
    """FLOPs of the vision tower for one image, forward, without doing the work."""
    with torch.device("meta"):
        model = build_towers(params, 100)
        side = params.model.image
        images, keep = torch.zeros(1, side, side, 3, dtype=torch.uint8), torch.zeros(1, kept, dtype=torch.int64)
        with FlopCounterMode(display=False) as counter:
            model.vision(images, keep)
    return counter.get_total_flops()


@pytest.mark.parametrize(("variant", "paper"), [("flip-50", 0.52), ("flip-75", 0.28)])
def test_the_papers_relative_flops_come_out(variant, paper):
    """FLIP, Table 1a. The text tower of L/16 is 4.4 % of the unmasked image tower's work (section 4.1)."""
    variants = read_project("params.yaml", "laion400m").variants
    whole, masked = (counted(variants[name], variants[name].kept_patches) for name in ("clip", variant))
    text = 0.044 * whole
    assert (masked + text) / (whole + text) == pytest.approx(paper, abs=0.015)


def test_the_papers_relative_flops_come_out_with_its_class_token():
    """All text slots, and the class token that the released code has beside the patches; blocks alone."""
    variants = read_project("params.yaml", "laion400m").variants
    model = variants["clip"].model
    text = encoder_flops(model.text, model.tokens)
    sums = [encoder_flops(model.vision, 1 + variants[name].kept_patches) for name in ("clip", "flip-50", "flip-75")]
    assert text / encoder_flops(model.vision, model.patches) == pytest.approx(0.044, abs=0.001)
    assert [round((one + text) / (sums[0] + text), 2) for one in sums] == [1.0, 0.52, 0.28]


def test_counted_flops_equal_the_formula(change):
    params = change()
    patches = params.model.patches
    embed = 2 * patches * params.model.vision.width * 3 * params.model.patch**2
    assert counted(params, patches) == encoder_flops(params.model.vision, patches) + embed


def test_costs_are_ratios_to_the_first(change, small_data):
    manifest = read_json(small_data / "manifest.json")
    variants = {name: change(name, SMALL) for name in ("clip", "flip-75")}
    steps = {name: Step(params, small_data, manifest, "cpu") for name, params in variants.items()}
    costs = measure(steps, rounds=3)
    assert costs["clip"]["relative_rounds"] == [1, 1, 1]
    assert len(costs["flip-75"]["relative_rounds"]) == 3
    assert costs["flip-75"]["flops_per_sample"] < costs["clip"]["flops_per_sample"]
    assert all(cost["peak_memory_bytes"] > 0 for cost in costs.values())
    assert costs["clip"]["batch"] == 8


def test_a_batch_beyond_the_device_is_measured_in_part(change, small_data):
    params = change("clip", {**SMALL, "cost": {"rounds": 3, "batch": 4}})
    assert Step(params, small_data, read_json(small_data / "manifest.json"), "cpu").batch == 4


def test_only_what_a_step_costs_tells_measurements_apart(project):
    keys = {name: params.model_dump_json(exclude=nested(RUN)) for name, params in project.variants.items()}
    assert keys["clip"] == keys["clip-half"]
    assert keys["flip-50"] == keys["flip-50-equal-time"]
    assert keys["flip-50"] != keys["flip-50-tuned"]
    assert len({keys[name] for name in ("clip", "flip-50", "flip-50-small-batch", "flip-50-mae", "text-random")}) == 5
