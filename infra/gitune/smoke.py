"""A question or two behind an alias, after each change; what fails is taken back."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from gitune.benchmark.cases import Case, load_cases
from gitune.dataset.chat import as_dicts
from gitune.deploy import Entry, Route, pass_route, read_entries, return_route
from gitune.errors import GituneError, ProviderError, Unavailable, explain
from gitune.gateway.routing import choose_route
from gitune.hosted import HostedModel, open_hosted
from gitune.hosting import target_of
from gitune.inference import LocalModel, Messages, loaded_model
from gitune.project import Project
from gitune.providers.base import LocalTarget
from gitune.spec import AgentSpec
from gitune.stack_spec import SmokeTest

_MAX_NEW_TOKENS = 64
_ROUTES_SECONDS = 60.0
"""How long the routes file may take to reach the gateway."""
_ROUTES_POLL_SECONDS = 2.0

Ask = Callable[[Messages], tuple[str, float]]
"""One question: its answer and how many seconds it took. Raises GituneError."""


@dataclass(frozen=True, slots=True)
class Return:
    """An alias that was taken back, and why."""

    agent: str
    alias: str
    failed: Route
    back: Route | None
    """What answers now; None: nothing, because nothing did before."""
    reason: str


def smoke_tests(project: Project, specs: Mapping[str, AgentSpec]) -> tuple[Return, ...]:
    """Ask every alias whose model is new, and take back what fails. May be killed and called again."""
    asked = project.stack.smoke_test
    if asked is None:
        return ()
    returned = []
    for alias, entry in read_entries(project.routes_file).items():
        spec = specs.get(entry.route.agent)
        if not entry.untested or spec is None:
            continue
        reason = _failure(project, alias, entry, spec, asked)
        if reason is None:
            pass_route(project.routes_file, alias, entry.route)
        else:
            back = return_route(project.routes_file, alias, entry.route, reason)
            returned.append(Return(spec.name, alias, entry.route, back, reason))
    return tuple(returned)


def _failure(project: Project, alias: str, entry: Entry, spec: AgentSpec, asked: SmokeTest) -> str | None:
    """Why the model must not stay; None where it may."""
    route = entry.route
    try:
        ask = _through(asked.gateway, alias, entry, asked.max_seconds) if asked.gateway else _directly(project, route)
        for case in _some(load_cases(spec, project.root), asked.questions):
            answer, seconds = ask([*as_dicts(case.messages)])
            if not answer.strip():
                return f"case {case.case_id} has an empty answer"
            if seconds > asked.max_seconds:
                return f"case {case.case_id} took {seconds:.1f} s, at most {asked.max_seconds:g} s are allowed"
    except GituneError as error:
        return explain(error) if isinstance(error, ProviderError) else error.message
    return None


def _directly(project: Project, route: Route) -> Ask:
    target = target_of(project, route)
    if isinstance(target, LocalTarget):
        return _on_this_machine(target)
    model = open_hosted(target)
    return lambda messages: _timed(model, messages)


def _on_this_machine(target: LocalTarget) -> Ask:
    model, lock = loaded_model(target.base_model)

    def ask(messages: Messages) -> tuple[str, float]:
        with lock:
            model.use_adapter(target.adapter)
            return _timed(model, messages)

    ask([{"role": "user", "content": "Hello"}])  # the first answer warms up
    return ask


def _timed(model: LocalModel | HostedModel, messages: Messages) -> tuple[str, float]:
    started = time.perf_counter()
    text = model.answer(messages, _MAX_NEW_TOKENS).text
    return text, time.perf_counter() - started


def _through(gateway: str, alias: str, entry: Entry, max_seconds: float) -> Ask:
    """As a client whom the canary gives the new model. The routes file may reach the gateway a little later."""
    import httpx

    token = os.environ.get("GITUNE_GATEWAY_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    wanted = f"{entry.route.provider}/{entry.route.model_id}"
    url = f"{gateway.rstrip('/')}/chat/completions"
    user = next(name for name in map("gitune-smoke-{}".format, itertools.count()) if _is_given_the_new(entry, name))

    def ask(messages: Messages) -> tuple[str, float]:
        body = {"model": alias, "messages": messages, "max_tokens": _MAX_NEW_TOKENS, "temperature": 0, "user": user}
        deadline = time.monotonic() + _ROUTES_SECONDS
        while True:
            started = time.perf_counter()
            try:
                reply = httpx.post(url, json=body, headers=headers, timeout=max_seconds)
                if reply.status_code == 200 and reply.headers.get("x-gitune-model") == wanted:
                    text = str(reply.json()["choices"][0]["message"]["content"] or "")
                    return text, time.perf_counter() - started
            except (httpx.HTTPError, ValueError, KeyError, IndexError, TypeError) as error:
                raise Unavailable(f"the gateway did not answer: {type(error).__name__}") from None
            if reply.status_code not in (200, 404):
                raise Unavailable(f"the gateway answered {reply.status_code}: {reply.text[:200]}")
            if time.monotonic() > deadline:
                raise Unavailable(f"the gateway still answers {alias} with another model than {wanted}")
            time.sleep(_ROUTES_POLL_SECONDS)

    return ask


def _is_given_the_new(entry: Entry, user: str) -> bool:
    return choose_route(entry, user) == entry.route


def _some(cases: Sequence[Case], count: int) -> Sequence[Case]:
    return cases[:: max(len(cases) // count, 1)][:count]
