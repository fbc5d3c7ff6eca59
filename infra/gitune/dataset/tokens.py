"""Tokens of an example as its base model counts them, or an estimate that says it is one."""

from __future__ import annotations

import importlib.util
import json
import math
import string
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from gitune.dataset.chat import Example, Message, as_dicts
from gitune.hashing import sha256

_BATCH = 1_000
_PLAIN = (  # as gitune's training script, for a base model without a chat template
    "{% for message in messages %}{{ message['role'] + ':\n' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{{ '\n\n' }}{% endfor %}"
)
MISTRAL_TOKENIZERS = {
    "open-mistral-7b": "v3",
    "mistral-small-2402": "v2",
    "mistral-small-2409": "v3-tekken",
    "mistral-small-latest": "v3-tekken",
    "codestral-2405": "v3",
    "codestral-latest": "v3",
    "open-mistral-nemo": "v3-tekken",
    "open-mistral-nemo-2407": "v3-tekken",
    "ministral-3b-latest": "v3-tekken",
    "ministral-8b-2410": "v3-tekken",
    "ministral-8b-latest": "v3-tekken",
    "mistral-large-2407": "v3",
    "mistral-large-2411": "v7",
    "mistral-large-latest": "v7",
}
"""Which of mistral-common's offline tokenizers a fine-tunable model has: its own table, and the model cards for the
names that it lacks. `latest` is what could be fine-tuned last, before the training API was retired."""
_DIGITS, _SIGNS = string.digits.encode(), f"{string.punctuation}\n".encode()
_NEEDED = {"v2": ["sentencepiece"], "v3": ["sentencepiece"], "v7": ["sentencepiece"], "v3-tekken": ["tiktoken"]}


class TokenCounter(Protocol):
    """Counts tokens, chat template included."""

    @property
    def name(self) -> str:
        """What counted, for people."""
        ...

    @property
    def identity(self) -> str:
        """What counted, for the cache: another identity may count differently."""
        ...

    @property
    def estimated(self) -> bool:
        """Counted by rule of thumb."""
        ...

    def count(self, examples: Sequence[Example]) -> list[int]: ...


def token_counter(base_model: str, folder: Path | None = None) -> TokenCounter:
    """The best counter at hand: the model's own tokenizer.json in `folder`, mistral-common's, else an estimate.

    Asks no network. `folder` is where a base model was unpacked or downloaded to.
    """
    if folder is not None and (folder / "tokenizer.json").is_file() and _installed("tokenizers", "jinja2"):
        return FolderTokens(base_model, folder)
    if base_model in MISTRAL_TOKENIZERS and _installed("mistral_common", *_NEEDED[MISTRAL_TOKENIZERS[base_model]]):
        return MistralTokens(base_model)
    return EstimatedTokens()


@dataclass(frozen=True, slots=True)
class EstimatedTokens:
    """A digit is a token, a sign seven tenths, four other UTF-8 bytes one (OpenAI's rule of thumb), a message four.

    Measured on Banking77, GSM8K and agents/support against the tokenizers of SmolLM2, Mistral 7B v0.3 and Mistral Nemo:
    between 1 % too few and 53 % too many; most on short messages, because models differ in the frame around them.
    """

    name: str = "estimated from digits, signs and bytes"
    identity: str = "estimate-1"
    estimated: bool = True

    def count(self, examples: Sequence[Example]) -> list[int]:
        return [sum(_estimate(_said(message)) for message in example.messages) for example in examples]


