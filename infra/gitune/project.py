"""Where things are, and what the files of a project want."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gitune.errors import GituneError, InvalidInput, Problem, UserError
from gitune.hints import did_you_mean, one_of
from gitune.providers import check_settings, open_provider, provider_settings
from gitune.providers.base import Provider, TrainingRequest
from gitune.providers.settings import ProviderSettings
from gitune.root import find_root
from gitune.spec import AgentSpec, Candidate, read_agents
from gitune.stack_spec import StackSpec, load_stack
from gitune.yaml_source import YamlSource, parse_yaml

if TYPE_CHECKING:
    from gitune.dataset import Dataset


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

    def settings(self, name: str) -> ProviderSettings:
        """The provider's block of the stack. Raises UserError."""
        return provider_settings(name, self.stack)


def training_requests(spec: AgentSpec, project: Project, fingerprint: str) -> tuple[TrainingRequest, ...]:
    """The agent's candidates in order, defaults filled in. Raises UserError for an unknown provider."""
    return tuple(training_request(candidate, project, fingerprint) for candidate in candidates_of(spec, project.stack))


@dataclass(frozen=True, slots=True)
class CheckedAgent:
    """An agent, and the dataset that was built to check it."""

    spec: AgentSpec
    dataset: Dataset


def check_project(
    project: Project, edited: Mapping[str, bytes] | None = None
) -> tuple[tuple[AgentSpec, ...], tuple[Problem, ...]]:
    """The agents that are right, and everything that is wrong with any file of any agent. Reads only.

    `edited` maps agents to an agent.yaml that is not written yet, checked in place of the file.
    """
    problems: list[Problem] = []
    specs = tuple(agent.spec for agent in _good_agents(project, problems, edited or {}))
    return specs, tuple(problems)


def checked_agents(project: Project, names: Sequence[str] = ()) -> tuple[AgentSpec, ...]:
    """The agents, all files checked; only those named, if any are. Raises InvalidInput or UserError."""
    return _wanted(*check_project(project), names)


def checked_agent(project: Project, name: str) -> CheckedAgent:
    """One agent with its dataset, the files of all agents checked. Raises InvalidInput or UserError."""
    problems: list[Problem] = []
    kept: dict[str, CheckedAgent] = {}
    specs: list[AgentSpec] = []
    for agent in _good_agents(project, problems, {}):
        specs.append(agent.spec)
        if agent.spec.name == name:
            kept[name] = agent
    _wanted(specs, problems, (name,))
    return kept[name]


def each_checked_agent(project: Project) -> Iterator[CheckedAgent]:
    """One agent after the other, so that their datasets need not fit into memory together.

    Raises InvalidInput at the end if anything is wrong with any file: nothing may be done before that.
    """
    problems: list[Problem] = []
    yield from _good_agents(project, problems, {})
    if problems:
        raise InvalidInput(problems)


def _good_agents(project: Project, problems: list[Problem], edited: Mapping[str, bytes]) -> Iterator[CheckedAgent]:
    """Adds to `problems` what is wrong with the others."""
    specs, found = read_agents(project.root, edited)
    problems += found
    for spec in specs:
        wrong, dataset = check_agent_files(spec, project, edited.get(spec.name))
        problems += wrong
        if dataset is not None and not wrong:
            yield CheckedAgent(spec, dataset)


def _wanted(specs: Sequence[AgentSpec], problems: Sequence[Problem], names: Sequence[str]) -> tuple[AgentSpec, ...]:
    if problems:
        raise InvalidInput(problems)
    unknown = sorted(set(names) - {spec.name for spec in specs})
    if unknown:
        known = [spec.name for spec in specs]
        raise UserError(f"no agent '{unknown[0]}'", hint=did_you_mean(unknown[0], known) or one_of(known))
    return tuple(spec for spec in specs if not names or spec.name in names)


def candidates_of(spec: AgentSpec, stack: StackSpec) -> Sequence[Candidate]:
    """In the order in which they are tried in this stack."""
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


def check_agent_files(
    spec: AgentSpec, project: Project, edited: bytes | None = None
) -> tuple[list[Problem], Dataset | None]:
    """What is wrong with one agent that could be read, and the dataset if its sources are right.

    `edited` is an agent.yaml that is not written yet. Downloads remote sources; starts nothing.
    """
    from gitune.benchmark.cases import check_cases  # imported here: the engine's own processes only open projects
    from gitune.dataset.build import assemble, finish

    assembled = assemble(spec, project.root)
    problems = [*assembled.problems, *check_cases(spec, project.root)]
    file = spec.file.relative_to(project.root).as_posix()
    source = parse_yaml(spec.file.read_bytes() if edited is None else edited, file)
    dataset = None if problems else finish(spec, assembled)
    fingerprint = dataset.fingerprint if dataset else ""
    for candidate in candidates_of(spec, project.stack):
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

    forms = {FORMATS[c.provider].name: c.provider for c in candidates_of(spec, stack) if c.provider in FORMATS}
    for form in forms.values():
        for problem in unsendable(dataset, form):
            yield problem if problem.line else source.problem(("dataset",), problem.message, problem.hint)
