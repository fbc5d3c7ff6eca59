"""What is behind a route: a server that speaks chat completions, a vendor's SDK, or weights on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from typing import Any, Protocol

import anyio
import httpx
from starlette.concurrency import iterate_in_threadpool, run_in_threadpool
from starlette.responses import JSONResponse, Response, StreamingResponse

from gitune.errors import ProviderError, QuotaExceeded, Unavailable
from gitune.gateway.wire import Chunks, Question, completion, error, error_body, event
from gitune.hosted import AT_ONCE, open_hosted
from gitune.inference import Generation, LocalModel, Messages, loaded_model
from gitune.providers.base import ChatTarget, ConverseTarget, HttpTarget, LocalTarget

_MAX_NEW_TOKENS = 1024
_TIMEOUT = httpx.Timeout(120.0, connect=10.0)
_EVENTS = "text/event-stream"
_MISTRAL_KEYS = frozenset(
    (
        "messages",
        "temperature",
        "top_p",
        "max_tokens",
        "stream",
        "stop",
        "random_seed",
        "response_format",
        "tools",
        "tool_choice",
        "presence_penalty",
        "frequency_penalty",
        "n",
        "parallel_tool_calls",
        "prediction",
        "prompt_mode",
    )
)
"""What Mistral's chat completions take; it refuses others, and calls two by other names than OpenAI."""


class Upstream(Protocol):
    """One model."""

    async def answer(self, question: Question) -> Response:
        """The answer or error, in OpenAI's shape."""
        ...


class Upstreams:
    """Opens what is behind a target when it is first asked for. One pool of connections, one base model in memory."""

    def __init__(self) -> None:
        self._local, self._hosted = asyncio.Semaphore(1), asyncio.Semaphore(AT_ONCE)
        self._client = httpx.AsyncClient(timeout=_TIMEOUT, limits=httpx.Limits(max_connections=None))

    def open(self, target: ChatTarget) -> Upstream:
        """Raises UserError or ProviderError."""
        if isinstance(target, HttpTarget):
            return _Forwarded(target, self._client)
        if isinstance(target, ConverseTarget):
            return _Spoken(open_hosted(target), self._hosted)
        return _Spoken(_Local(target), self._local)

    async def close(self) -> None:
        """After the last answer."""
        await self._client.aclose()


class _Forwarded:
    """The request goes on as it is, but for the model's name; the answer comes back byte for byte."""

    def __init__(self, target: HttpTarget, client: httpx.AsyncClient) -> None:
        self._target, self._client = target, client
        version = "" if target.protocol == "openai" else "/v1"
        self._url = f"{target.base_url.rstrip('/')}{version}/chat/completions"

    async def answer(self, question: Question) -> Response:
        request = self._client.build_request("POST", self._url, json=self._body(question), headers=self._headers())
        try:
            reply = await self._client.send(request, stream=True)
        except httpx.HTTPError as failure:
            return error(502, f"no answer from {self._target.protocol}: {type(failure).__name__}", "upstream_error")
        if reply.status_code >= 400:
            return await _refused(reply)
        kind = reply.headers.get("content-type", "application/json")
        if kind.startswith(_EVENTS):
            return StreamingResponse(_bytes(reply), media_type=_EVENTS)
        try:
            return Response(await reply.aread(), media_type=kind)
        except httpx.HTTPError as failure:
            return error(502, f"the answer broke off: {type(failure).__name__}", "upstream_error")
        finally:
            await reply.aclose()

    def _body(self, question: Question) -> dict[str, Any]:
        body = dict(question.body)
        if self._target.protocol == "mistral":
            renamed = {"max_tokens": body.get("max_completion_tokens"), "random_seed": body.get("seed")}
            body = {key: value for key, value in body.items() if key in _MISTRAL_KEYS}
            body |= {key: value for key, value in renamed.items() if value is not None}
        return {**body, "model": self._target.model}

    def _headers(self) -> dict[str, str]:
        variable = self._target.key_variable
        key = os.environ.get(variable) if variable else None
        return {"Authorization": f"Bearer {key}"} if key else {}


async def _bytes(reply: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for piece in reply.aiter_bytes():
            yield piece
    except httpx.HTTPError as failure:
        yield event(error_body(502, f"the answer broke off: {type(failure).__name__}", "upstream_error"))
    finally:
        await reply.aclose()


async def _refused(reply: httpx.Response) -> Response:
    """What is the client's to mend is passed on; what is ours or the provider's is a bad gateway."""
    try:
        said = " ".join((await reply.aread()).decode(errors="replace").split())[:300]
    except httpx.HTTPError:
        said = "no reason"
    finally:
        await reply.aclose()
    status = reply.status_code
    if status == 429:
        after = reply.headers.get("retry-after")
        return error(429, said, "rate_limit_exceeded", {"Retry-After": after} if after else None)
    if status in (400, 413, 422):
        return error(400, said, "invalid_request")
    if status in (401, 403):
        return error(502, "the provider refuses the gateway's key", "upstream_unauthorized")
    return error(502, f"the provider answered {status}: {said}", "upstream_error")


class _Voice(Protocol):
    def answer(self, conversation: Messages, max_new_tokens: int) -> Generation: ...
    def stream(self, conversation: Messages, max_new_tokens: int) -> Iterator[str]: ...


class _Spoken:
    """A model that is called in a thread and not forwarded to. Always greedy. `turns`: how many at once."""

    def __init__(self, voice: _Voice, turns: asyncio.Semaphore) -> None:
        self._voice, self._turns = voice, turns

    async def answer(self, question: Question) -> Response:
        longest = question.max_new_tokens(_MAX_NEW_TOKENS)
        if question.streamed:
            return StreamingResponse(self._events(question, longest), media_type=_EVENTS)
        try:
            async with self._turns:
                generation = await run_in_threadpool(self._voice.answer, question.messages, longest)
        except ProviderError as failure:
            return _failed(failure)
        return JSONResponse(completion(question.alias, generation, longest))

    async def _events(self, question: Question, longest: int) -> AsyncIterator[bytes]:
        chunks = Chunks(question.alias)
        yield chunks.first()
        async with self._turns:
            pieces = self._voice.stream(question.messages, longest)
            try:
                async for piece in iterate_in_threadpool(pieces):
                    yield chunks.piece(piece)
            except ProviderError as failure:
                yield event(error_body(502, failure.message, "upstream_error"))
                return
            finally:  # a client that hung up: nobody else has a turn before the model is quiet
                with anyio.CancelScope(shield=True):
                    await run_in_threadpool(_drain, pieces)
        yield chunks.last()


def _drain(pieces: Iterator[str]) -> None:
    with contextlib.suppress(ProviderError):
        for _ in pieces:
            pass


def _failed(failure: ProviderError) -> Response:
    if isinstance(failure, QuotaExceeded):
        return error(429, failure.message, "rate_limit_exceeded")
    status = 503 if isinstance(failure, Unavailable) else 502
    return error(status, failure.message, "upstream_error")


class _Local:
    """One adapter of a base model that others share, so they take turns, a whole answer at a time."""

    def __init__(self, target: LocalTarget) -> None:
        self._target = target

    def answer(self, conversation: Messages, max_new_tokens: int) -> Generation:
        return self._model().answer(conversation, max_new_tokens)

    def stream(self, conversation: Messages, max_new_tokens: int) -> Iterator[str]:
        yield from self._model().stream(conversation, max_new_tokens)

    def _model(self) -> LocalModel:
        model, _ = loaded_model(self._target.base_model)
        model.use_adapter(self._target.adapter)
        return model
