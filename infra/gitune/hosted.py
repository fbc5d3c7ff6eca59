"""Answers from models behind an API, for the benchmark and for chat. Asked at temperature 0, through the vendor's SDK.

The SDKs repeat what failed for a moment (limits, 5xx, cut connections), with backoff, and heed Retry-After. An answer
may be asked for twice: it costs fractions of a cent, and nothing is changed by it.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from gitune.errors import ProviderError, Unauthorized, Unavailable
from gitune.inference import Generation, Messages
from gitune.providers.base import ConverseTarget, HttpTarget
from gitune.providers.wire import error_of_status

AT_ONCE = 8
"""Questions under way at the same time in a benchmark: below the limits of the smallest accounts."""
_ATTEMPTS = 6
_TIMEOUT_SECONDS = 60.0
_PATIENCE_SECONDS = 90.0
"""How long the mistral SDK repeats a call."""


class HostedModel(Protocol):
    """A model that somebody else serves. All calls raise ProviderError."""

    def answer(self, conversation: Messages, max_new_tokens: int) -> Generation: ...

    def stream(self, conversation: Messages, max_new_tokens: int) -> Iterator[str]:
        """The answer in pieces, as they come."""
        ...


def open_hosted(target: HttpTarget | ConverseTarget) -> HostedModel:
    """The model behind a target. Calls nobody. Raises Unauthorized for a missing key or SDK."""
    if isinstance(target, ConverseTarget):
        return _Converse(target)
    return _Mistral(target) if target.protocol == "mistral" else _OpenAI(target)


class _OpenAI:
    def __init__(self, target: HttpTarget) -> None:
        with _sdk("openai"):
            import openai

        self._model = target.model
        self._sdk = openai
        self._client = openai.OpenAI(
            api_key=_key(target), base_url=target.base_url, timeout=_TIMEOUT_SECONDS, max_retries=_ATTEMPTS - 1
        )

    def answer(self, conversation: Messages, max_new_tokens: int) -> Generation:
        started = time.perf_counter()
        with self._mapped():
            reply = self._client.chat.completions.create(**self._question(conversation, max_new_tokens))
            used = reply.usage
            text = reply.choices[0].message.content or ""
        seconds = time.perf_counter() - started
        return Generation(text, used.prompt_tokens if used else 0, used.completion_tokens if used else 0, seconds)

    def stream(self, conversation: Messages, max_new_tokens: int) -> Iterator[str]:
        with self._mapped():
            pieces = self._client.chat.completions.create(**self._question(conversation, max_new_tokens), stream=True)
            for piece in pieces:
                if piece.choices and piece.choices[0].delta.content:
                    yield piece.choices[0].delta.content

    def _question(self, conversation: Messages, max_new_tokens: int) -> dict[str, Any]:
        return {
            "model": self._model,
            "messages": list(conversation),
            "max_tokens": max_new_tokens,
            "temperature": 0,
        }

    @contextlib.contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except self._sdk.APIStatusError as error:
            raise error_of_status(error.status_code, _line(error.message)) from None
        except self._sdk.APIError as error:
            raise Unavailable(_line(error.message)) from None
        except (ValueError, TypeError, IndexError, AttributeError) as error:
            raise _senseless(error) from None


class _Mistral:
    def __init__(self, target: HttpTarget) -> None:
        with _sdk("mistral"):
            from mistralai.client import Mistral, errors
            from mistralai.client.utils.retries import BackoffStrategy, RetryConfig

        self._model = target.model
        self._errors = errors
        waits = BackoffStrategy(
            initial_interval=500, max_interval=20_000, exponent=2.0, max_elapsed_time=int(_PATIENCE_SECONDS * 1000)
        )
        self._client = Mistral(
            api_key=_key(target),
            server_url=target.base_url,
            timeout_ms=int(_TIMEOUT_SECONDS * 1000),
            retry_config=RetryConfig("backoff", waits, retry_connection_errors=True),
        )

    def answer(self, conversation: Messages, max_new_tokens: int) -> Generation:
        started = time.perf_counter()
        with self._mapped():
            reply = self._client.chat.complete(**self._question(conversation, max_new_tokens))
            text, used = str(reply.choices[0].message.content or ""), reply.usage
        seconds = time.perf_counter() - started
        return Generation(text, used.prompt_tokens or 0, used.completion_tokens or 0, seconds)

    def stream(self, conversation: Messages, max_new_tokens: int) -> Iterator[str]:
        with self._mapped(), self._client.chat.stream(**self._question(conversation, max_new_tokens)) as pieces:
            for piece in pieces:
                content = piece.data.choices[0].delta.content if piece.data.choices else None
                if isinstance(content, str) and content:
                    yield content

    def _question(self, conversation: Messages, max_new_tokens: int) -> dict[str, Any]:
        return {
            "model": self._model,
            "messages": list(conversation),
            "max_tokens": max_new_tokens,
            "temperature": 0.0,
        }

    @contextlib.contextmanager
    def _mapped(self) -> Iterator[None]:
        import httpx

        try:
            yield
        except self._errors.MistralError as error:
            if error.status_code < 400:
                raise _senseless(error) from None
            raise error_of_status(error.status_code, _line(error.body or error.message)) from None
        except (httpx.HTTPError, self._errors.NoResponseError) as error:
            raise Unavailable(f"no answer: {_line(str(error)) or type(error).__name__}") from None
        except (ValueError, TypeError, IndexError, AttributeError) as error:
            raise _senseless(error) from None


class _Converse:
    """https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html"""

    def __init__(self, target: ConverseTarget) -> None:
        with _sdk("bedrock"):
            import boto3
            import botocore.exceptions
            from botocore.config import Config

        self._model = target.model
        self._exceptions = botocore.exceptions
        config = Config(
            retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
            read_timeout=_TIMEOUT_SECONDS,
            max_pool_connections=AT_ONCE,
        )
        with self._mapped():
            session = boto3.session.Session(region_name=target.region)
            self._client = session.client("bedrock-runtime", endpoint_url=target.endpoint_url, config=config)

    def answer(self, conversation: Messages, max_new_tokens: int) -> Generation:
        started = time.perf_counter()
        with self._mapped():
            reply = self._client.converse(**self._question(conversation, max_new_tokens))
            text = "".join(part.get("text", "") for part in reply["output"]["message"]["content"])
            used = reply["usage"]
        return Generation(text, used["inputTokens"], used["outputTokens"], time.perf_counter() - started)

    def stream(self, conversation: Messages, max_new_tokens: int) -> Iterator[str]:
        with self._mapped():
            for event in self._client.converse_stream(**self._question(conversation, max_new_tokens))["stream"]:
                text = event.get("contentBlockDelta", {}).get("delta", {}).get("text")
                if text:
                    yield text

    def _question(self, conversation: Messages, max_new_tokens: int) -> dict[str, Any]:
        system = [{"text": message["content"]} for message in conversation if message["role"] == "system"]
        turns = [_turn(message) for message in conversation if message["role"] != "system"]
        question: dict[str, Any] = {
            "modelId": self._model,
            "messages": turns,
            "inferenceConfig": {"maxTokens": max_new_tokens, "temperature": 0},
        }
        return {**question, "system": system} if system else question

    @contextlib.contextmanager
    def _mapped(self) -> Iterator[None]:
        try:
            yield
        except self._exceptions.ClientError as error:
            said = error.response.get("Error", {})
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
            raise error_of_status(status, _line(said.get("Message") or said.get("Code", ""))) from None
        except self._exceptions.NoCredentialsError:
            raise Unauthorized("no AWS credentials", hint="set AWS_ACCESS_KEY_ID, AWS_PROFILE or a role") from None
        except self._exceptions.BotoCoreError as error:
            raise Unavailable(_line(str(error))) from None
        except (KeyError, TypeError, AttributeError) as error:
            raise _senseless(error) from None


def _turn(message: Mapping[str, str]) -> dict[str, Any]:
    return {"role": message["role"], "content": [{"text": message["content"]}]}


def _key(target: HttpTarget) -> str:
    if target.key_variable is None:
        return "none"  # a server without keys; the SDKs want some text
    key = os.environ.get(target.key_variable)
    if not key:
        raise Unauthorized(f"no API key for {target.base_url}", hint=f"set {target.key_variable}")
    return key


@contextlib.contextmanager
def _sdk(extra: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise Unauthorized(f"models of {extra} need its SDK", hint=f"pip install 'gitune[{extra}]'") from error


def _line(text: str) -> str:
    return " ".join(text.split())[:300]


def _senseless(error: Exception) -> ProviderError:
    return Unavailable(f"an answer that is not the protocol's: {_line(str(error)) or type(error).__name__}")
