"""What the sections of params.yaml are built from."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(gt=0)]
Language = Annotated[str, Field(pattern=r"^[a-z]{2,3}$")]  # ISO 639
Name = Annotated[str, Field(pattern=r"^[a-z0-9-]+$")]


class Section(BaseModel):
    """A group of parameters: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
