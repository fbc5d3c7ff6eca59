"""What providers end, and when: a dated, sourced table, and what it says of the things that agents use. Only warns."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias
from urllib.parse import urlsplit

import yaml
from pydantic import BeforeValidator, Field

from gitune.validation import Value

NOTICE_DAYS = 180
"""How long before an end it is told."""
What: TypeAlias = Literal["training", "serving"]


def as_date(value: Any) -> Any:
    """A day in quotes. Without them the engine, which writes a stack's file anew, makes a time of day of it."""
    if value is None:
        return None
    try:
        return date.fromisoformat(value)
    except (ValueError, TypeError):
        raise ValueError(f'must be a day in quotes, such as "2027-01-06", not {str(value)[:40]}') from None


class Sunset(Value):
    """The end of a provider's API, or of some of its base models."""

    what: Annotated[
        What, Field(description="training: no new jobs. serving: no answers, so that training is of no use either.")
    ]
    base_models: Annotated[
        tuple[Annotated[str, Field(min_length=1)], ...],
        Field(strict=False, description="Left out: the API. A name also means its variants, 'name:...'."),
    ] = ()
    ends: Annotated[
        date | None,
        BeforeValidator(as_date),
        Field(description="The first day without it; null: it does not end for you."),
    ]
    source: Annotated[str, Field(min_length=1, description="Who says so: a URL, or a letter.")]
    read: Annotated[date, BeforeValidator(as_date), Field(description="The day when the source said so.")]
    note: Annotated[str, Field(description="For whom it ends otherwise.")] = ""

    def names(self, base_model: str) -> bool:
        return any(base_model == name or base_model.startswith(f"{name}:") for name in self.base_models)


class _Vendor(Value):
    host: str
    variables: Annotated[tuple[str, ...], Field(strict=False)]
    sunset: Annotated[tuple[Sunset, ...], Field(strict=False)]


@dataclass(frozen=True, slots=True)
class Use:
    """Who relies on what: a candidate of an agent, or the model in its lock."""

    agent: str
    provider: str
    base_model: str
    place: int | None
    """Of the candidate in the list, from 0. None: the lock's model, which only has to be served."""


@dataclass(frozen=True, slots=True)
class Notice:
    """One end that concerns an agent, in plain words with what to do next."""

    agent: str
    provider: str
    what: What
    base_model: str | None
    """None: the API itself."""
    ends: date
    days: int
    """From today; 0 or less: it has ended."""
    message: str
    hint: str
    source: str

    def as_dict(self) -> dict[str, Any]:
        """For --json; in a plan it stands among the changes, told apart by its action."""
        return {
            "agent": self.agent,
            "action": "sunset",
            "summary": self.message,
            "hint": self.hint,
            "provider": self.provider,
            "base_model": self.base_model,
            "what": self.what,
            "ends": self.ends.isoformat(),
            "days": self.days,
            "source": self.source,
        }


def vendor_sunsets(provider: str, settings: Mapping[str, Any], environment: Mapping[str, str]) -> tuple[Sunset, ...]:
    """What the stack's block says of a provider, then the table's; the table's only for the vendor's own address."""
    stated = tuple(Sunset.model_validate(item) for item in settings.get("sunset") or ())
    vendor = _table().get(provider)
    if vendor is None:
        return stated
    addresses = (settings.get("base_url"), *(environment.get(name) for name in vendor.variables))
    host = urlsplit(next((address for address in addresses if address), f"https://{vendor.host}")).hostname or ""
    return (*stated, *vendor.sunset) if f".{host}".endswith(f".{vendor.host}") else stated


def sunset_notices(uses: Iterable[Use], sunsets: Mapping[str, Sequence[Sunset]], today: date) -> tuple[Notice, ...]:
    """What has ended or ends within 180 days, by agent and date. Of two entries for the same thing the first counts."""
    by_agent: dict[str, list[Use]] = {}
    for use in uses:
        by_agent.setdefault(use.agent, []).append(use)
    found = [notice for own in by_agent.values() for notice in _of_agent(own, sunsets, today)]
    return tuple(sorted(found, key=lambda n: (n.agent, n.ends, n.provider, n.what, n.base_model or "")))


def _of_agent(uses: Sequence[Use], sunsets: Mapping[str, Sequence[Sunset]], today: date) -> Iterator[Notice]:
    concerned: dict[tuple[str, What, str | None], list[Use]] = {}
    entries: dict[tuple[str, What, str | None], Sunset] = {}
    for use in uses:
        for sunset in _ends_of(use, sunsets.get(use.provider, ())):
            if sunset.ends is None or (sunset.ends - today).days > NOTICE_DAYS:
                continue
            key = (use.provider, sunset.what, use.base_model if sunset.base_models else None)
            entries[key] = sunset
            concerned.setdefault(key, []).append(use)
    doomed = {use for group in concerned.values() for use in group}
    for (provider, _, base_model), sunset in entries.items():
        group = concerned[provider, sunset.what, base_model]
        yield _notice(sunset, base_model, group, [use for use in uses if use not in doomed], today)


def _ends_of(use: Use, sunsets: Sequence[Sunset]) -> Iterator[Sunset]:
    needs: tuple[What, ...] = ("training", "serving") if use.place is not None else ("serving",)
    for what in needs:
        listed = [sunset for sunset in sunsets if sunset.what == what]
        yield from [sunset for sunset in listed if not sunset.base_models][:1]
        yield from [sunset for sunset in listed if sunset.names(use.base_model)][:1]


def _notice(sunset: Sunset, base_model: str | None, group: Sequence[Use], sound: Sequence[Use], today: date) -> Notice:
    assert sunset.ends is not None
    agent, provider = group[0].agent, group[0].provider
    days = (sunset.ends - today).days
    if sunset.what == "training":
        subject, verb = f"training{f' on {base_model}' if base_model else ''}", "ends"
    elif base_model:
        subject, verb = f"the answers of {base_model}, and of models tuned from it,", "end"
    else:
        subject, verb = "the answers of its models", "end"
    when = f"{verb} on {sunset.ends}, in {days} day{'s' * (days != 1)}" if days > 0 else f"ended on {sunset.ends}"
    note = f" ({sunset.note})" if sunset.note else ""
    message = f"{provider}: {subject} {when}{note}; concerns {_concerned(group)}"
    return Notice(
        agent, provider, sunset.what, base_model, sunset.ends, days, message, _hint(group, sound), sunset.source
    )


def _concerned(group: Sequence[Use]) -> str:
    places = {use.place for use in group}
    words = {
        "the model in the lock": None in places,
        "the first candidate": 0 in places,
        "a later candidate": bool(places - {None, 0}),
    }
    return " and ".join(word for word, true in words.items() if true)


def _hint(group: Sequence[Use], sound: Sequence[Use]) -> str:
    agent, places = group[0].agent, {use.place for use in group}
    candidates = [use for use in sound if use.place is not None]
    elsewhere = candidates[0].provider if candidates else "local"
    if 0 in places:
        return f"move the agent: gitune retrain {agent} --on {elsewhere}"
    if None not in places:
        return f"take it out of agents/{agent}/agent.yaml, or put another in its place"
    if 0 in {use.place for use in candidates}:
        return f"train its successor on {elsewhere} and merge its lock: gitune up -s training"
    return f"move the agent, then train and merge its lock: gitune retrain {agent} --on {elsewhere}"


@functools.cache
def _table() -> Mapping[str, _Vendor]:
    data = yaml.safe_load((Path(__file__).parent / "sunset.yaml").read_text(encoding="utf-8"))
    return {name: _Vendor.model_validate(block) for name, block in data.items()}
