"""Where things are, and what the files of a project want."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gitune.errors import GituneError, InvalidInput, Problem, UserError
from gitune.providers import check_settings, open_provider
from gitune.providers.base import Provider, TrainingRequest
from gitune.spec import AgentSpec, Candidate, StackSpec, load_stack, read_agents
from gitune.yaml_source import YamlSource, parse_yaml

if TYPE_CHECKING:
    from gitune.dataset import Dataset

PROJECT_FILE = "Pulumi.yaml"


def find_root(start: Path | None = None) -> Path:
    """The nearest folder upwards that holds Pulumi.yaml; GITUNE_ROOT overrides. Raises UserError."""
    named = os.environ.get("GITUNE_ROOT")
    here = Path(named) if named else (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / PROJECT_FILE).is_file():
            return folder
    raise UserError(f"no {PROJECT_FILE} in {here} or above it", hint="run gitune inside a gitune repository")


@dataclass(frozen=True, slots=True)
class Project:
    """A repository and the stack that is being worked on."""

    root: Path
    stack: StackSpec

    @classmethod
    def open(cls, stack: str, root: Path | None = None) -> Project:
        """Raises UserError or InvalidInput."""
        root = root or find_root()
        spec, source = load_stack(root, stack)
        check_settings(spec, source)
        return cls(root, spec)

    @property
    def state_folder(self) -> Path:
        """Everything that is not committed lives below here."""
        return self.root / ".gitune"

    @property
    def routes_file(self) -> Path:
        return self.root / self.stack.routes

    def lock_file(self, agent: str) -> Path:
        return self.root / self.stack.locks / agent / "model.lock.yaml"

    def provider(self, name: str) -> Provider:
        return open_provider(name, self.root, self.stack)


def training_requests(spec: AgentSpec, project: Project, fingerprint: str) -> tuple[TrainingRequest, ...]:
    """The agent's candidates in order, defaults filled in. Raises UserError for an unknown provider."""
    return tuple(training_request(candidate, project, fingerprint) for candidate in _candidates(spec, project.stack))


@dataclass(frozen=True, slots=True)
class CheckedAgent:
    """An agent, and the dataset that was built to check it."""

    spec: AgentSpec
    dataset: Dataset


@dataclass(frozen=True, slots=True)
class DatasetFacts:
    """What the engine's state says of a dataset."""

    fingerprint: str
    examples: int
    """That are trained on."""

    @classmethod
    def of(cls, dataset: Dataset) -> DatasetFacts:
        return cls(dataset.fingerprint, len(dataset.train))


@dataclass(frozen=True, slots=True)
class CheckedAgents:
    """All agents by name, every file checked, and what is known of the datasets that were built for that."""

    specs: Mapping[str, AgentSpec]
    datasets: Mapping[str, DatasetFacts]


def check_project(
    project: Project, edited: Mapping[str, bytes] | None = None
) -> tuple[tuple[AgentSpec, ...], tuple[Problem, ...]]:
    """The agents that are right, and everything that is wrong with any file of any agent. Reads only.

    `edited` maps agents to an agent.yaml that is not written yet, checked in place of the file.
    """
    checked = _check_all(project, edited=edited)
    return checked.specs, checked.problems


def check_for_engine(project: Project) -> CheckedAgents:
    """All agents, for a command that runs the engine. Raises InvalidInput or UserError."""
    checked = _check_all(project)
    specs = _wanted(checked.specs, checked.problems, ())
    return CheckedAgents({spec.name: spec for spec in specs}, checked.facts)


def checked_agents(project: Project, names: Sequence[str] = ()) -> tuple[AgentSpec, ...]:
    """The agents, all files checked; only those named, if any are. Raises InvalidInput or UserError."""
    return _wanted(*check_project(project), names)


def checked_agent(project: Project, name: str) -> CheckedAgent:
    """One agent with its dataset, the files of all agents checked. Raises InvalidInput or UserError."""
    checked = _check_all(project, keep=name)
    (spec,) = _wanted(checked.specs, checked.problems, (name,))
    return CheckedAgent(spec, checked.kept[name])


@dataclass(frozen=True, slots=True)
class _Checked:
    specs: tuple[AgentSpec, ...]
    """The right ones."""
    problems: tuple[Problem, ...]
    facts: Mapping[str, DatasetFacts]
    kept: Mapping[str, Dataset]


