"""Peak memory of a training step, as flip.train.step_cost measures it: python -m tests.peak_memory DATA PARAMS..."""

import sys
from pathlib import Path

import torch

from flip.config.frozen import load
from flip.files import read_json
from flip.train.__main__ import keep_memory
from flip.train.step_cost import Step

data, *paths = map(Path, sys.argv[1:])
keep_memory()
torch.set_num_threads(1)
manifest = read_json(data / "manifest.json")
print(*(Step(load(path), data, manifest, "cpu").peak_memory() for path in paths))
