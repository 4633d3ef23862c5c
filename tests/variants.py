"""Name few variants that stand for all: each objective, way of masking and kind of tower is in one of them."""

EVERY_KIND = (
    "clip",
    "flip-75-mae",
    "text-random",
    "text-prioritized",
    "clip-form",
    "siglip",
    "sigmoid-noise",
    "mae",
    "slip",
    "m3ae",
    "mae-clip",
    "flava",
    "coca",
    "captioner-parallel",
    "local-distillation",
    "masked-distillation",
    "distilled",
    "sub-captions",
)
# Those that draw removed patches, by a decoder of patches alone and by one that sees words, too.
DRAW_PATCHES, DRAW_BESIDE_WORDS = ("mae", "mae-class", "mae-raw", "flip-50-mae"), ("mae-clip", "m3ae")
