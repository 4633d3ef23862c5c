"""Read the numbers of other people's that plans rest on, typed; where each is from stands in facts.yaml."""

from functools import cache
from pathlib import Path

import yaml
from pydantic import Field

from flip.config.faults import ParameterError, check, nearest
from flip.config.sections.types import Count, Positive, Section, Share


class Gpu(Section):
    device: str = Field(description="what torch.cuda.get_device_name says")
    memory_gb: Positive
    bfloat16_tflops: Positive = Field(description="10^12 dense FLOPs per second")
    float32_tflops: Positive

    def rate(self, precision: str) -> float:
        """Return the FLOPs per second of dense matrix products of numbers of this type."""
        return 1e12 * getattr(self, f"{precision}_tflops")


class Utilization(Section):
    bfloat16: Share
    float32: Share


class Pictures(Section):
    original_bytes: Count = Field(description="bytes on the wire per image")
    stored_bytes: dict[int, int] = Field(description="shorter side, pixels -> bytes in a shard, with the caption")
    download_per_process: Positive = Field(description="images per second")
    per_job: Positive = Field(description="images per second")
    compared_per_job: Positive = Field(description="images per second over which the search for duplicates goes")
    compared_bytes: Count = Field(description="memory of that search per image, over the number of its buckets")


class Facts(Section):
    gpus: dict[str, Gpu]
    utilization: Utilization
    usable_memory: Share
    rows: dict[str, Count] = Field(description="source.table -> rows of a URL list that is not here")
    pictures: Pictures


@cache
def facts() -> Facts:
    path = Path(__file__).with_name("facts.yaml")
    return check(Facts, yaml.safe_load(path.read_text()), str(path))


def find_gpu(name: str) -> Gpu:
    """Return the GPU of that name, in facts.yaml's spelling.

    Raises:
        ParameterError: no such GPU; names the nearest.
    """
    known = facts().gpus
    if name not in known:
        raise ParameterError(
            f"--gpu {name}: unknown GPU; {nearest(name, known)}; more can be added to flip/plan/facts.yaml"
        )
    return known[name]
