"""The agent's scorer, ready to grade: built in, the user's function, or a judge."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import math
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gitune.benchmark.cases import Case
from gitune.benchmark.judge import PROMPT, ask_judge, read_prompt, read_verdict
from gitune.benchmark.models import NamedModel, find_model
from gitune.benchmark.scorers import grader
from gitune.errors import UserError
from gitune.project import Project
from gitune.scorer_spec import JudgeOptions
from gitune.spec import AgentSpec

AskJudge = Callable[[str, int], Awaitable[str]]
"""(prompt, longest verdict in tokens) → the verdict's text"""


@dataclass(frozen=True, slots=True)
class Graded:
    """What an answer is worth, 0 to 1, and the judge's own words."""

    value: float
    verdict: str = ""


@dataclass(frozen=True, slots=True)
class Grading:
    """How answers are graded. `settings` holds everything that decides a grade."""

    kind: str
    settings: dict[str, Any]
    grade: Callable[[str, Case, AskJudge], Awaitable[Graded]]
    judge: NamedModel | None = None


def open_grading(spec: AgentSpec, project: Project) -> Grading:
    """Raises UserError for a function that cannot be imported, and ProviderError for a judge who is not there."""
    scorer = spec.benchmark.scorer
    if scorer.judge is not None:
        return by_model(scorer.judge, spec, project)
    if scorer.function is not None:
        return by_function(scorer.function, project.root)
    plain = grader(scorer)
    assert plain is not None

    async def grade(answer: str, case: Case, _: AskJudge) -> Graded:
        return Graded(plain(answer, case))

    return Grading(scorer.kind, scorer.settings(), grade)


def by_model(options: JudgeOptions, spec: AgentSpec, project: Project, default: Path = PROMPT) -> Grading:
    """A named model with the agent's own prompt, or else `default`. Raises UserError or ProviderError."""
    judge, prompt = find_model(project, options.model), read_prompt(options, spec.folder, default)

    async def grade(answer: str, case: Case, ask: AskJudge) -> Graded:
        verdict = await ask(ask_judge(prompt, answer, case), options.max_new_tokens)
        return Graded(read_verdict(verdict), verdict)

    settings = {"judge": judge.name, "prompt": _digest(prompt.encode()), "max_new_tokens": options.max_new_tokens}
    return Grading("judge", settings, grade, judge)


def by_function(name: str, root: Path) -> Grading:
    """A function of a module of the repository, or of an installed package. Raises UserError."""
    function = _imported(name, root)

    async def grade(answer: str, case: Case, _: AskJudge) -> Graded:
        try:
            value = float(function(answer, case))
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise UserError(f"scorer {name} failed on case {case.case_id}: {reason}") from error
        if not 0 <= value <= 1 or math.isnan(value):
            raise UserError(f"scorer {name} gave {value} for case {case.case_id}", hint="a score is 0 to 1")
        return Graded(value)

    source = getattr(sys.modules[function.__module__], "__file__", None)
    code = _digest(Path(source).read_bytes()) if source else ""
    return Grading("function", {"function": name, "code": code}, grade)


def _imported(name: str, root: Path) -> Callable[[str, Case], Any]:
    module, attribute = name.split(":")
    sys.path.insert(0, str(root))
    try:
        importlib.invalidate_caches()
        found = getattr(importlib.import_module(module), attribute)
    except Exception as error:
        hint = f"looked for {module}.py in the repository and among the installed packages"
        raise UserError(f"scorer {name} cannot be imported: {type(error).__name__}: {error}", hint=hint) from error
    finally:
        sys.path.remove(str(root))
    if not callable(found):
        raise UserError(f"scorer {name} is not a function")
    return found  # type: ignore[no-any-return]


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
