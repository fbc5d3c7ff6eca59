"""Known ends of providers and base models: a sourced table, told in time, in plain words, and never in the way."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
import yaml

from gitune.lock import Lock, write_lock
from gitune.notices import project_notices
from gitune.project import Project
from gitune.providers import PROVIDERS
from gitune.sunset import NOTICE_DAYS, Notice, Use, sunset_notices, vendor_sunsets
from tests.conftest import Repository, Result, agent_yaml

Gitune = Callable[..., Result]
TODAY = date(2026, 11, 23)
HAIKU = "anthropic.claude-3-haiku-20240307-v1:0"
MINI = "gpt-4o-mini-2024-07-18"


def notices(*uses: Use, today: date = TODAY, **blocks: dict[str, Any]) -> tuple[Notice, ...]:
    sunsets = {use.provider: vendor_sunsets(use.provider, blocks.get(use.provider, {}), {}) for use in uses}
    return sunset_notices(uses, sunsets, today)


def ended(**changes: Any) -> dict[str, Any]:
    return {"what": "training", "ends": "2026-01-31", "source": "a letter", "read": "2026-01-01", **changes}


@pytest.mark.parametrize("provider", ["mistral", "openai", "bedrock"])
def test_every_end_of_the_table_has_a_day_a_source_and_the_day_it_was_read(provider: str) -> None:
    assert provider in PROVIDERS
    table = vendor_sunsets(provider, {}, {})
    assert table
    for sunset in table:
        assert sunset.ends is not None
        assert sunset.source.startswith("https://")
        assert date(2026, 1, 1) <= sunset.read <= datetime.now(UTC).date()


def test_what_has_no_end_is_not_mentioned() -> None:
    assert notices(Use("qa", "local", "smollm2-135m-instruct", 0), Use("qa", "ray", "x", 1)) == ()
    assert notices(Use("qa", "mistral", "open-mistral-7b", None)) == ()  # models that exist still answer


def test_a_training_api_that_is_gone() -> None:
    (notice,) = notices(Use("qa", "mistral", "open-mistral-7b", 0), Use("qa", "huggingface", "a/b", 1))
    assert (notice.what, notice.base_model, notice.ends, notice.days) == ("training", None, date(2026, 7, 13), -133)
    assert notice.message == (
        "mistral: training ended on 2026-07-13 (new jobs are answered 410 Gone); concerns the first candidate"
    )
    assert notice.hint == "move the agent: gitune retrain qa --on huggingface"


def test_a_base_model_that_soon_ends_concerns_candidate_and_lock() -> None:
    training, serving = notices(Use("qa", "openai", MINI, 0), Use("qa", "openai", MINI, None))
    assert training.message.startswith("openai: training ends on 2027-01-06, in 44 days (")
    assert training.message.endswith("; concerns the first candidate")
    assert serving.message == (
        f"openai: the answers of {MINI}, and of models tuned from it, end on 2027-01-14, in 52 days; "
        "concerns the model in the lock and the first candidate"
    )
    assert {training.hint, serving.hint} == {"move the agent: gitune retrain qa --on local"}


@pytest.mark.parametrize(
    ("today", "days", "words"),
    [
        (date(2027, 1, 6) - timedelta(NOTICE_DAYS + 1), None, ""),
        (date(2027, 1, 6) - timedelta(NOTICE_DAYS), 180, "ends on 2027-01-06, in 180 days"),
        (date(2027, 1, 5), 1, "ends on 2027-01-06, in 1 day "),
        (date(2027, 1, 6), 0, "ended on 2027-01-06"),
        (date(2030, 1, 1), -1091, "ended on 2027-01-06"),
    ],
)
def test_from_180_days_before(today: date, days: int | None, words: str) -> None:
    found = notices(Use("qa", "openai", "gpt-9", 0), today=today)
    assert [notice.days for notice in found] == ([] if days is None else [days])
    assert all(words in notice.message for notice in found)


def test_a_name_also_means_its_variants_and_nothing_else() -> None:
    assert notices(Use("qa", "bedrock", f"{HAIKU}:200k", 0))[0].ends == date(2026, 9, 10)
    assert notices(Use("qa", "bedrock", f"{HAIKU}1", 0)) == ()


def test_what_to_do_depends_on_who_is_concerned() -> None:
    later = notices(Use("qa", "local", "x", 0), Use("qa", "mistral", "y", 1))
    assert [(n.message.rpartition("; ")[2], n.hint) for n in later] == [
        ("concerns a later candidate", "take it out of agents/qa/agent.yaml, or put another in its place")
    ]
    (locked,) = notices(Use("qa", "local", "x", 0), Use("qa", "openai", MINI, None))
    assert locked.hint == "train its successor on local and merge its lock: gitune up -s training"
    both = notices(Use("qa", "mistral", "x", 0), Use("qa", "ray", "y", 1), Use("qa", "openai", MINI, None))
    assert both[1].hint == "move the agent, then train and merge its lock: gitune retrain qa --on ray"


def test_a_vendors_dates_hold_at_its_own_address_only() -> None:
    assert vendor_sunsets("openai", {"base_url": "https://api.studio.nebius.com/v1"}, {}) == ()
    assert vendor_sunsets("openai", {}, {"OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}) == ()
    assert vendor_sunsets("openai", {"base_url": "https://notopenai.com/v1"}, {}) == ()
    europe = {"base_url": "https://eu.api.openai.com/v1"}
    assert vendor_sunsets("openai", europe, {"OPENAI_BASE_URL": "http://other"}) == vendor_sunsets("openai", {}, {})


def test_a_stack_adds_and_overrides() -> None:
    acme = {"sunset": [ended(base_models=["acme-small"], note="by letter")]}
    (added,) = notices(Use("qa", "acme", "acme-small", 0), acme=acme)
    assert added.message.startswith("acme: training on acme-small ended on 2026-01-31 (by letter)")
    later = {"sunset": [ended(ends="2026-12-01")]}
    assert [notice.days for notice in notices(Use("qa", "openai", "gpt-9", 0), openai=later)] == [8]
    never = {"sunset": [ended(what="serving", base_models=[HAIKU], ends=None)]}
    assert notices(Use("qa", "bedrock", HAIKU, 0), bedrock=never) == ()


def _training_stack(repository: Repository, **config: Any) -> None:
    values = {"gitune:declare": ["models"], "gitune:locks": "agents", **config}
    repository.write("Pulumi.training.yaml", yaml.safe_dump({"config": values}))


def _lock(repository: Repository, provider: str, base_model: str) -> None:
    lock = Lock("qa", "1.0.0", provider, "m", base_model, "lora", {}, {}, {}, {"accuracy": None}, {})
    write_lock(repository.root / "agents/qa/model.lock.yaml", lock)


@pytest.fixture
def moved(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """An agent that lists Mistral first, and whose locked model is OpenAI's."""
    for name in ("MISTRAL_BASE_URL", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    other = ended(base_models=["nobody's"], ends=None)  # the engine, which writes the file anew, must leave it right
    _training_stack(repository, **{"gitune:providers": {"ray": {"sunset": [other]}}})
    repository.add_agent("qa", agent_yaml(training=[{"provider": "mistral"}, {"provider": "local"}]))
    repository.add_agent("support")
    _lock(repository, "openai", MINI)
    return repository


def test_status_tells_it_of_the_agent(moved: Repository, gitune: Gitune) -> None:
    shown = gitune("status", "-s", "training")
    assert "! qa: mistral: training ended on 2026-07-13" in shown.out
    assert "    hint: move the agent: gitune retrain qa --on local\n" in shown.out
    qa, support = json.loads(gitune("status", "-s", "training", "--json").out)
    assert [(item["provider"], item["what"], item["ends"]) for item in qa["sunset"]] == [
        ("mistral", "training", "2026-07-13"),
        ("openai", "serving", "2027-01-14"),
    ]
    assert support["sunset"] == []
    assert "!" not in gitune("status").out  # the dev stack trains and serves here


def test_today_is_a_parameter(moved: Repository) -> None:
    project = Project.open("training")
    assert [notice.provider for notice in project_notices(project, date(2026, 7, 1))] == ["mistral"]
    assert project_notices(project, date(2025, 1, 1)) == ()


def test_plan_tells_it_of_agents_with_and_without_changes(moved: Repository, gitune: Gitune) -> None:
    shown = gitune("plan", "-s", "training")
    assert shown.code == 0, shown.err
    lines = shown.out.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("! qa: mistral: training ended"))
    assert lines.index("    hint: move the agent: gitune retrain qa --on local") == first + 1
    assert any(line.startswith("+ qa: ") for line in lines[:first])
    items = json.loads(gitune("plan", "-s", "training", "--json").out)
    assert {(item["agent"], item["action"]) for item in items} == {
        ("qa", "train"),
        ("support", "train"),
        ("qa", "sunset"),
    }


