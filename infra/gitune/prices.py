"""What a training costs: a dated, sourced table of prices, and the arithmetic from tokens to dollars and minutes.

Unknown stays unknown: without a price or a token count there is no number. Every number is low / expected / high.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter

Range: TypeAlias = tuple[float, float, float]
"""low, expected, high"""

# A token count by rule of thumb is between 1 % too low and 53 % too high (dataset/tokens.py).
_COUNTED: Range = (1.0, 1.0, 1.0)
_ESTIMATED: Range = (0.65, 1.0, 1.02)
# Share of a GPU's peak that training with LoRA reaches. Large-scale training reports 0.3 to 0.5 (Chowdhery et al.,
# "PaLM", 2022, table 3); short sequences and small batches much less.
_UTILISATION: Range = (0.45, 0.25, 0.08)
_START_MINUTES: Range = (2.0, 5.0, 15.0)
"""Image, packages and base model, before the first step."""


def _as_range(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(value)
    return (value, value, value) if isinstance(value, int | float) else value


class TokenPrice(BaseModel):
    """Of a provider that bills the tokens it trained on: examples times epochs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    usd_per_million_tokens: Annotated[
        tuple[float, float, float],
        BeforeValidator(_as_range),
        Field(description="One number, or low, expected and high."),
    ]
    minimum_usd: Annotated[float, Field(ge=0, description="For one job, however small.")] = 0.0
    storage_usd_per_month: Annotated[
        float, Field(ge=0, description="For the model, as long as it is kept; not in an estimate.")
    ] = 0.0


class HourPrice(BaseModel):
    """Of hardware that is billed by time."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    usd_per_hour: Annotated[float, Field(ge=0, description="Of all of it.")]
    bf16_tflops: Annotated[
        float | None,
        Field(
            gt=0,
            description="Peak of all its GPUs, dense, in 10^12 operations a second; without it the time is unknown.",
        ),
    ] = None


Price: TypeAlias = TokenPrice | HourPrice
_PRICE: TypeAdapter[Price] = TypeAdapter(Price)


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of all training examples, once; `estimated` by rule of thumb."""

    count: int
    estimated: bool = False


def find_price(provider: str, name: str, overrides: Mapping[str, Price]) -> Price | None:
    """The price of a base model or hardware flavour: the stack's, else the table's. None: nobody knows."""
    if name in overrides:
        return overrides[name]
    block = _table().get(provider, {})
    found = {**block.get("models", {}), **block.get("flavors", {})}.get(name, block.get("default"))
    return None if found is None else _PRICE.validate_python(found)


def price_source(provider: str) -> str | None:
    """Where the table's prices of a provider come from, and the day they were read."""
    block = _table().get(provider)
    return f"{block['source']}, read {block['read']}" if block else None


def token_cost(price: TokenPrice, tokens: Tokens | None, epochs: Range | None) -> Range | None:
    """Dollars of one job. None where the tokens or the epochs (a provider's "auto") are unknown."""
    if tokens is None or epochs is None:
        return None
    share = _ESTIMATED if tokens.estimated else _COUNTED
    sums = [
        max(tokens.count * factor * times * usd / 1e6, price.minimum_usd)
        for factor, times, usd in zip(share, epochs, price.usd_per_million_tokens, strict=True)
    ]
    return sums[0], sums[1], sums[2]


def gpu_minutes(price: HourPrice, tokens: Tokens | None, epochs: float, base_model: str) -> Range | None:
    """Minutes of one LoRA job on a GPU, from start to end.

    Operations: 4 times parameters times tokens times epochs, 2 forward and 2 for the gradient of the activations; the
    gradient of the frozen weights is not computed (of the 6 that Kaplan et al., "Scaling Laws for Neural Language
    Models", 2020, section 2.1 count for full training). None where the GPU, the tokens or the model's size are
    unknown.
    """
    size = parameters_in_name(base_model)
    if price.bf16_tflops is None or tokens is None or size is None:
        return None
    work = 4 * size * tokens.count * epochs / (price.bf16_tflops * 1e12) / 60
    minutes = [work / share + start for share, start in zip(_UTILISATION, _START_MINUTES, strict=True)]
    return minutes[0], minutes[1], minutes[2]


def hour_cost(price: HourPrice, minutes: Range | None) -> Range | None:
    """Dollars of so many minutes."""
    if minutes is None:
        return None
    low, expected, high = (price.usd_per_hour * value / 60 for value in minutes)
    return low, expected, high


def parameters_in_name(base_model: str) -> float | None:
    """The number of parameters that a model's name tells: "Llama-3.1-8B" → 8e9, "SmolLM2-135M" → 1.35e8."""
    found = re.findall(r"(?<![\w.])(\d+(?:\.\d+)?)([bm])(?![a-z0-9])", base_model.lower())
    if not found:
        return None
    number, unit = found[-1]
    return float(number) * (1e9 if unit == "b" else 1e6)


@functools.cache
def _table() -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "prices.yaml").read_text(encoding="utf-8"))
    return data
