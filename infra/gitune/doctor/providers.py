"""The providers that the stack's agents list: packages, credentials, and whether each credential is accepted."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from gitune.dataset.store import Store
from gitune.doctor.finding import OFFLINE, Finding, Setting
from gitune.errors import GituneError, NotFound, Rejected, Retired, Unauthorized, UserError
from gitune.project import Project, candidates_of
from gitune.providers.base import ListsAllJobs
from gitune.providers.needs import NEEDS, Needs, unready
from gitune.spec import read_agents
from gitune.store_url import FILE_SCHEMES

_NOBODY = "gitune-doctor"
"""No model has this name, so asking for it reads nothing but whether one may ask."""


@dataclass(frozen=True, slots=True)
class Account:
    """One provider, as this machine would use it."""

    provider: str
    agents: int
    """That list it."""
    variables: Sequence[str]
    """Names of the environment variables that hold a credential here."""
    unready: str
    """What is missing for certain, in words."""
    asked: bool
    refusal: GituneError | None = None
    """What it answered, where it was asked and did not like it."""


def check_providers(setting: Setting) -> Iterator[Finding]:
    """One finding for each provider that an agent of the stack lists."""
    project = setting.project
    listed = _listed(project)
    with ThreadPoolExecutor() as pool:  # each may take its time-out
        accounts = pool.map(lambda name: _account(project, name, listed[name], setting.online), sorted(listed))
        for account in accounts:
            yield judge_account(account, alone=len(listed) == 1)


def judge_account(account: Account, *, alone: bool) -> Finding:
    """`alone`: there is no other provider to fail over to."""
    check, agents = f"provider {account.provider}", f"listed by {account.agents} agent(s)"
    key = f"{' and '.join(account.variables)} set" if account.variables else "no variable set"
    refusal = account.refusal
    if account.unready:
        return Finding(check, "problem" if alone else "warning", f"not ready, {agents}", account.unready)
    if not account.asked:
        return Finding(check, "not checked", f"{key}; {OFFLINE}")
    if refusal is None:
        where = "ready" if account.provider == "local" else f"{key}; accepted by a list of its jobs"
        return Finding(check, "ok", f"{where}, {agents}")
    if isinstance(refusal, Unauthorized):
        return Finding(
            check, "problem", f"{key}; refused: {refusal.message}", refusal.hint or "set a key that is valid"
        )
    if isinstance(refusal, Retired):
        hint = refusal.hint or "list another candidate in training:"
        return Finding(check, "warning", f"{key}; trains no more: {refusal.message}", hint)
    if isinstance(refusal, UserError):
        return Finding(check, "problem", refusal.message, refusal.hint or "")
    hint = refusal.hint or "check the network and the provider's status page, then run gitune doctor again"
    return Finding(check, "not checked", f"{key}; no answer: {refusal.message}", hint)


def check_store(setting: Setting) -> Iterator[Finding]:
    """Whether datasets can be looked up where they are published."""
    store = Store.of(setting.project)
    scheme = store.url.partition("://")[0] if "://" in store.url else ""
    if scheme and scheme not in FILE_SCHEMES and not setting.online:
        yield Finding("store", "not checked", f"{store.url}: {OFFLINE}")
        return
    try:
        store.holds("0" * 64)
    except UserError as error:
        yield Finding("store", "problem", error.message, error.hint or "")
    else:
        yield Finding("store", "ok", f"{store.url} answers")


def check_base_model(setting: Setting) -> Iterator[Finding]:
    """The default base model, where an agent trains on this machine."""
    if "local" not in _listed(setting.project):
        return
    from gitune.training.base_model import DEFAULT_BASE_MODEL, find_base_model

    try:
        find_base_model()
    except UserError as error:
        yield Finding("base model", "warning", error.message, error.hint or "")
    else:
        yield Finding("base model", "ok", f"{DEFAULT_BASE_MODEL} is here, every byte as it must be")


def credential_variables(needs: Needs | None, named: str | None, environment: Mapping[str, str]) -> tuple[str, ...]:
    """Of a provider's variables those that are set; never their values."""
    wanted: Iterable[str] = (named,) if named else (needs.credentials if needs else ())
    return tuple(name for name in wanted if environment.get(name))


def _listed(project: Project) -> dict[str, int]:
    """Providers to how many agents list them."""
    specs, _ = read_agents(project.root, {})
    found: dict[str, int] = {}
    for spec in specs:
        for name in dict.fromkeys(candidate.provider for candidate in candidates_of(spec, project.stack)):
            found[name] = found.get(name, 0) + 1
    return found


def _account(project: Project, name: str, agents: int, online: bool) -> Account:
    try:
        settings = project.settings(name)
        variables = credential_variables(NEEDS.get(name), getattr(settings, "key_variable", None), os.environ)
        missing = unready(name, settings)
    except GituneError as error:
        return Account(name, agents, (), "", True, error)
    if missing or not (online or name == "local"):
        return Account(name, agents, variables, missing, False)
    try:
        _ask(project, name)
    except GituneError as error:
        return Account(name, agents, variables, "", True, error)
    return Account(name, agents, variables, "", True)


def _ask(project: Project, name: str) -> None:
    """One read. Raises GituneError."""
    provider = project.provider(name)
    if isinstance(provider, ListsAllJobs):
        provider.all_jobs()
        return
    try:
        provider.get_model(_NOBODY)
    except (NotFound, Rejected):
        return  # it looked, so it accepted who asked
