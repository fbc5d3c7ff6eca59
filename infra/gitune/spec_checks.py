"""What types cannot say of agent.yaml: files that must exist, sums, and what agents say of each other."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from gitune.benchmark.safety_prompts import check_prompts
from gitune.dataset.formats import template_columns
from gitune.dataset.sources import KINDS
from gitune.dataset.urls import holds_credential, shown_url
from gitune.errors import Problem
from gitune.hints import did_you_mean, one_of
from gitune.safety_spec import SafetySpec
from gitune.spec import AgentSpec, Source
from gitune.yaml_source import YamlSource, parse_yaml

MIX_TOLERANCE = 1e-9
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://")
_Place: TypeAlias = tuple[str | int, ...]


def check_agent(spec: AgentSpec, source: YamlSource, root: Path) -> Iterable[Problem]:
    """What is wrong with one agent by itself."""
    for number, item in enumerate(spec.dataset.sources):
        place: _Place = ("dataset", "sources", number)
        yield from _check_source(item, place, spec, source, root)
    yield from _check_file(spec.benchmark.cases, ("benchmark", "cases"), spec, source, root)
    judge = spec.benchmark.scorer.judge
    if judge is not None and judge.prompt is not None:
        yield from _check_prompt(judge.prompt, ("benchmark", "scorer", "judge", "prompt"), spec, source, root)
    if spec.safety is not None:
        yield from _check_safety(spec.safety, spec, source, root)
    dataset = spec.dataset
    if dataset.mix and abs(sum(dataset.mix.values()) - 1) > MIX_TOLERANCE:
        total = f"{sum(dataset.mix.values()):.10g}"
        yield source.problem(("dataset", "mix"), f"'dataset.mix' sums to {total}, not to 1", "shares, such as 0.6")
    if dataset.stratify_by and dataset.examples is None and not dataset.mix:
        message = "'dataset.stratify_by' does nothing where all examples are taken"
        yield source.problem(("dataset", "stratify_by"), message, "say how many: dataset.examples")


def check_agents(specs: Sequence[AgentSpec], root: Path) -> Iterable[Problem]:
    """What is wrong between agents. An agent that could not be read is its own problem."""
    first: dict[str, AgentSpec] = {}
    for spec in specs:
        if spec.alias in first:
            message = f"alias '{spec.alias}' is already taken by agent '{first[spec.alias].name}'"
            yield _at(spec, root, ("alias",), message, "give each agent its own alias")
        first.setdefault(spec.alias, spec)
    names = sorted(spec.name for spec in specs)
    for spec in specs:
        for agent in spec.dataset.mix or ():
            if agent not in names and not (root / "agents" / agent / "agent.yaml").is_file():
                hint = did_you_mean(agent, names) or one_of(names)
                yield _at(spec, root, ("dataset", "mix", agent), f"no agent '{agent}' to mix", hint)


def _check_source(item: Source, place: _Place, spec: AgentSpec, source: YamlSource, root: Path) -> Iterable[Problem]:
    if item.format and item.columns:
        yield source.problem((*place, "format"), "either format or columns, not both", "columns make the messages")
    for role, value in (item.columns.model_dump(exclude_none=True) if item.columns else {}).items():
        try:
            template_columns(value)
        except ValueError as error:
            yield source.problem((*place, "columns", role), f"bad template: {error}")
    if item.is_remote:
        yield from _check_url(item.path, (*place, "path"), source)
        return
    if item.sha256:
        yield source.problem((*place, "sha256"), "only a remote source is pinned", "git keeps local files: remove it")
    yield from _check_file(item.path, (*place, "path"), spec, source, root, item)


def _check_url(url: str, place: _Place, source: YamlSource) -> Iterable[Problem]:
    if holds_credential(url):
        hint = "agent.yaml is committed: credentials come from the environment, or from fsspec's configuration"
        yield source.problem(place, f"a source's URL must not hold a password or a token: {shown_url(url)}", hint)
    elif "::" in url or not _SCHEME.match(url):
        yield source.problem(place, f"'{shown_url(url)}' is not an address", "such as s3://bucket/file.jsonl")
    elif url.startswith(("file://", "local://")):
        yield source.problem(place, f"'{url}' is a file of this machine", "write its path, inside the repository")


def _check_file(
    relative: str, place: _Place, spec: AgentSpec, source: YamlSource, root: Path, item: Source | None = None
) -> Iterable[Problem]:
    """The file, or every file that the glob of `item` names."""
    try:
        found = item.matches(spec.folder) if item else [spec.folder / relative]
        whole = root.resolve()
        insides = [path.resolve().is_relative_to(whole) for path in found]
        there = all(path.is_file() for path in found)
        built = any(path.resolve().is_relative_to(whole / ".gitune") for path in found)
    except (OSError, RuntimeError, ValueError, NotImplementedError):  # the last: a glob from the root
        found, insides, there, built = [Path()], [False], False, False
    if not all(insides):
        yield source.problem(place, f"'{relative}' is outside the repository", "keep data inside the repository")
    elif built:
        message = f"'{relative}' is what gitune made, not a source"
        yield source.problem(place, message, "dataset.mix takes another agent's examples")
    elif not found:
        yield source.problem(place, f"no file matches '{relative}'")
    elif not there:
        siblings = [
            path.relative_to(spec.folder).as_posix()
            for path in spec.folder.rglob("*")
            if set(path.suffixes) & KINDS.keys() and path.is_file()
        ]
        yield source.problem(place, f"no such file: '{relative}'", did_you_mean(relative, siblings))


def _check_safety(safety: SafetySpec, spec: AgentSpec, source: YamlSource, root: Path) -> Iterable[Problem]:
    for number, judge in enumerate(safety.judges):
        if judge.judge is not None and judge.judge.prompt is not None:
            place: _Place = ("safety", "judges", number, "judge", "prompt")
            yield from _check_prompt(judge.judge.prompt, place, spec, source, root)
    if safety.prompts is not None:
        wrong = list(_check_file(safety.prompts, ("safety", "prompts"), spec, source, root))
        yield from wrong
        if not wrong:
            yield from check_prompts(spec.folder / safety.prompts, root)


def _check_prompt(relative: str, place: _Place, spec: AgentSpec, source: YamlSource, root: Path) -> Iterable[Problem]:
    wrong = list(_check_file(relative, place, spec, source, root))
    yield from wrong
    if wrong:
        return
    try:
        text = (spec.folder / relative).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        yield source.problem(place, f"'{relative}' is not UTF-8 text", "save the file as UTF-8")
        return
    if "{answer}" not in text:
        yield source.problem(
            place, f"'{relative}' does not show the judge the answer", "write {answer} where it belongs"
        )


def _at(spec: AgentSpec, root: Path, place: tuple[Any, ...], message: str, hint: str | None) -> Problem:
    file = spec.file.relative_to(root).as_posix()
    return parse_yaml(spec.file.read_bytes(), file).problem(place, message, hint)
