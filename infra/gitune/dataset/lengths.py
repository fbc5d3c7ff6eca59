"""Which examples are too long for the base model: counted only where it is in doubt, and once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from gitune.dataset.chat import Example, Message
from gitune.dataset.rules import Counts
from gitune.dataset.tokens import TokenCounter, token_counter
from gitune.errors import UserError
from gitune.files import read_json, write_atomic
from gitune.hashing import canonical_json, sha256
from gitune.spec import AgentSpec

LONGEST: Mapping[str, int] = MappingProxyType(
    {
        "gpt-4o-2024-08-06": 65_536,
        "gpt-4o-mini-2024-07-18": 65_536,
        "gpt-3.5-turbo-0125": 16_385,
        "gpt-3.5-turbo-1106": 16_385,
        "gpt-3.5-turbo-0613": 4_096,
    }
)
"""Tokens of an example, by base model: OpenAI's guide to fine-tuning, "Training examples context length". What is
beyond is cut at the end, without a word, and the end is the answer. A limit that nobody confirmed is not here."""

_FRAME = 16  # tokens that a chat template adds around a message, at most; a system message of its own is one more
_LEAST_SHARE = 0.65
"""An estimated count is at most 53 % too high (tokens.py): the true one is at least this share of it."""


@dataclass(frozen=True, slots=True)
class Limit:
    """The smallest that a candidate of the agent has, in tokens, and the base model that counts them."""

    tokens: int
    base_model: str


def length_limit(spec: AgentSpec) -> Limit | None:
    """What agent.yaml, its providers' defaults and LONGEST say, whatever the stack; None where nothing is known."""
    from gitune.providers import provider_class  # which needs this package

    limits = []
    for candidate in spec.training:
        try:
            defaults = provider_class(candidate.provider).defaults
        except UserError:
            continue  # an unknown provider is a problem of its own
        base_model = candidate.base_model or defaults.base_model
        longest = {**defaults.hyperparameters, **candidate.hyperparameters}.get("max_length", LONGEST.get(base_model))
        if isinstance(longest, int) and longest is not True:
            limits.append(Limit(longest, base_model))
    return min(limits, key=lambda limit: limit.tokens, default=None)


def counting(limit: Limit, *, exact: bool, cache: Path) -> Callable[[Sequence[Example]], Counts]:
    """Counts tokens, up to `limit` at least: an example whose bytes fit has fewer, because a token is a byte or more.

    What was counted is kept in the folder `cache`. Without the base model's own tokenizer the count is the least that
    it can be; with `exact` that is refused, because which examples are dropped must not depend on the machine. Raises
    UserError.
    """

    def count(examples: Sequence[Example]) -> Counts:
        tokens = [_most(example) for example in examples]
        doubtful = [index for index, most in enumerate(tokens) if most is None or most > limit.tokens]
        if not doubtful:
            return Counts([most or 0 for most in tokens], "counted in bytes")
        from gitune.training.base_model import unpacked_base_model

        counter = token_counter(limit.base_model, unpacked_base_model(limit.base_model))
        if counter.estimated and exact:
            message = f"the tokenizer of {limit.base_model} is not on this machine, so too-long cannot drop examples"
            raise UserError(message, hint="train once with it here, or set dataset.rules.too-long to error")
        share = _LEAST_SHARE if counter.estimated else 1.0
        counted = _counted_once(counter, [examples[index] for index in doubtful], cache)
        for index, number in zip(doubtful, counted, strict=True):
            tokens[index] = int(number * share)
        by = counter.name if counter.estimated else f"counted by {counter.name}"
        return Counts([number or 0 for number in tokens], by, at_least=counter.estimated)

    return count


def _counted_once(counter: TokenCounter, examples: Sequence[Example], cache: Path) -> Sequence[int]:
    """As the counter counts; by content, so a pass that changes nothing counts nothing."""
    if counter.estimated:
        return counter.count(examples)  # reading what is kept would take longer
    kept = cache / f"{sha256(['lengths', counter.identity, *(e.canonical() for e in examples)])[:32]}.json"
    known = read_json(kept)
    if isinstance(known, list) and len(known) == len(examples) and all(type(number) is int for number in known):
        return known
    counted = counter.count(examples)
    with contextlib.suppress(OSError):  # a disk that cannot be written to is no reason not to check
        write_atomic(kept, canonical_json(counted) + "\n")
    return counted


def _most(example: Example) -> int | None:
    """No more tokens than this: one for each byte, and the template's frame. None: tools are framed in any number."""
    if example.tools or any(message.tool_calls for message in example.messages):
        return None
    return sum(map(_bytes, example.messages)) + _FRAME * (len(example.messages) + 1)


def _bytes(message: Message) -> int:
    return len(message.content.encode())
