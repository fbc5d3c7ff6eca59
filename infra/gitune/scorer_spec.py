"""`scorer:` of agent.yaml: a name, a name with its options, or a function of one's own as `module:function`."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema, PydanticCustomError

from gitune.hints import did_you_mean, one_of
from gitune.validation import Value

FUNCTION = r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$"


class Plain(Value):
    """A scorer without options."""


class NumberOptions(Value):
    """How far the answer's number may be from the target's: the larger of the two counts."""

    tolerance: Annotated[float, Field(ge=0, allow_inf_nan=False, description="In the number's own unit.")] = 0.0
    relative: Annotated[float, Field(ge=0, le=1, description="As a share of the target, such as 0.01.")] = 0.0


class JsonOptions(Value):
    """Which fields of the target's object count; a case may name its own."""

    fields: Annotated[
        tuple[str, ...] | None, Field(min_length=1, strict=False, description="Left out: all of the target.")
    ] = None


class JudgeOptions(Value):
    """A model that grades each answer."""

    model: Annotated[str, Field(min_length=1, description="provider:model, or the alias of an agent of the stack.")]
    prompt: Annotated[
        str | None,
        Field(min_length=1, description="A text file beside agent.yaml with {question}, {target} and {answer}."),
    ] = None
    max_new_tokens: Annotated[int, Field(ge=1, le=4096, description="Longest verdict, in tokens.")] = 256


class Scorer(Value):
    """Exactly one of these. Every score is 0 to 1."""

    exact: Annotated[Plain | None, Field(description="The answer is the target.")] = None
    normalised: Annotated[Plain | None, Field(description="The same, up to case, spaces and final punctuation.")] = None
    number: Annotated[NumberOptions | None, Field(description="The last number of the answer is the target's.")] = None
    json_fields: Annotated[JsonOptions | None, Field(description="Share of the JSON fields that are right.")] = None
    facts: Annotated[Plain | None, Field(description="All of the case's `facts` occur: texts, or /patterns/.")] = None
    f1: Annotated[Plain | None, Field(description="F1 of the words that answer and target share.")] = None
    rouge_l: Annotated[Plain | None, Field(description="F1 of their longest common subsequence of words.")] = None
    judge: Annotated[JudgeOptions | None, Field(description="A named model grades the answer.")] = None
    function: Annotated[
        str | None,
        Field(pattern=FUNCTION, description="module:function, called with (answer, case); returns 0 to 1."),
    ] = None

    @property
    def kind(self) -> str:
        """The name of the one that is set."""
        return next(iter(self.model_fields_set))

    def settings(self) -> dict[str, Any]:
        """What agent.yaml says, defaults filled in."""
        return self.model_dump(mode="json", exclude_none=True)

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if ":" in value:
            return {"function": value}
        if value not in _NAMES:
            hint = did_you_mean(value, cls.model_fields) or one_of([*_NAMES, "module:function"])
            if value in cls.model_fields:
                hint = f"it has options that must be given, such as {_EXAMPLES[value]}"
            raise PydanticCustomError("scorer", "no scorer of this name: {name}", {"name": repr(value), "hint": hint})
        return {value: {}}

    @model_validator(mode="after")
    def _one(self) -> Scorer:
        if len(self.model_fields_set) != 1 or getattr(self, self.kind) is None:
            raise PydanticCustomError("scorer", "name exactly one scorer", {"hint": one_of(type(self).model_fields)})
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        whole = handler.resolve_ref_schema(handler(core_schema))
        whole |= {"minProperties": 1, "maxProperties": 1}
        return {"anyOf": [{"enum": list(_NAMES)}, {"type": "string", "pattern": FUNCTION}, dict(whole)]}


_EXAMPLES = {"judge": "{judge: {model: 'mistral:mistral-large-latest'}}", "function": "my_scorers:is_polite"}
_NAMES = tuple(name for name in Scorer.model_fields if name not in _EXAMPLES)
PLACEHOLDERS = re.compile(r"\{(question|target|answer)\}")
