"""What a pass is about to change, as the rules that refuse see it. Reads only.

The rules hold in stacks whose locks git holds. Where they live below .gitune, as those of the dev stack, nobody else
relies on what answers, and nothing is refused.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import UTC, date, datetime
from pathlib import PurePosixPath
from typing import Any

from gitune.backend import file_state
from gitune.deploy import read_routes
from gitune.errors import InvalidInput, UserError
from gitune.lock import Lock, read_lock
from gitune.lock_facts import LockFacts
from gitune.notices import ended_base_model
from gitune.passport import Passport, lock_record, read_passport
from gitune.project import Project
from gitune.reconcile import Target
from gitune.refusals import Deploying, Ruling, Serving, Submitting, find_refusals, rule_on
from gitune.spec import AgentSpec
from gitune.state import resource_outputs
from gitune.sunset import Use
from gitune.tag_lock import tag_mismatch, tagged_commits


def rules_hold(project: Project) -> bool:
    """Whether git holds the stack's locks."""
    return PurePosixPath(project.stack.locks).parts[:1] != (".gitune",)


def judge_pass(
    project: Project,
    specs: Iterable[AgentSpec],
    deployment: Mapping[str, Any],
    targets: Mapping[str, Target],
    forced: Collection[str] = (),
    today: date | None = None,
) -> tuple[Ruling, ...]:
    """What the rules say of a pass from what is recorded (`deployment`) towards a round's targets.

    Raises InvalidInput for a lock that cannot be read.
    """
    outputs = resource_outputs(deployment, "Deployment").items()
    serving = {
        agent: Serving(found["alias"], found["provider"], found["model_id"], found["version"])
        for agent, found in outputs
    }
    return _judge(project, {spec.name: spec for spec in specs}, serving, targets, forced, today)


def refuse(rulings: Iterable[Ruling]) -> None:
    """Raises UserError with all that stands."""
    standing = [ruling.refusal for ruling in rulings if ruling.stands]
    if standing:
        lines = [f"  {said.agent or 'all agents'}: {said.rule}: {said.reason} ({said.hint})" for said in standing]
        force = " ".join(f"--force {rule}" for rule in dict.fromkeys(said.rule for said in standing))
        hint = f"mend it, or say that it is meant: allow: in the files, or gitune up {force} (gitune's docs/rules.md)"
        raise UserError("\n".join(["refused: this pass submits and deploys nothing", *lines]), hint=hint)


def refuse_by_hand(project: Project, specs: Iterable[AgentSpec]) -> None:
    """The rules of deployments, where the engine was started by hand: only a committed `allow` overrides them.

    Raises UserError. A state that is not in a folder cannot be read from here; the routes say what serves then.
    """
    files = file_state(project)
    if files is not None:
        refuse(judge_pass(project, specs, files.deployment(), {}))
        return
    routes = read_routes(project.routes_file)
    serving = {
        route.agent: Serving(alias, route.provider, route.model_id, route.version) for alias, route in routes.items()
    }
    refuse(_judge(project, {spec.name: spec for spec in specs}, serving, {}, (), None))


def _judge(
    project: Project,
    specs: Mapping[str, AgentSpec],
    serving: Mapping[str, Serving],
    targets: Mapping[str, Target],
    forced: Collection[str],
    today: date | None,
) -> tuple[Ruling, ...]:
    if not rules_hold(project):
        return ()
    today = today or datetime.now(UTC).date()
    deployings = tuple(_deployings(project, specs, serving, today))
    submittings = tuple(_submittings(project, specs, targets, today))
    refusals = find_refusals(deployings, submittings, project.stack.fleet_share)
    allows = {name: spec.allow for name, spec in specs.items()}
    return tuple(rule_on(refusal, forced, allows, project.stack.allow, today) for refusal in refusals)


def _deployings(
    project: Project, specs: Mapping[str, AgentSpec], serving: Mapping[str, Serving], today: date
) -> Iterator[Deploying]:
    declared = "deployments" in project.stack.declare
    tags: Mapping[str, str] | None = None
    for agent in sorted(specs.keys() | serving.keys()):
        lock = read_lock(project.lock_file(agent)) if declared and agent in specs else None
        change = Deploying(agent, serving.get(agent), lock)
        if change.brought is None:
            yield change
            continue
        passport = _passport(project, change.brought)
        sources = _unlicensed(specs, agent) if passport is None else _unlicensed_of(passport)
        use = Use(agent, change.brought.provider, change.brought.base_model, None)
        tags = tagged_commits(project.root) if tags is None else tags
        tag = _tag(project, change.brought, tags)
        ended = ended_base_model(use, project, today)
        yield Deploying(agent, change.serving, lock, passport, tag, sources, ended)


def _passport(project: Project, lock: Lock) -> Passport | None:
    try:
        return read_passport(project.lock_file(lock.agent), lock)
    except InvalidInput:
        return None


def _tag(project: Project, lock: Lock, tags: Mapping[str, str]) -> str:
    file = project.lock_file(lock.agent).relative_to(project.root).as_posix()
    name, wrong = tag_mismatch(project.root, tags, file, lock.agent, LockFacts(lock_record(lock)))
    return f"{name}: {wrong}" if wrong else ""


def _submittings(
    project: Project, specs: Mapping[str, AgentSpec], targets: Mapping[str, Target], today: date
) -> Iterator[Submitting]:
    for agent, target in sorted(targets.items()):
        if target.submit is not None:
            state = target.state
            ended = ended_base_model(Use(agent, state.provider, state.base_model, target.submit), project, today)
            yield Submitting(agent, state.base_model, _unlicensed(specs, agent), ended)


def _unlicensed(specs: Mapping[str, AgentSpec], agent: str) -> tuple[str, ...]:
    """Of the agent's sources now, and of those that it mixes."""
    mixed = [specs[name] for name in (agent, *(specs[agent].dataset.mix or ())) if name in specs]
    sources = (
        (source.licence, source.path if source.is_remote else f"agents/{spec.name}/{source.path}")
        for spec in mixed
        for source in spec.dataset.sources
    )
    return tuple(dict.fromkeys(path for licence, path in sources if not licence))


def _unlicensed_of(passport: Passport) -> tuple[str, ...]:
    """Of what the model was trained on."""
    sources = passport.dataset.sources if passport.dataset else ()
    return tuple(source.file for source in sources if not source.licence)
