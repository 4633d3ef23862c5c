"""Build the reconstruction decoder (MAE, section 3; FLIP, Table 1f)."""

import torch
from torch import Tensor, nn

from flip.config.objectives.reconstruction import Reconstruction
from flip.config.schema import Model, Tower, VisionForm
from flip.model.towers import Towers
from flip.model.transformer import Transformer, full_precision
from flip.model.vision import fixed_positions


def restore(kept: Tensor, mask_token: Tensor, ids_restore: Tensor) -> Tensor:
    """Return every patch's token [batch, slots, width]: `kept` [batch, kept, width] where it was kept, else the mask
    token [width]; `ids_restore`, int64 [batch, slots], as of flip.model.masking."""
    missing = ids_restore.shape[1] - kept.shape[1]
    x = torch.cat([kept, mask_token.to(kept.dtype).expand(len(kept), missing, -1)], dim=1)
    return x.take_along_dim(ids_restore[:, :, None], dim=1)


class PixelDecoder(nn.Module):
    """Decode all patches and, where there is one, the class token, which has no position (MAE's released code)."""

    positions: Tensor

    def __init__(self, model: Model, head: Reconstruction, form: VisionForm):
        super().__init__()
        self.first = int(form.pooling == "class")  # slots before the patches
        self.embed = nn.Linear(model.vision.width, head.width)
        self.mask_token = nn.Parameter(torch.zeros(head.width))
        self.transformer = Transformer(Tower(layers=head.layers, width=head.width, heads=head.heads), form)
        self.predict = nn.Linear(head.width, 3 * model.patch**2)
        self.register_buffer("positions", fixed_positions(head.width, model), persistent=False)
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(self, towers: Towers, batch: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
        """Predict patches, `prediction` [batch, patches, pixels], and say which were `removed`, bool [batch, patches],
        from the image tower's states of those that were kept (flip.model.two_towers.Forward)."""
        order = towers.order
        prediction = full_precision(self.decode(towers.encoded, order.ids_restore))
        return {"prediction": prediction, "removed": order.ids_restore >= order.ids_keep.shape[1]}

    def decode(self, encoded: Tensor, ids_restore: Tensor) -> Tensor:
        """Predict pixels [batch, patches, patch * patch * 3] from the encoded kept patches [batch, kept, width], after
        a class token."""
        x = self.embed(encoded)
        first, kept = x[:, : self.first], x[:, self.first :]
        x = torch.cat([first, restore(kept, self.mask_token, ids_restore) + self.positions], dim=1)
        return self.predict(self.transformer(x)[:, self.first :])
