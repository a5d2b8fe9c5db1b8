"""What all settings are made of."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

TaskName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]


class WrongSetting(Exception):
    """A setting is missing, unknown or out of its range. The message names it and what it may be."""


class Section(BaseModel):
    """A table of `whetstone.toml`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
