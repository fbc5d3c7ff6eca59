"""What a stack says about a provider: the blocks below `gitune:providers` in Pulumi.<stack>.yaml.

Each provider has a class of its own for its block. A key that nobody knows is an error with its line. Credentials are
never in a block: they come from the environment, and a block may only name the variable.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from gitune.prices import Price
from gitune.sunset import Sunset

ENVIRONMENT_NAME = r"^[A-Za-z_][A-Za-z0-9_]*$"


class ProviderSettings(BaseModel):
    """What every provider takes."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)

    concurrency: Annotated[
        int | None, Field(ge=1, le=10_000, description="Jobs at once; left out: found out from the provider's answers.")
    ] = None
    total_jobs: Annotated[
        Annotated[int, Field(ge=0)] | Literal["unlimited"] | None,
        Field(description="Jobs for life, as a free trial has it; left out: not known."),
    ] = None
    prices: Annotated[
        dict[str, Price], Field(description="By base model or hardware flavour, in place of gitune's table.")
    ] = Field(default_factory=dict)
    sunset: Annotated[
        tuple[Sunset, ...], Field(strict=False, description="Known ends, before those of gitune's table.")
    ] = ()


class HttpSettings(ProviderSettings):
    """What a provider takes that is reached by URL and key. What is left out is read from the environment."""

    base_url: Annotated[
        str | None, Field(pattern=r"^https?://[^@\s]+$", description="Of the API; without credentials in it.")
    ] = None
    key_variable: Annotated[
        str | None, Field(pattern=ENVIRONMENT_NAME, description="The environment variable that holds the API key.")
    ] = None
    timeout_seconds: Annotated[float, Field(gt=0, le=600, description="Longest wait for one answer.")] = 30.0
