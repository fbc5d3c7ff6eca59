"""Prices: what is known is computed, what is not known is said to be unknown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitune.prices import (
    HourPrice,
    TokenPrice,
    Tokens,
    find_price,
    gpu_minutes,
    hour_cost,
    parameters_in_name,
    price_source,
    token_cost,
)
from gitune.providers import PROVIDERS

ONCE = (1.0, 1.0, 1.0)


def test_a_small_job_costs_the_minimum() -> None:
    price = find_price("mistral", "open-mistral-7b", {})
    assert isinstance(price, TokenPrice)
    assert token_cost(price, Tokens(100_000), (3, 3, 3)) == (4.0, 4.0, 4.0)


def test_five_thousand_examples_cost_tokens_times_epochs_times_price() -> None:
    price = find_price("openai", "gpt-4o-mini-2024-07-18", {})
    assert isinstance(price, TokenPrice)
    assert token_cost(price, Tokens(1_000_000), (3, 3, 3)) == pytest.approx((9.0, 9.0, 9.0))


def test_an_estimated_count_makes_a_range() -> None:
    low, expected, high = (
        token_cost(TokenPrice(usd_per_million_tokens=10), Tokens(1_000_000, estimated=True), ONCE) or ONCE
    )
    assert low == pytest.approx(6.5)
    assert (expected, high) == pytest.approx((10.0, 10.2))


def test_what_nobody_knows_has_no_price() -> None:
    assert find_price("bedrock", "anthropic.claude-3-haiku-20240307-v1:0", {}) is None
    assert find_price("openai", "gpt-9", {}) is None
    assert token_cost(TokenPrice(usd_per_million_tokens=10), None, ONCE) is None
    assert token_cost(TokenPrice(usd_per_million_tokens=10), Tokens(5), None) is None
    assert gpu_minutes(HourPrice(usd_per_hour=1), Tokens(5), 3, "Llama-3.1-8B") is None
    assert gpu_minutes(HourPrice(usd_per_hour=1, bf16_tflops=70), Tokens(5), 3, "my-model") is None
    assert hour_cost(HourPrice(usd_per_hour=1), None) is None


def test_a_stack_overrides_the_table() -> None:
    own = TokenPrice(usd_per_million_tokens=0.5)
    assert find_price("mistral", "open-mistral-7b", {"open-mistral-7b": own}) == own


def test_every_block_of_the_table_names_a_provider_a_source_and_a_day() -> None:
    for provider in ("mistral", "openai", "huggingface"):
        assert "https://" in (price_source(provider) or "")
        assert "2026-" in (price_source(provider) or "")
    assert price_source("local") is None
    assert "local" in PROVIDERS


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("meta-llama/Llama-3.1-8B", 8e9),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", 1.35e8),
        ("smollm2-135m-instruct", 1.35e8),
        ("Qwen/Qwen2.5-0.5B-Instruct", 5e8),
        ("open-mistral-7b", 7e9),
        ("gpt-4o-mini", None),
    ],
)
def test_the_size_in_a_models_name(name: str, parameters: float | None) -> None:
    assert parameters_in_name(name) == parameters


@given(st.integers(1, 10**10), st.floats(0.1, 20), st.booleans())
def test_low_expected_high_are_in_order(count: int, epochs: float, estimated: bool) -> None:
    tokens = Tokens(count, estimated)
    cost = token_cost(TokenPrice(usd_per_million_tokens=3, minimum_usd=4), tokens, (epochs, epochs, epochs))
    minutes = gpu_minutes(HourPrice(usd_per_hour=1, bf16_tflops=70), tokens, epochs, "Llama-3.1-8B")
    assert cost is not None
    assert minutes is not None
    assert list(cost) == sorted(cost)
    assert list(minutes) == sorted(minutes)