class FolderTokens:
    """`tokenizer.json` and the chat template beside it, as transformers would apply them."""

    estimated = False

    def __init__(self, base_model: str, folder: Path) -> None:
        from tokenizers import Tokenizer

        text = (folder / "tokenizer.json").read_text(encoding="utf-8")
        self._config = _config(folder)
        self._source = _template(folder, self._config)
        self._tokenizer = Tokenizer.from_str(text)
        self.name = base_model
        self.identity = sha256(["tokenizer.json", text, self._source or _PLAIN])

    def count(self, examples: Sequence[Example]) -> list[int]:
        template = _compile(self._source or _PLAIN)
        special = {key: _special(self._config.get(key)) for key in ("bos_token", "eos_token", "pad_token", "unk_token")}
        counts: list[int] = []
        for start in range(0, len(examples), _BATCH):
            texts = [
                template.render(
                    messages=as_dicts(example.messages),
                    tools=json.loads(example.tools) if example.tools else None,
                    add_generation_prompt=False,
                    **special,
                )
                for example in examples[start : start + _BATCH]
            ]
            # The template writes the special tokens itself, as in transformers' apply_chat_template.
            encoded = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
            counts += [len(encoding) for encoding in encoded]
        return counts


class MistralTokens:
    """The tokenizers that mistral-common carries."""

    estimated = False

    def __init__(self, base_model: str) -> None:
        from importlib.metadata import version

        from mistral_common.protocol.instruct.validator import ValidationMode
        from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

        kind = MISTRAL_TOKENIZERS[base_model]
        make = {"v2": MistralTokenizer.v2, "v3": MistralTokenizer.v3, "v7": MistralTokenizer.v7}
        loaded = MistralTokenizer.v3(is_tekken=True) if kind == "v3-tekken" else make[kind]()
        # Only in this mode may a conversation end with the assistant.
        self.file = loaded.instruct_tokenizer.tokenizer.file_path
        self._tokenizer = MistralTokenizer.from_file(self.file, mode=ValidationMode.finetuning)
        self.name = f"{base_model} (mistral-common {kind})"
        self.identity = f"mistral-common-{version('mistral-common')}-{kind}"

    def count(self, examples: Sequence[Example]) -> list[int]:
        from mistral_common.protocol.instruct.messages import FinetuningMessage
        from mistral_common.protocol.instruct.request import ChatCompletionRequest

        from gitune.dataset.render import CannotSay, mistral_row

        counts = []
        for example in examples:
            # A weight changes no token, and one that Mistral cannot honour is for render to refuse.
            messages = tuple(replace(message, weight=None) for message in example.messages)
            try:
                row = mistral_row(replace(example, messages=messages))
            except CannotSay:
                counts += EstimatedTokens().count([example])
                continue
            request = ChatCompletionRequest[FinetuningMessage].model_validate(row)
            counts.append(len(self._tokenizer.encode_chat_completion(request).tokens))
        return counts


def _installed(*modules: str) -> bool:
    return all(importlib.util.find_spec(module) is not None for module in modules)


def _said(message: Message) -> str:
    return message.content + "".join(call.name + call.arguments for call in message.tool_calls)


def _estimate(text: str) -> int:
    encoded = text.encode("utf-8")
    others = len(encoded.translate(None, _DIGITS))
    rest = len(encoded.translate(None, _DIGITS + _SIGNS))
    return 4 + math.ceil(len(encoded) - others + 0.7 * (others - rest) + rest / 4)


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "tokenizer_config.json"
    value = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return value if isinstance(value, dict) else {}


def _template(folder: Path, config: dict[str, Any]) -> str | None:
    """The chat template, in the newer file of its own or in the tokenizer's configuration."""
    path = folder / "chat_template.jinja"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    value = config.get("chat_template")
    if isinstance(value, list):  # several by name, such as tool_use
        value = next((item.get("template") for item in value if item.get("name") == "default"), None)
    return value if isinstance(value, str) else None


def _special(value: Any) -> str:
    """A special token is its text, or an object that holds it."""
    return str(value.get("content", "")) if isinstance(value, dict) else str(value or "")


def _compile(source: str) -> Any:
    """With the environment that transformers gives to templates (utils/chat_template_utils.py)."""
    from jinja2.exceptions import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = lambda value, **_: json.dumps(value, ensure_ascii=False)
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda _format: ""  # today's date would change the count from day to day
    return environment.from_string(source)
