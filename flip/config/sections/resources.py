"""Define parameters of jobs: the resources that each requests from the cluster."""

from typing import Self

from pydantic import Field, model_validator

from flip.config.sections.types import Count, Few, Natural, Section


class JobResources(Section):
    """Describe the resources that a job of a stage requests."""

    threads: Few = Field(description="processor cores per process")
    gpus: int = Field(description="GPUs per process", ge=0, le=1000)
    memory_mb: Natural = Field(description="memory per node, MB", le=10**8)
    minutes: Natural = Field(description="time limit", le=525_600)


class Training(JobResources):
    """Describe a job of many processes, which is stopped before its time limit and queued again."""

    nodes: Few
    processes: Few = Field(description="processes per node")
    gpu_memory_mb: Count | None = Field(
        description="memory of a GPU, MB; steps that need more are refused; null: not checked"
    )
    stop_seconds: Count = Field(
        description="seconds before the time limit at which a checkpoint is written and the job ends"
    )

    @model_validator(mode="after")
    def has_time_to_train(self) -> Self:
        if self.stop_seconds >= 60 * self.minutes:
            raise ValueError(
                f"stop_seconds = {self.stop_seconds} leaves none of the {self.minutes} minutes; "
                f"allowed: 1 to {60 * self.minutes - 1}; lower it or raise minutes"
            )
        return self

    @property
    def cores(self) -> int:
        """Return the number of CPU cores per node."""
        return self.processes * self.threads


class Resources(Section):
    data: JobResources
    pretrain: Training
    evaluate: JobResources
