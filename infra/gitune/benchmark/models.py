"""Which model a name on the command line means."""

from __future__ import annotations

from dataclasses import dataclass, replace

from gitune.errors import NotFound, UserError
from gitune.hints import did_you_mean
from gitune.history import read_history, split_version
from gitune.lock import read_lock
from gitune.lock_facts import LockFacts
from gitune.project import Project
from gitune.providers.base import ChatTarget, LocalTarget
from gitune.spec import load_agents, read_agents

_PREFIXED = ("local", "ray")
"""Providers whose own model IDs begin with their name."""


@dataclass(frozen=True, slots=True)
class NamedModel:
    """A model and how to reach it."""

    provider: str
    model_id: str
    target: ChatTarget
    label: str = ""
    """What it is called in a table; empty: its name."""
    gone: str = ""
    """Why it cannot be asked any more; what it answered before still counts."""

    @property
    def name(self) -> str:
        """provider:model, as the command line takes it."""
        return self.model_id if self.model_id.startswith(f"{self.provider}:") else f"{self.provider}:{self.model_id}"


@dataclass(frozen=True, slots=True)
class NamedLock:
    """A lock of any age."""

    agent: str
    lock: LockFacts

    @property
    def name(self) -> str:
        """As a table says it: support 1.2.0."""
        return f"{self.agent} {self.lock.version or '?'}"


def find_model(project: Project, text: str) -> NamedModel:
    """`provider:model`, or an agent (its name or alias): the model of its lock, or with @VERSION that of this version.

    Raises UserError or ProviderError.
    """
    agent = text.removesuffix("@locked")
    if agent == text and ":" in text:
        return _of_provider(project, *text.split(":", 1))
    if names_version(agent):
        return model_of(project, find_version(project, agent))
    locks = {}
    for spec in load_agents(project.root):
        locks[spec.alias] = locks[spec.name] = read_lock(project.lock_file(spec.name))
    if agent not in locks:
        hint = (
            did_you_mean(agent, locks) or f"a model is an agent's name ({', '.join(sorted(locks))}) or provider:model"
        )
        raise UserError(f"no agent '{agent}'", hint=hint)
    lock = locks[agent]
    if lock is None:
        hint = f"run: gitune up -s {project.stack.name}"
        raise UserError(f"{agent} has no model yet in the stack {project.stack.name}", hint=hint)
    found = _of_provider(project, lock.provider, lock.model_id)
    return replace(found, label=f"{lock.agent} {lock.version}")


def names_version(text: str) -> bool:
    """Whether this is AGENT@VERSION, which means a committed lock."""
    return "@" in text and ":" not in text and not text.endswith("@locked")


def find_version(project: Project, text: str) -> NamedLock:
    """The newest lock of AGENT@VERSION in git. Raises UserError."""
    history = read_history(project)
    agent, version = split_version(text)
    aliases = {spec.alias: spec.name for spec in read_agents(project.root)[0]}
    entry = history.version(agent if agent in history.agents else aliases.get(agent, agent), version or "")[0]
    return NamedLock(entry.agent, entry.lock)


def agent_of(project: Project, *texts: str) -> str:
    """The one agent that these models name. Raises UserError."""
    specs = {key: spec.name for spec in load_agents(project.root) for key in (spec.alias, spec.name)}
    named = {specs[name] for text in texts if ":" not in text and (name := text.partition("@")[0]) in specs}
    if len(named) != 1:
        hint = "say whose cases both are asked: --agent"
        raise UserError("the models name no agent" if not named else "the models name two agents", hint=hint)
    return named.pop()


def model_of(project: Project, named: NamedLock) -> NamedModel:
    """Raises UserError or ProviderError."""
    if named.lock.model is None:
        raise UserError(f"the lock of {named.name} names no model", hint=named.lock.problem or None)
    return replace(_of_provider(project, *named.lock.model), label=named.name)


def untuned(provider: str, target: ChatTarget) -> NamedModel:
    """The base model, asked where the tuned model is."""
    base = (
        replace(target, adapter=None) if isinstance(target, LocalTarget) else replace(target, model=target.base_model)
    )
    return NamedModel(provider, target.base_model, base, "base model")


def _of_provider(project: Project, provider: str, model_id: str) -> NamedModel:
    if not model_id:
        raise UserError(f"no model in '{provider}:'", hint="provider:model, such as mistral:ft:open-mistral-7b:...")
    opened = project.provider(provider)
    own = provider in _PREFIXED and not model_id.startswith(f"{provider}:")
    known = f"{provider}:{model_id}" if own else model_id
    try:
        return NamedModel(provider, known, opened.chat_target(known))
    except NotFound:
        if provider != "local" or ("/" not in model_id and model_id != opened.defaults.base_model):
            raise
        return NamedModel(provider, model_id, LocalTarget(model_id, None))
