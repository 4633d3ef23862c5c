"""The reconstruction decoder (MAE, section 3; FLIP, Table 1f): only built where its loss has a weight."""

import torch
from torch import Tensor, nn

from flip.model.transformer import Transformer
from flip.model.vision import sincos_positions
from flip.schema import Blocks, Model, Reconstruction, Tower


class Decoder(nn.Module):
    def __init__(self, model: Model, head: Reconstruction, form: Blocks):
        super().__init__()
        self.embed = nn.Linear(model.vision.width, head.width)
        self.mask_token = nn.Parameter(torch.zeros(head.width))
        self.transformer = Transformer(Tower(layers=head.layers, width=head.width, heads=head.heads), form)
        self.predict = nn.Linear(head.width, 3 * model.patch**2)
        self.register_buffer("positions", sincos_positions(head.width, model.grid), persistent=False)
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(self, encoded: Tensor, ids_restore: Tensor) -> Tensor:
        """Pixels [batch, patches, patch * patch * 3] from the encoded kept patches [batch, kept, width]."""
        x = self.embed(encoded)
        missing = ids_restore.shape[1] - x.shape[1]
        x = torch.cat([x, self.mask_token.to(x.dtype).expand(len(x), missing, -1)], dim=1)
        x = x.take_along_dim(ids_restore[:, :, None], dim=1)
        return self.predict(self.transformer(x + self.positions))
