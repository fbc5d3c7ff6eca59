"""gitune as a model provider of inspect: `gitune/<agent>` and `gitune/<provider>:<model>`.

gitune's own benchmarks use it, and so may anybody's task, inside a gitune repository:
`inspect eval task.py --model gitune/support -M stack=production`.
"""

from __future__ import annotations

from typing import Any

from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    GenerateConfig,
    Model,
    ModelAPI,
    ModelCall,
    ModelOutput,
    ModelUsage,
    modelapi,
)

from gitune.benchmark.answers import Answers, BatchedAnswers, HostedAnswers, LocalVoice, SingleAnswers
from gitune.benchmark.inspect_messages import from_inspect
from gitune.benchmark.models import find_model
from gitune.hosted import AT_ONCE, open_hosted
from gitune.inference import loaded_model
from gitune.project import Project
from gitune.providers.base import ChatTarget, LocalTarget, address

_MAX_NEW_TOKENS = 1024
_LOCAL_AT_ONCE = 32


class GituneModel(ModelAPI):
    """Answers through a provider's ChatTarget. Always greedy; tools are not offered."""

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig = GenerateConfig(),  # noqa: B008 - frozen in practice, and inspect's own signature
        stack: str = "dev",
        answers: Answers | None = None,
        **_model_args: Any,
    ) -> None:
        super().__init__(model_name, base_url, api_key, [], config)
        self._answers = answers or open_answers(find_model(Project.open(stack), model_name).target, _LOCAL_AT_ONCE)

    def max_connections(self) -> int:
        return self._answers.at_once

    async def generate(
        self,
        input: list[ChatMessage],  # noqa: A002 - inspect's name
        tools: Any,
        tool_choice: Any,
        config: GenerateConfig,
    ) -> tuple[ModelOutput, ModelCall]:
        """One answer. Raises ProviderError, which inspect records with the sample."""
        conversation = from_inspect(input)
        longest = config.max_tokens or _MAX_NEW_TOKENS
        generation = await self._answers.ask(conversation, longest)
        output = ModelOutput.from_message(ChatMessageAssistant(content=generation.text, source="generate"))
        output.model = self.model_name
        output.usage = ModelUsage(
            input_tokens=generation.prompt_tokens,
            output_tokens=generation.completion_tokens,
            total_tokens=generation.prompt_tokens + generation.completion_tokens,
        )
        request = {"model": self.model_name, "messages": conversation, "max_tokens": longest}
        return output, ModelCall.create(request, {"content": generation.text}, time=generation.seconds or 0.0)


gitune_api = modelapi(name="gitune")(GituneModel)


def inspect_model(model_name: str, target: ChatTarget, answers: Answers) -> Model:
    """A model of inspect's that these answers speak for."""
    api = gitune_api(model_name, base_url=address(target), answers=answers)
    return Model(api, GenerateConfig(max_connections=answers.at_once))


def open_answers(target: ChatTarget, expected: int, *, alone: bool = False) -> Answers:
    """The model behind the target, loaded. `alone`: one question at a time, each with a time of its own.

    Raises UserError.
    """
    if not isinstance(target, LocalTarget):
        return HostedAnswers(open_hosted(target), 1 if alone else AT_ONCE)
    model, lock = loaded_model(target.base_model)
    voice = LocalVoice(model, target.adapter, lock)
    return SingleAnswers(voice) if alone else BatchedAnswers(voice, expected)
