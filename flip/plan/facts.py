"""Read the numbers of other people's that plans rest on, typed; where each is from stands in facts.yaml."""

from functools import cache
from pathlib import Path
from statistics import median

import yaml
from pydantic import Field

from flip.config.faults import ParameterError, check, nearest
from flip.config.sections.types import Count, Name, Positive, Section, Share, Text


class Gpu(Section):
    device: str = Field(description="what torch.cuda.get_device_name says")
    memory_gb: Positive
    bfloat16_tflops: Positive = Field(description="10^12 dense FLOPs per second")
    tf32_tflops: Positive
    float32_tflops: Positive
    generation: Name = Field(description="key of utilization")

    def rate(self, precision: str) -> float:
        """Return the FLOPs per second of dense matrix products of numbers of this type."""
        return 1e12 * getattr(self, f"{precision}_tflops")


class PublishedRun(Section):
    run: Text
    share: Share = Field(description="of the GPUs' dense bfloat16 rate")
    source: Text


class Utilization(Section):
    published: list[PublishedRun] = Field(min_length=1)
    float32: Share

    def of(self, precision: str) -> float:
        """Return the share of its rate that a step reaches: the median of published runs, which are of mixed precision.

        In TF32 both rate and numbers per byte are half of bfloat16's, so the share is the same.
        """
        return self.float32 if precision == "float32" else median(one.share for one in self.published)

    @property
    def found(self) -> str:
        """Say what the share rests on."""
        shares = [one.share for one in self.published]
        return f"the median of {len(shares)} published runs, {min(shares):.0%} to {max(shares):.0%}"


class ImageFacts(Section):
    original_bytes: Count = Field(description="bytes on the wire per image")
    stored_bytes: dict[int, int] = Field(description="shorter side, pixels -> bytes in a shard, with the caption")
    download_per_process: Positive = Field(description="images per second")
    per_job: Positive = Field(description="images per second")
    compared_per_job: Positive = Field(description="images per second over which the search for duplicates goes")
    compared_bytes: Count = Field(description="memory of that search per image, over the number of its buckets")
    search_bytes: Count = Field(description="bytes on the disk per image for that search, until it has ended")


class Facts(Section):
    gpus: dict[str, Gpu]
    utilization: dict[Name, Utilization]
    usable_memory: Share
    captions_per_job: Positive = Field(description="captions per second whose words are counted, or scored")
    rows: dict[str, Count] = Field(description="source.table -> rows of a URL list that is not here")
    images: ImageFacts


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
