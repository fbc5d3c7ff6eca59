"""A question or two behind an alias, after each change; what fails is taken back."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from gitune.benchmark.cases import Case, load_cases
from gitune.dataset.chat import as_dicts
from gitune.deploy import Route, pass_route, read_entries, return_route
from gitune.errors import GituneError, ProviderError, Unavailable, explain
from gitune.hosted import open_hosted
from gitune.hosting import target_of
from gitune.inference import Messages, loaded_model
from gitune.project import Project
from gitune.providers.base import LocalTarget
from gitune.spec import AgentSpec, SmokeTest

_MAX_NEW_TOKENS = 64

Ask = Callable[[Messages], str]
"""One question; raises GituneError."""


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
        reason = _failure(project, alias, entry.route, spec, asked)
        if reason is None:
            pass_route(project.routes_file, alias, entry.route)
        else:
            back = return_route(project.routes_file, alias, entry.route, reason)
            returned.append(Return(spec.name, alias, entry.route, back, reason))
    return tuple(returned)


def _failure(project: Project, alias: str, route: Route, spec: AgentSpec, asked: SmokeTest) -> str | None:
    """Why the model must not stay; None where it may."""
    try:
        ask = _through(asked.gateway, alias, route, asked.max_seconds) if asked.gateway else _directly(project, route)
        for case in _some(load_cases(spec, project.root), asked.questions):
            started = time.perf_counter()
            answer = ask([*as_dicts(case.messages)])
            seconds = time.perf_counter() - started
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
    return lambda messages: model.answer(messages, _MAX_NEW_TOKENS).text


def _on_this_machine(target: LocalTarget) -> Ask:
    model, lock = loaded_model(target.base_model)

    def ask(messages: Messages) -> str:
        with lock:
            model.use_adapter(target.adapter)
            return model.answer(messages, _MAX_NEW_TOKENS).text

    ask([{"role": "user", "content": "Hello"}])  # the first answer warms up
    return ask


def _through(gateway: str, alias: str, route: Route, max_seconds: float) -> Ask:
    """As a client asks. The gateway must answer with the new model: a canary is asked until it does."""
    import httpx

    token = os.environ.get("GITUNE_GATEWAY_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    wanted = f"{route.provider}/{route.model_id}"
    url = f"{gateway.rstrip('/')}/chat/completions"

    def ask(messages: Messages) -> str:
        body = {"model": alias, "messages": messages, "max_tokens": _MAX_NEW_TOKENS, "temperature": 0}
        for _ in range(_CANARY_TRIES):
            try:
                reply = httpx.post(url, json=body, headers=headers, timeout=max_seconds)
                if reply.status_code != 200:
                    raise Unavailable(f"the gateway answered {reply.status_code}: {reply.text[:200]}")
                if reply.headers.get("x-gitune-model") == wanted:
                    return str(reply.json()["choices"][0]["message"]["content"] or "")
            except (httpx.HTTPError, ValueError, KeyError, IndexError, TypeError) as error:
                raise Unavailable(f"the gateway did not answer: {type(error).__name__}") from None
        raise Unavailable(f"the gateway answers {alias} with another model than {wanted}")

    return ask


_CANARY_TRIES = 200


def _some(cases: Sequence[Case], count: int) -> Sequence[Case]:
    return cases[:: max(len(cases) // count, 1)][:count]
