"""Define the tiles of the contrastive losses' logits; here, as memory is planned without torch."""

# Side of a tile. CPU: 4 MB of float32 stay near a core; between 512 and 2,048 the time hardly changes. GPU: larger, so
# that a tile is worth starting its kernels; 64 MB whatever the batch.
SIDE = {"cpu": 1024, "cuda": 4096}
# From this many pairs on, tiles are faster than the whole matrix: `python -m benchmarks.losses` measures it.
TILES_FROM = 1024