def _check_all(project: Project, keep: str | None = None, edited: Mapping[str, bytes] | None = None) -> _Checked:
    """Only one dataset is kept at most: those of all agents may not fit into memory together."""
    edited = edited or {}
    specs, found = read_agents(project.root, edited)
    problems = list(found)
    good: list[AgentSpec] = []
    facts: dict[str, DatasetFacts] = {}
    kept: dict[str, Dataset] = {}
    for spec in specs:
        wrong, dataset = _check_agent(spec, project, edited.get(spec.name))
        problems += wrong
        if not wrong:
            good.append(spec)
        if dataset is not None:
            facts[spec.name] = DatasetFacts.of(dataset)
        if dataset is not None and spec.name == keep:
            kept[spec.name] = dataset
    return _Checked(tuple(good), tuple(problems), facts, kept)


def _wanted(specs: Sequence[AgentSpec], problems: Sequence[Problem], names: Sequence[str]) -> tuple[AgentSpec, ...]:
    if problems:
        raise InvalidInput(problems)
    unknown = sorted(set(names) - {spec.name for spec in specs})
    if unknown:
        known = ", ".join(spec.name for spec in specs)
        raise UserError(f"no agent '{unknown[0]}'", hint=f"known: {known}")
    return tuple(spec for spec in specs if not names or spec.name in names)


def _candidates(spec: AgentSpec, stack: StackSpec) -> Sequence[Candidate]:
    if stack.provider is None:
        return spec.training
    listed = [candidate for candidate in spec.training if candidate.provider == stack.provider]
    return listed[:1] or [Candidate(provider=stack.provider)]


def training_request(candidate: Candidate, project: Project, fingerprint: str) -> TrainingRequest:
    """One candidate, the provider's defaults filled in. Raises UserError for an unknown provider."""
    defaults = project.provider(candidate.provider).defaults
    return TrainingRequest(
        provider=candidate.provider,
        base_model=candidate.base_model or defaults.base_model,
        method=candidate.method,
        hyperparameters={**defaults.hyperparameters, **candidate.hyperparameters},
        fingerprint=fingerprint,
    )


def _check_agent(spec: AgentSpec, project: Project, edited: bytes | None) -> tuple[list[Problem], Dataset | None]:
    """What is wrong, and the dataset if its sources are right."""
    from gitune.benchmark.cases import check_cases  # imported here: the processes of the engine open projects only
    from gitune.dataset.build import assemble, finish

    assembled = assemble(spec, project.root)
    problems = [*assembled.problems, *check_cases(spec, project.root)]
    file = spec.file.relative_to(project.root).as_posix()
    source = parse_yaml(spec.file.read_bytes() if edited is None else edited, file)
    dataset = None if problems else finish(spec, assembled)
    fingerprint = dataset.fingerprint if dataset else ""
    for candidate in _candidates(spec, project.stack):
        place: tuple[Any, ...] = ("training",)
        if candidate in spec.training:
            place = ("training", spec.training.index(candidate))
        try:
            request = training_request(candidate, project, fingerprint)
        except GituneError as error:
            problems.append(source.problem((*place, "provider"), error.message, error.hint))
            continue
        for wrong in project.provider(candidate.provider).check(request):
            where = (*place, "hyperparameters", wrong.file)
            problems.append(source.problem(where, f"{candidate.provider}: {wrong.message}", wrong.hint))
    if dataset is not None and not problems:
        problems += _unsendable(spec, project.stack, dataset, source)
    return problems, dataset


def _unsendable(spec: AgentSpec, stack: StackSpec, dataset: Dataset, source: YamlSource) -> Iterator[Problem]:
    """What a candidate could not be sent: found before anything is, not by the provider.

    A provider of another package writes files of its own kind, so of these nothing is known.
    """
    from gitune.dataset.render import FORMATS
    from gitune.dataset.upload import unsendable

    forms = {FORMATS[c.provider].name: c.provider for c in _candidates(spec, stack) if c.provider in FORMATS}
    for form in forms.values():
        for problem in unsendable(dataset, form):
            yield problem if problem.line else source.problem(("dataset",), problem.message, problem.hint)
