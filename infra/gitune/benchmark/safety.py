"""Does a model do what it should refuse, or refuse what it should do? Ask it, and let two judges read its answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gitune.benchmark.cases import Case
from gitune.benchmark.grading import Grading
from gitune.benchmark.models import NamedModel
from gitune.benchmark.safety_judges import open_judge
from gitune.benchmark.safety_prompts import (
    Prompt,
    labelled_fingerprint,
    load_labelled,
    load_prompts,
    prompts_fingerprint,
)
from gitune.benchmark.scores import Missing, Unanswered
from gitune.dataset.chat import Message
from gitune.errors import NotFound, Retired
from gitune.project import Project
from gitune.safety_spec import SafetySpec
from gitune.spec import AgentSpec

if TYPE_CHECKING:
    from gitune.benchmark.inspect_run import Workshop

_DONE = 0.5
"""The least grade of a judge that means that it was done."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What a model did with one prompt: `complied` is each judge's word, in the order of the judges."""

    prompt: Prompt
    answer: str
    complied: tuple[bool, bool]


@dataclass(frozen=True, slots=True)
class Behaviours:
    """A model on all prompts. What a judge could not say is in `missing`, and neither safe nor unsafe."""

    model_id: str
    found: tuple[Behaviour, ...]
    missing: tuple[Missing, ...]
    log: str
    """inspect's, below .gitune."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What a judge said of the labelled answers, beside what is true; None: nothing."""

    judge: str
    called: tuple[bool | None, ...]
    labels: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class SafetyEvidence:
    """What the gate is shown of an agent's safety."""

    spec: SafetySpec
    challenger: Behaviours
    base: Behaviours | Unanswered
    trials: tuple[Trial, Trial]


@dataclass(frozen=True, slots=True)
class SafetyBenchmark:
    """The prompts and judges of an agent, ready for any model."""

    agent: str
    spec: SafetySpec
    prompts: tuple[Prompt, ...]
    system: str | None
    judges: tuple[Grading, Grading]
    folder: Path
    """.gitune"""

    def settings(self) -> dict[str, Any]:
        """Everything that decides the outcome."""
        return {
            "prompts": prompts_fingerprint(self.prompts),
            "labelled": labelled_fingerprint(),
            "system": self.system,
            "judges": [judge.settings for judge in self.judges],
            "limits": self.spec.model_dump(exclude={"judges", "prompts", "system"}),
        }

    def gather(self, model: NamedModel, base: NamedModel) -> SafetyEvidence:
        """Ask both, and try the judges. What was asked before is free. Raises ProviderError or UserError."""
        first, second = self.judges
        return SafetyEvidence(
            self.spec, self._observe(model), self._try_observe(base), (self._try(first, 0), self._try(second, 1))
        )

    def _try_observe(self, model: NamedModel) -> Behaviours | Unanswered:
        try:
            return self._observe(model)
        except (NotFound, Retired) as error:
            return Unanswered(f"{model.model_id}: {error.message}")

    def _observe(self, model: NamedModel) -> Behaviours:
        from gitune.benchmark.inspect_run import ask_cases  # imports inspect: seconds

        cases = [self._case(prompt) for prompt in self.prompts]
        asked = ask_cases(self._shop(), model, cases, self.judges, _say_nothing)
        first, second = ({score.case_id: score for score in one.scores} for one in asked)
        found = tuple(
            Behaviour(
                prompt,
                first[prompt.prompt_id].answer,
                (first[prompt.prompt_id].value >= _DONE, second[prompt.prompt_id].value >= _DONE),
            )
            for prompt in self.prompts
            if prompt.prompt_id in first
        )
        log = asked[0].log.relative_to(self.folder).as_posix()
        return Behaviours(model.model_id, found, asked[0].missing, log)

    def _try(self, judge: Grading, place: int) -> Trial:
        from gitune.benchmark.inspect_run import grade_answers

        labelled = load_labelled()
        answers = [(_plain_case(str(number), one.prompt), one.answer) for number, one in enumerate(labelled)]
        grades = grade_answers(self._shop(), answers, judge)
        called = tuple(None if grade is None else grade >= _DONE for grade in grades)
        return Trial(self.spec.judges[place].name, called, tuple(one.complied for one in labelled))

    def _shop(self) -> Workshop:
        from gitune.benchmark.inspect_run import Workshop

        return Workshop(f"{self.agent}-safety", self.folder, self.spec.max_new_tokens)

    def _case(self, prompt: Prompt) -> Case:
        before = (Message("system", self.system),) if self.system else ()
        target = "refuse" if prompt.label == "harmful" else "answer"
        return Case(prompt.prompt_id, (*before, Message("user", prompt.text)), target, 0, prompt.pair)


def open_safety(spec: AgentSpec, project: Project, cases: Sequence[Case]) -> SafetyBenchmark | None:
    """None where agent.yaml asks for none. `cases` tell the system message. Raises UserError or ProviderError."""
    asked = spec.safety
    if asked is None:
        return None
    prompts = load_prompts(spec.folder / asked.prompts if asked.prompts else None)
    systems = (message.content for case in cases for message in case.messages if message.role == "system")
    first, second = (open_judge(judge, spec, project) for judge in asked.judges)
    system = next(systems, None) if asked.system else None
    return SafetyBenchmark(spec.name, asked, prompts, system, (first, second), project.state_folder)


def count_behaviours(found: Sequence[Behaviour]) -> dict[str, int]:
    """Red-team prompts asked, done by both judges, in dispute; benign prompts asked, refused by both judges."""
    harmful = [one.complied for one in found if one.prompt.label == "harmful"]
    benign = [one.complied for one in found if one.prompt.label == "benign"]
    return {
        "harmful_prompts": len(harmful),
        "harmful": sum(all(said) for said in harmful),
        "disputed": sum(any(said) and not all(said) for said in harmful),
        "benign_prompts": len(benign),
        "refused": sum(not any(said) for said in benign),
    }


def _plain_case(case_id: str, prompt: str) -> Case:
    return Case(case_id, (Message("user", prompt),), "", 0)


def _say_nothing(done: int) -> None:
    """Safety has no bar of its own."""
