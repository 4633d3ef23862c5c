"""A stage loads no library that it does not need: each takes a second or more to import, in every job."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.long(2)

UNUSED = {
    "flip.provenance.receipt": {"torch", "numpy", "pydantic", "yaml"},
    "flip.sources.table": {"torch", "pandas", "sklearn"},
    "flip.download.part": {"torch", "pandas", "img2dataset"},
    "flip.data.fingerprints": {"torch", "pandas", "sklearn"},
    "flip.testsets.revision": {"torch", "pandas", "sklearn"},
    "flip.data.shards": {"torch", "pandas", "webdataset"},
    "flip.data.tokenizer": {"torch", "pandas", "transformers"},
    "flip.testsets.fingerprints": {"torch", "pandas", "sklearn"},
    "flip.synthetic.table": {"torch", "pandas", "sklearn"},
    "flip.synthetic.download": {"torch", "pandas", "img2dataset"},
    "flip.synthetic.testsets": {"torch", "pandas", "sklearn"},
    "flip.config.resolve": {"torch", "pandas", "sklearn", "img2dataset"},
    "flip.synthetic.translate": {"torch", "pandas", "sklearn"},
    "flip.plan.preflight": {"torch", "pandas", "sklearn"},
    "flip.train": {"pandas", "sklearn", "transformers", "tensorboard", "wandb"},
    "flip.evaluate.__main__": {"pandas", "sklearn", "transformers", "matplotlib"},
    "flip.transfer.__main__": {"pandas", "sklearn", "transformers"},
    "flip.export.exports": {"open_clip", "transformers", "timm", "sklearn"},
    "flip.export.imports": {"open_clip", "transformers", "timm", "sklearn"},
    "flip.report.tables": {"torch", "sklearn"},
    "flip": {"torch", "numpy", "pydantic", "yaml"},
    "flip.commands": {"torch", "numpy", "pydantic", "yaml", "rich"},
}


@pytest.mark.parametrize("module", UNUSED)
def test_a_stage_loads_no_library_that_it_does_not_need(module):
    code = f"import sys, {module}; print(*{UNUSED[module]} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
