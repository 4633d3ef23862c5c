"""Parts of captions: a share of the words, in a row, between the start and the end token; and their loss is InfoNCE."""

import pytest
import torch
import torch.nn.functional as F

from flip.data.batch_types import PAD
from flip.losses.contrastive import dense_info_nce
from flip.model.sub_captions import cut
from tests.conftest import SMALL
from tests.test_train import make_run


@pytest.mark.parametrize(
    ("captions", "ids", "expected"),
    [
        ({}, [1, 2, 3, 4, PAD, PAD], {(1, 2), (2, 3), (3, 4)}),
        ({"start": True, "end": True}, [8, 1, 2, 3, 4, 9], {(8, 1, 2, 9), (8, 2, 3, 9), (8, 3, 4, 9)}),
        ({"end": True}, [1, 2, 3, 9, PAD, PAD], {(1, 2, 9), (2, 3, 9)}),
        ({}, [5, PAD, PAD, PAD, PAD, PAD], {(5,)}),
        ({}, [PAD] * 6, {()}),
        ({"end": True, "fill": True}, [1, 2, 3, 4, 9, 9], {(1, 2, 9, 9, 9, 9), (2, 3, 9, 9, 9, 9), (3, 4, 9, 9, 9, 9)}),
        ({"end": True, "fill": True}, [1, 2, 3, 9, 9, 9], {(1, 2, 9, 9, 9, 9), (2, 3, 9, 9, 9, 9)}),
    ],
)  # fmt: skip
def test_a_part_has_half_the_words_in_a_row(change, captions, ids, expected):
    params = change("sub-captions", SMALL | {"captions": captions})
    found = cut(params, torch.tensor([ids] * 40), torch.arange(40) / 40)
    assert {tuple(one for one in row if one != PAD) for row in found.tolist()} == expected
    assert all(PAD not in row[: len(row) - row.count(PAD)] for row in found.tolist())


def test_the_loss_is_the_mean_of_info_nce_over_parts(change, small_data):
    params = change("sub-captions", SMALL | {"sub_captions": {"captions": 3, "weight": 0.5}})
    run = make_run(params, small_data)
    run.model.double()
    batch = run.on_device(run.loader.batch(8, 8))
    image = F.normalize(run.model.encode_image(batch["images"]), dim=1)
    parts = [F.normalize(run.model.encode_text(ids), dim=1) for ids in batch["part_ids"].unbind(1)]
    assert len({str(ids) for ids in batch["part_ids"].unbind(1)}) > 1
    expected = 0.5 * sum(dense_info_nce(image, part, run.model.scale) for part in parts) / 3
    torch.testing.assert_close(run.losses(batch)["sub_captions"], expected, rtol=1e-9, atol=0)