def test_up_tells_it_once_before_it_starts(moved: Repository, gitune: Gitune) -> None:
    moved.write("agents/support/data/train.jsonl", "not JSON\n")  # so that nothing is started
    result = gitune("up", "-s", "training", "--json")
    assert (result.code, result.out) == (1, "")
    assert result.err.count("! qa: mistral: training ended on 2026-07-13") == 1
    assert result.err.index("! qa: ") < result.err.index("agents/support/data/train.jsonl:1")


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (ended(ends="soon"), "'sunset.0.ends': value error, must be a day in quotes, such as \"2027-01-06\", not soon"),
        (ended(ends=TODAY), "'sunset.0.ends': value error, must be a day in quotes, such as \"2027-01-06\", not 2026"),
        (ended(ends=20270106), "not 20270106"),
        (ended(read=None), "'sunset.0.read': input should be a valid date"),
        (ended(what="all"), "'sunset.0.what' cannot be 'all'\n  hint: one of: 'training' or 'serving'"),
        (ended(base_model="x"), "unknown key 'sunset.0.base_model'\n  hint: did you mean 'base_models'?"),
        ({"what": "training", "ends": None, "read": "2026-01-01"}, "'sunset.0.source' is missing"),
    ],
)
def test_a_wrong_entry_has_its_line(repository: Repository, gitune: Gitune, entry: dict[str, Any], said: str) -> None:
    repository.add_agent("support")
    _training_stack(repository, **{"gitune:providers": {"openai": {"sunset": [entry]}}})
    result = gitune("status", "-s", "training")
    assert result.code == 1
    assert result.err.startswith("Pulumi.training.yaml:")
    assert said in result.err
    assert "Traceback" not in result.err


def test_a_stacks_own_end_is_told(repository: Repository, gitune: Gitune) -> None:
    _training_stack(repository, **{"gitune:providers": {"local": {"sunset": [ended()]}}})
    repository.add_agent("support")
    assert "! support: local: training ended on 2026-01-31; concerns the first candidate" in (
        gitune("status", "-s", "training").out
    )


def test_notices_never_stop_anything(moved: Repository, gitune: Gitune) -> None:
    moved.write("agents/qa/agent.yaml", yaml.safe_dump(agent_yaml(training=[{"provider": "mistrall"}])))
    moved.write("agents/qa/model.lock.yaml", "{")
    assert project_notices(Project.open("training")) == ()
