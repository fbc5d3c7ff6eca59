"""Which examples are too long for the base model: counted only where it is in doubt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gitune.dataset.chat import Example
from gitune.dataset.tokens import token_counter
from gitune.errors import UserError
from gitune.spec import AgentSpec

_FRAME = 16  # tokens that a chat template adds around a message, at most; a system message of its own is one more
_LEAST_SHARE = 0.65
"""An estimated count is at most 53 % too high (tokens.py): the true one is at least this share of it."""


@dataclass(frozen=True, slots=True)
class Limit:
    """The smallest `max_length` of the agent's candidates, in tokens, and the base model that counts them."""

    tokens: int
    base_model: str


def length_limit(spec: AgentSpec) -> Limit | None:
    """What agent.yaml and its providers' defaults say, whatever the stack; None where no candidate has a limit."""
    from gitune.providers import provider_class  # which needs this package

    limits = []
    for candidate in spec.training:
        try:
            defaults = provider_class(candidate.provider).defaults
        except UserError:
            continue  # an unknown provider is a problem of its own
        longest = {**defaults.hyperparameters, **candidate.hyperparameters}.get("max_length")
        if isinstance(longest, int):
            limits.append(Limit(longest, candidate.base_model or defaults.base_model))
    return min(limits, key=lambda limit: limit.tokens, default=None)


def counting(limit: Limit, *, exact: bool) -> Callable[[Sequence[Example]], list[int]]:
    """Counts tokens, up to `limit` at least: an example whose bytes fit has fewer, whatever the tokenizer.

    Without the base model's own tokenizer the count is the least that it can be; with `exact` that is refused, because
    which examples are dropped must not depend on the machine. Raises UserError.
    """

    def count(examples: Sequence[Example]) -> list[int]:
        counts = [_most(example) for example in examples]
        doubtful = [index for index, most in enumerate(counts) if most > limit.tokens]
        if not doubtful:
            return counts
        from gitune.training.base_model import unpacked_base_model

        counter = token_counter(limit.base_model, unpacked_base_model(limit.base_model))
        if counter.estimated and exact:
            message = f"the tokenizer of {limit.base_model} is not on this machine, so too-long cannot drop examples"
            raise UserError(message, hint="train once with it here, or set dataset.rules.too-long to error")
        share = _LEAST_SHARE if counter.estimated else 1.0
        for index, tokens in zip(doubtful, counter.count([examples[index] for index in doubtful]), strict=True):
            counts[index] = int(tokens * share)
        return counts

    return count


def _most(example: Example) -> int:
    """No more tokens than this: one for each byte, and the template's frame."""
    said = sum(len(m.content.encode()) + sum(len(c.name + c.arguments) for c in m.tool_calls) for m in example.messages)
    return said + len(example.tools) + _FRAME * (len(example.messages) + 1)
