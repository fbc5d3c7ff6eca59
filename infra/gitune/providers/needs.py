"""What stands between this machine and a training at each built-in provider: packages, credentials, settings, dates.

Read from the environment and the stack alone: nobody is asked, and a credential that is set may still be wrong.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date

from gitune.limits import Declared, Excess
from gitune.providers.settings import ProviderSettings


@dataclass(frozen=True, slots=True)
class Needs:
    """Of one provider, as its driver and its vendor have it."""

    module: str
    """Its SDK's, or the training stack's."""
    credentials: tuple[str, ...] = ()
    """Environment variables, any one of which is enough."""
    found_elsewhere: bool = False
    """Its SDK also takes a credential from files or the machine's role."""
    settings: tuple[str, ...] = ()
    """Keys of its block in the stack that have no default."""
    ends: date | None = None
    """From this day on its own API takes no new jobs."""
    base_url_variable: str = ""
    """Another server of the same protocol may be named here."""
    at_once: int | None = None
    """Jobs at once where neither the stack nor the account says more; None: the account decides."""
    excess: Excess = "refused"
    """What becomes of a job too many."""


_AWS = ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI")
NEEDS: Mapping[str, Needs] = {
    "bedrock": Needs("boto3", _AWS, True, ("role_arn", "bucket"), at_once=2),
    "huggingface": Needs("huggingface_hub", ("HF_TOKEN",), True),
    "local": Needs("trl", at_once=1),
    "mistral": Needs(
        "mistralai", ("MISTRAL_API_KEY",), ends=date(2026, 7, 1), base_url_variable="MISTRAL_BASE_URL", excess="fails"
    ),
    "openai": Needs("openai", ("OPENAI_API_KEY",), ends=date(2027, 1, 7), base_url_variable="OPENAI_BASE_URL"),
    "ray": Needs("ray", ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"), True, excess="waits"),
}


def missing(provider: str, settings: ProviderSettings, today: date) -> tuple[str, ...]:
    """What has to be done before a job can be sent, in words; nothing for a provider that is not built in."""
    needs = NEEDS.get(provider)
    return tuple(_missing(provider, needs, settings, today)) if needs else ()


def unready(provider: str, settings: ProviderSettings) -> str:
    """Why no job can be sent from this machine, in words, where that is certain; empty: one can be tried."""
    needs = NEEDS.get(provider)
    if needs is None:
        return ""
    return "; ".join(
        _unready(provider, replace(needs, credentials=() if needs.found_elsewhere else needs.credentials), settings)
    )


def declared_limits(provider: str, settings: ProviderSettings) -> Declared:
    """As the stack says, else as is known. Of a provider that is not built in a job too many may fail."""
    needs = NEEDS.get(provider)
    return Declared(jobs_at_once(provider, settings), settings.total_jobs, needs.excess if needs else "fails")


def jobs_at_once(provider: str, settings: ProviderSettings) -> int | None:
    """As the stack says, else as is known; None: the account decides, and nobody can tell beforehand."""
    needs = NEEDS.get(provider)
    return settings.concurrency or (needs.at_once if needs else None)


def _missing(provider: str, needs: Needs, settings: ProviderSettings, today: date) -> Iterator[str]:
    elsewhere = getattr(settings, "base_url", None) or os.environ.get(needs.base_url_variable)
    if needs.ends and today >= needs.ends and not elsewhere:
        yield f"takes no new jobs since {needs.ends:%Y-%m-%d}"
    yield from _unready(provider, needs, settings)


def _unready(provider: str, needs: Needs, settings: ProviderSettings) -> Iterator[str]:
    elsewhere = getattr(settings, "base_url", None) or os.environ.get(needs.base_url_variable)
    if importlib.util.find_spec(needs.module) is None:
        yield f"pip install 'gitune[{provider}]'"
    named = getattr(settings, "key_variable", None)
    credentials = (named,) if named else () if provider == "ray" and elsewhere else needs.credentials
    if credentials and not any(os.environ.get(variable) for variable in credentials):
        yield f"set {credentials[0]}"
    unset = [key for key in needs.settings if getattr(settings, key, None) is None]
    if unset:
        yield f"set {' and '.join(unset)} below gitune:providers: {provider}:"
