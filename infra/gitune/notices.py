"""The known ends of what a project uses: its candidates, and the models in its locks."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime

from gitune.errors import UserError
from gitune.lock import read_lock
from gitune.project import Project, training_requests
from gitune.spec import AgentSpec, read_agents
from gitune.sunset import Notice, Use, sunset_notices, vendor_sunsets


def project_notices(project: Project, today: date | None = None) -> tuple[Notice, ...]:
    """What has ended or soon ends, of all agents that can be read. `today` left out is the day in UTC. Calls nobody."""
    specs, _ = read_agents(project.root)
    return notices_of(specs, project, today)


def notices_of(specs: Iterable[AgentSpec], project: Project, today: date | None = None) -> tuple[Notice, ...]:
    """The same of some agents."""
    return _notices_of([use for spec in specs for use in _uses(spec, project)], project, today)


def ended_base_model(use: Use, project: Project, today: date) -> Notice | None:
    """The end of the base model's answers, where it is past. Calls nobody."""
    found = _notices_of([use], project, today)
    return next((one for one in found if one.what == "serving" and one.base_model and one.days <= 0), None)


def _notices_of(uses: Sequence[Use], project: Project, today: date | None) -> tuple[Notice, ...]:
    settings = project.stack.providers
    sunsets = {
        name: vendor_sunsets(name, settings.get(name, {}), os.environ) for name in {use.provider for use in uses}
    }
    return sunset_notices(uses, sunsets, today or datetime.now(UTC).date())


def _uses(spec: AgentSpec, project: Project) -> Iterator[Use]:
    """A wrong candidate or lock is told by the checks, not here."""
    with contextlib.suppress(UserError):
        for place, request in enumerate(training_requests(spec, project, fingerprint="")):
            yield Use(spec.name, request.provider, request.base_model, place)
    with contextlib.suppress(UserError):
        lock = read_lock(project.lock_file(spec.name))
        if lock is not None:
            yield Use(spec.name, lock.provider, lock.base_model, None)
