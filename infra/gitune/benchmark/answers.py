"""Where a benchmark's answers come from: batches on this machine, or calls to a server. Asynchronous, for inspect."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import anyio
import anyio.to_thread

from gitune.errors import GituneError, NotFound, ProviderError, Retired, Unauthorized, Unavailable
from gitune.hosted import AT_ONCE, HostedModel
from gitune.inference import Generation, LocalModel, Messages

_BATCH = 32
"""Of 100 short prompts on 2 cores, 32 at a time are answered four to six times as fast as one by one."""
_SILENCE_SECONDS = 1.0
_GIVE_UP = AT_ONCE
"""Failures in a row, each after the SDK's own repetitions, after which nobody else is asked."""


class Answers(Protocol):
    """One model, ready to be asked."""

    at_once: int
    """Questions that may be under way."""

    async def ask(self, conversation: Messages, max_new_tokens: int) -> Generation:
        """Raises ProviderError."""
        ...


class HostedAnswers:
    """Calls in threads; the SDK repeats what failed for a moment, and heeds Retry-After."""

    def __init__(self, model: HostedModel, at_once: int = AT_ONCE) -> None:
        self.at_once = at_once
        self._model = model

    async def ask(self, conversation: Messages, max_new_tokens: int) -> Generation:
        return await anyio.to_thread.run_sync(self._model.answer, conversation, max_new_tokens)


@dataclass(frozen=True, slots=True)
class LocalVoice:
    """One adapter of a loaded base model, which may speak for others in between: a judge, for one."""

    model: LocalModel
    adapter: Path | None
    lock: threading.Lock

    def answer(self, conversation: Messages, max_new_tokens: int) -> Generation:
        with self.lock:
            self.model.use_adapter(self.adapter)
            return self.model.answer(conversation, max_new_tokens)

    def answer_all(self, conversations: Sequence[Messages], max_new_tokens: int) -> list[Generation]:
        """One batch."""
        with self.lock:
            self.model.use_adapter(self.adapter)
            return self.model.generate(conversations, max_new_tokens=max_new_tokens, batch_size=len(conversations))


class SingleAnswers:
    """A local model, one conversation at a time, so that each answer has a time of its own; the first warms up."""

    at_once = 1

    def __init__(self, voice: LocalVoice) -> None:
        self._voice = voice
        self._warm = False

    async def ask(self, conversation: Messages, max_new_tokens: int) -> Generation:
        if not self._warm:
            await anyio.to_thread.run_sync(self._voice.answer, conversation, max_new_tokens)
            self._warm = True
        return await anyio.to_thread.run_sync(self._voice.answer, conversation, max_new_tokens)


@dataclass(eq=False, slots=True)
class _Waiting:
    conversation: Messages
    max_new_tokens: int
    done: anyio.Event = field(default_factory=anyio.Event)
    generation: Generation | None = None
    error: Exception | None = None


class BatchedAnswers:
    """A local model, batches of like length.

    Nobody is answered before `expected` have asked, or nobody new has for a second: then the batches, and with them the
    last bits of an untuned model's answers, do not depend on who came first.
    """

    def __init__(self, voice: LocalVoice, expected: int) -> None:
        self.at_once = max(expected, 1)
        self._voice = voice
        self._waiting: list[_Waiting] = []
        self._led = False

    async def ask(self, conversation: Messages, max_new_tokens: int) -> Generation:
        mine = _Waiting(conversation, max_new_tokens)
        self._waiting.append(mine)
        if not self._led:
            self._led = True
            try:
                await self._lead()
            finally:
                self._led = False
        await mine.done.wait()
        if mine.error is not None:
            raise mine.error
        assert mine.generation is not None
        return mine.generation

    async def _lead(self) -> None:
        """The first to ask answers all, itself included."""
        while self._waiting:
            await self._gather()
            asked, self._waiting = sorted(self._waiting, key=_order), []
            for start in range(0, len(asked), _BATCH):
                await self._answer(asked[start : start + _BATCH])

    async def _gather(self) -> None:
        silent = 0.0
        while len(self._waiting) < self.at_once and silent < _SILENCE_SECONDS:
            before = len(self._waiting)
            await anyio.sleep(0.02)
            silent = silent + 0.02 if len(self._waiting) == before else 0.0

    async def _answer(self, batch: Sequence[_Waiting]) -> None:
        longest = max(one.max_new_tokens for one in batch)
        try:
            generations = await anyio.to_thread.run_sync(
                self._voice.answer_all, [one.conversation for one in batch], longest
            )
            for one, generation in zip(batch, generations, strict=True):
                one.generation = generation
        except Exception as error:  # noqa: BLE001 - whoever asked has it
            for one in batch:
                one.error = error
        finally:
            for one in batch:
                one.done.set()


class Guarded:
    """Answers that stop when asking on makes no sense, and remember why."""

    def __init__(self, answers: Answers) -> None:
        self.at_once = answers.at_once
        self.first_error: ProviderError | None = None
        self.fatal: GituneError | None = None
        """Concerns every question: a wrong key, a model that is gone."""
        self._answers = answers
        self._failed_in_a_row = 0

    async def ask(self, conversation: Messages, max_new_tokens: int) -> Generation:
        """Raises ProviderError; of what is not asked any more, Unavailable."""
        if self.fatal is not None:
            raise self.fatal
        if self._failed_in_a_row >= _GIVE_UP:
            raise Unavailable(f"not asked after {_GIVE_UP} failures in a row")
        try:
            generation = await self._answers.ask(conversation, max_new_tokens)
        except ProviderError as error:
            self.first_error = self.first_error or error
            self._failed_in_a_row += 1
            if isinstance(error, Unauthorized | NotFound | Retired):
                self.fatal = error
            raise
        self._failed_in_a_row = 0
        return generation


def _order(waiting: _Waiting) -> tuple[int, str]:
    """Longest first, so that memory runs out at once if it does; then by text, so that batches are always the same."""
    text = "\n".join(str(message["content"]) for message in waiting.conversation)
    return -len(text), text
