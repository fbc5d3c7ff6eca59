"""Answers from weights on this machine, for the benchmark and for chat. Always greedy: same input, same answer."""

from __future__ import annotations

import contextlib
import functools
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gitune.errors import UserError
from gitune.training.sft import PLAIN_TEMPLATE, pick_dtype, set_environment

Messages = Sequence[Mapping[str, str]]
OnProgress = Callable[[int, int], None]
"""(answers so far, answers in all)"""


@dataclass(frozen=True, slots=True)
class Generation:
    """One answer."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    """With the end token, where the model ended by itself."""
    seconds: float | None = None
    """None in a batch, where no answer has a time of its own."""


class LocalModel:
    """A base model in memory, with or without an adapter.

    The adapter is merged into the weights: unmerged, its small products cost speed at every token. The weights that
    it changes are kept, so one load serves the base model and any number of its adapters, bit for bit.
    """

    def __init__(self, model: Any, tokenizer: Any, base_model: str) -> None:
        self._model, self._tokenizer, self._base_model = model, tokenizer, base_model
        self._base_tokenizer = tokenizer
        self._adapter: Path | None = None
        self._originals: dict[str, Any] = {}

    @classmethod
    def open(cls, base_model: str, adapter: Path | None = None) -> LocalModel:
        """Load `base_model`, a folder or a Hugging Face ID, and merge `adapter`. Seconds. Raises UserError."""
        set_environment(base_model)
        try:
            import torch
            import transformers
        except ImportError as error:
            raise UserError("a local model needs torch", hint="pip install 'gitune[local]'") from error
        transformers.utils.logging.disable_progress_bar()
        # it warns of its own attribute names: nothing that a user could mend
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"transformers\.")
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        try:
            tokenizer = _load_tokenizer(base_model)
            model = transformers.AutoModelForCausalLM.from_pretrained(base_model, dtype=pick_dtype(torch))
        except (OSError, ValueError) as error:
            reason = (str(error).splitlines() or [""])[0]
            raise UserError(f"cannot load the base model {base_model}: {reason}") from error
        opened = cls(model.to(device).eval(), tokenizer, base_model)
        opened.use_adapter(adapter)
        return opened

    def use_adapter(self, adapter: Path | None) -> None:
        """Answer as this adapter from now on, or as the base model. Tens of milliseconds."""
        if adapter == self._adapter:
            return
        weights = dict(self._model.named_parameters())
        for name, original in self._originals.items():
            weights[name].data.copy_(original)
        self._originals, self._adapter, self._tokenizer = {}, None, self._base_tokenizer
        if adapter is None:
            return
        if not (adapter / "adapter_config.json").is_file():
            raise UserError(f"no adapter in {adapter}")
        self._merge(adapter)
        self._adapter = adapter
        if (adapter / "tokenizer.json").is_file():
            self._tokenizer = _load_tokenizer(str(adapter))

    @contextlib.contextmanager
    def without_adapter(self) -> Iterator[None]:
        """Answer as the base model inside the block."""
        adapter = self._adapter
        self.use_adapter(None)
        try:
            yield
        finally:
            self.use_adapter(adapter)

    def generate(
        self,
        conversations: Sequence[Messages],
        *,
        max_new_tokens: int,
        batch_size: int = 32,
        on_progress: OnProgress | None = None,
    ) -> list[Generation]:
        """Answers in the order of the conversations. Batches are of like length, so that little is padded."""
        prompts = [self._prompt(conversation) for conversation in conversations]
        order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]), reverse=True)
        answers: dict[int, Generation] = {}
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            batch = [prompts[index] for index in chosen]
            for index, tokens in zip(chosen, self._complete(batch, max_new_tokens), strict=True):
                answers[index] = Generation(self._decode(tokens), len(prompts[index]), len(tokens))
            if on_progress:
                on_progress(len(answers), len(prompts))
        return [answers[index] for index in range(len(prompts))]

    def answer(self, conversation: Messages, max_new_tokens: int) -> Generation:
        """One answer and its time."""
        prompt = self._prompt(conversation)
        started = time.perf_counter()
        tokens = self._complete([prompt], max_new_tokens)[0]
        seconds = time.perf_counter() - started
        return Generation(self._decode(tokens), len(prompt), len(tokens), seconds)

    def stream(self, conversation: Messages, max_new_tokens: int) -> Iterator[str]:
        """The answer in pieces, as they come."""
        from transformers import TextIteratorStreamer

        streamer = TextIteratorStreamer(self._tokenizer, skip_prompt=True, skip_special_tokens=True)
        failures: list[BaseException] = []

        def work() -> None:
            try:
                self._complete([self._prompt(conversation)], max_new_tokens, streamer=streamer)
            except BaseException as error:  # noqa: BLE001 - carried over to the thread that reads
                failures.append(error)
                streamer.end()

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        yield from (piece for piece in streamer if piece)
        thread.join()
        if failures:
            raise failures[0]

    def _merge(self, adapter: Path) -> None:
        from peft import PeftModel
        from peft.tuners.tuners_utils import BaseTunerLayer

        wrapped = PeftModel.from_pretrained(self._model, str(adapter))
        tuned = {
            f"{name}.weight": layer.base_layer.weight.detach().clone()
            for name, layer in wrapped.get_base_model().named_modules()
            if isinstance(layer, BaseTunerLayer)
        }
        self._model = wrapped.merge_and_unload().eval()
        self._originals = tuned

    def _prompt(self, conversation: Messages) -> list[int]:
        text = self._tokenizer.apply_chat_template(list(conversation), tokenize=False, add_generation_prompt=True)
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _complete(self, prompts: Sequence[list[int]], max_new_tokens: int, streamer: Any = None) -> list[list[int]]:
        """Tokens of the answers, end token included."""
        import torch

        pad, ends = self._tokenizer.pad_token_id, self._ends()
        width = max(len(prompt) for prompt in prompts)
        rows = [[pad] * (width - len(prompt)) + prompt for prompt in prompts]  # left: all answers start side by side
        mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
        with torch.inference_mode():
            output = self._model.generate(
                input_ids=torch.tensor(rows, device=self._model.device),
                attention_mask=torch.tensor(mask, device=self._model.device),
                do_sample=False,
                temperature=None,
                top_p=None,
                top_k=None,
                max_new_tokens=max_new_tokens,
                pad_token_id=pad,
                eos_token_id=ends,
                streamer=streamer,
            )
        return [_until_end(row[width:].tolist(), set(ends)) for row in output]

    def _ends(self) -> list[int]:
        """Tokens that end an answer: the tokenizer's, and those that the model's authors name."""
        named = self._model.generation_config.eos_token_id
        more = named if isinstance(named, list) else [named]
        return sorted({token for token in (*more, self._tokenizer.eos_token_id) if token is not None})

    def _decode(self, tokens: Sequence[int]) -> str:
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True))


@functools.lru_cache(maxsize=1)
def loaded_model(base_model: str) -> tuple[LocalModel, threading.Lock]:
    """One base model in memory answers as itself and as every adapter on it, one at a time: hold the lock.

    `base_model`: a folder, a Hugging Face ID or gitune's own name. Raises UserError.
    """
    from gitune.training.base_model import resolve_base_model

    return LocalModel.open(resolve_base_model(base_model)), threading.Lock()


def _load_tokenizer(folder: str) -> Any:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    if tokenizer.chat_template is None:
        tokenizer.chat_template = PLAIN_TEMPLATE
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _until_end(tokens: Sequence[int], ends: set[int]) -> list[int]:
    for position, token in enumerate(tokens):
        if token in ends:
            return list(tokens[: position + 1])
    return list(tokens)
