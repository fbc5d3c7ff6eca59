"""The comment on a pull request: what it says, that nobody's text is markup in it, and that it always fits."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from gitune.drift import Finding
from gitune.errors import InvalidInput, Problem
from gitune.forecast import Before, Forecast
from gitune.plan import Change, DatasetChange, PlannedCandidate
from gitune.prices import Tokens
from gitune.providers.base import Estimate
from gitune.refusals import Refusal, Ruling
from gitune.report.markdown import COMMENT_LIMIT, escaped, length
from gitune.report.pull_request import comment, summary
from gitune.report.verdict import verdict
from gitune.saved_plan import End, SavedPlan, differences, read_plan

GOLDEN = Path(__file__).parent / "comment.md"
HOSTILE = (
    "@octocat #1 GH-2 a/b#3 <img src=x onerror=alert(1)> [x](https://evil.example) ![y](z) `code` ``` | --> <!-- "
    "${{ secrets.KEY }} ::set-output name=a::b $(rm -rf /) **bold** _it_ ~~no~~ &lt; \\| https://evil.example "
    "\u202e\x1b[31m"
)


def estimate(expected: float) -> Estimate:
    return Estimate((expected * 0.75, expected, expected * 1.5), (10.0, 20.0, 61.0))


def training(agent: str = "support", usd: float = 4.0, **changes: Any) -> Change:
    candidates = (
        PlannedCandidate("mistral", "open-mistral-nemo", "k0", taken=False, refused="its training API has ended"),
        PlannedCandidate("openai", "gpt-4.1-mini", "k1", taken=True),
        PlannedCandidate("local", "tiny", "k2", taken=False),
    )
    known = Forecast(
        examples=1200,
        tokens=Tokens(90_000, estimated=True),
        shortfalls=("agent faq has 40 examples, 100 are wanted",),
        dropped=3,
        estimates=(("mistral", estimate(3)), ("openai", estimate(usd)), ("local", Estimate((0, 0, 0), None))),
        before=Before(1000, 80_000),
        dropped_by={"near-duplicate": 3},
    )
    facts: dict[str, Any] = {
        "reasons": ("dataset aaaa → bbbb: 250 example(s) added, 50 removed", "hyperparameter epochs: 3 → 4"),
        "forecast": known,
        "candidates": candidates,
        "budget_usd": 25.0,
        "dataset": DatasetChange(240, 40, 10, {"refund": (100, 140)}),
    }
    return Change(agent, "retrain", "trains again: gpt-4.1-mini on openai", **{**facts, **changes})


def plan(stack: str = "training", *changes: Change, **facts: Any) -> SavedPlan:
    bound: dict[str, Any] = {"commit": "1" * 40, "agents": {"support": "git:2"}, "settings": "3", "state": "4"}
    return SavedPlan("gitune.plan/1", stack, "0.1.0", "3.200.0", **{**bound, **facts}, changes=changes)


REMOVED = Change("faq", "remove", "alias faq no longer answers")
DEPLOYED = Change("support", "redeploy", "alias support → 1.1.0 (openai:x)", ("model: openai:w → openai:x",))
END = End(
    "support", "openai", "training", None, date(2027, 1, 6), "move the agent: gitune retrain support --on local", ""
)
DRIFT = Finding("model-missing", "faq", "openai", "model ft:1 is gone", "gitune up -s training")
REFUSED = Ruling(Refusal("fleet-share", "", "3 of 4 deployed agents would change at once", "merge in smaller steps"))


def test_it_says_what_the_golden_file_says() -> None:
    text = comment((plan("training", training(), ends=(END,)), plan("production", DEPLOYED, REMOVED)), [DRIFT])
    assert text == GOLDEN.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("plans", "word", "reason"),
    [
        ((plan(),), "safe", "no change"),
        ((plan("training", Change("a", "adopt", "takes the job that runs")),), "safe", "costs nothing"),
        ((plan("training", Change("a", "queue", "waits")),), "safe", "waits was approved when it was merged"),
        ((plan("training", training()),), "needs approval", "1 training(s) in training that may cost up to $6.00"),
        ((plan("production", REMOVED),), "needs approval", "1 removal(s) in production"),
        ((plan("production", DEPLOYED),), "needs approval", "1 alias(es) that answer otherwise in production"),
        ((plan(), plan("production", rulings=(REFUSED,))), "blocked", "rule fleet-share in production (all agents)"),
        (
            (plan("p", rulings=(replace(REFUSED, allowed="agents/a"),)),),
            "needs approval",
            "overridden in p: fleet-share",
        ),
        ((plan(problems=(Problem("agents/a/agent.yaml", 3, "no"),)),), "blocked", "1 problem(s) in the files"),
    ],
)
def test_the_verdict_comes_first(plans: Sequence[SavedPlan], word: str, reason: str) -> None:
    said = verdict(plans)
    assert said.word == word
    assert reason in "; ".join(said.reasons)
    first, second, _, third, *_ = comment(plans).splitlines()
    assert first == f"<!-- gitune:plan:{','.join(plan.stack for plan in plans)} -->"
    assert (second, third) == (f"## {word.capitalize()}", f"{escaped('; '.join(said.reasons))}.")


def test_only_the_summary_has_a_chart() -> None:
    plans = (plan("training", training("a", 4.0), training("b", 9.0)),)
    assert "mermaid" not in comment(plans)
    assert '    x-axis ["b", "a"]\n    bar [9.00, 4.00]\n' in summary(plans)


def hostile_plans(text: str) -> tuple[SavedPlan, ...]:
    """Every text that a pull request can decide."""
    candidate = PlannedCandidate(text, text, "k", taken=True, refused=text)
    known = Forecast(1, Tokens(1, estimated=False), (text,), 1, ((text, estimate(1)),), None, {text: 1})
    change = training(text, reasons=(text,), candidates=(candidate, candidate), forecast=known)
    change = replace(change, summary=text, dataset=DatasetChange(1, 1, 1, {text: (1, 2)}))
    ruling = Ruling(Refusal("no-licence", text, text, text), text)
    ends = (replace(END, agent=text, provider=text, base_model=text, hint=text),)
    removed, deployed = replace(REMOVED, agent=text, summary=text), replace(DEPLOYED, agent=text, summary=text)
    return (
        plan("training", change, removed, rulings=(ruling, replace(ruling, allowed="")), ends=ends, unknown=(text,)),
        plan(text, replace(deployed, reasons=(text,)), problems=(Problem(text, 1, text, text),)),
    )


def _flat(tokens: Sequence[Token]) -> list[Token]:
    return [one for token in tokens for one in (token, *_flat(token.children or ()))]


def markup(text: str) -> list[str]:
    """What a reader of the Markdown is shown as something else than text."""
    found = []
    for token in _flat(MarkdownIt("commonmark").enable("table").parse(text)):
        if token.type in ("html_inline", "html_block"):
            found += re.findall(r"<[^>]*>", token.content)
        elif token.type not in ("text", "inline", "softbreak"):
            found.append(token.type)
    return [part for part in found if part != "<!-- -->"]


@given(st.one_of(st.just(HOSTILE), st.text(max_size=80), st.text("@#<>[]()`|*_~$&{}\\!-:/. \nw\tgG", max_size=60)))
def test_nobodys_text_is_markup(text: str) -> None:
    """It makes the same markup as a plain word."""
    text = text if text.strip() else "x"
    texts = (comment(hostile_plans(t), [replace(DRIFT, agent=t, message=t, hint=t)]) for t in (text, "x"))
    said, plain = (whole.split("\n", 1)[1] for whole in texts)
    assert markup(said) == markup(plain)
    assert "${{" not in said
    assert not re.search(r"@\w|(?<!&)#\w", said)
    assert not any(line.startswith("::") for line in said.splitlines())
    assert {char for char in said if not char.isprintable()} == {"\n"}


def test_a_stack_cannot_end_the_marker() -> None:
    assert comment((plan("a --> <b>,--"),)).startswith("<!-- gitune:plan:a-b- -->\n")


def test_a_mention_and_a_link_are_text() -> None:
    said = comment(hostile_plans(HOSTILE)).split("\n", 1)[1]
    assert "https://evil" not in said
    assert "@octocat" not in said
    assert "\u202e" not in said
    assert "GH-2" not in said


@settings(max_examples=20, deadline=None)
@given(
    agents=st.integers(0, 500),
    removed=st.integers(0, 500),
    word=st.sampled_from(["x", "_" * 38, HOSTILE, "😀" * 50]),
    limit=st.sampled_from([COMMENT_LIMIT, 200_000]),
)
def test_it_fits_and_keeps_the_verdict(agents: int, removed: int, word: str, limit: int) -> None:
    changes = [training(f"agent-{n}", reasons=(word,)) for n in range(agents)]
    gone = [Change(f"gone-{n}", "remove", word) for n in range(removed)]
    problems = tuple(Problem(word, n, word, word) for n in range(removed))
    plans = (plan("training", *changes, *gone), plan("production", rulings=(REFUSED,) * removed, problems=problems))
    text = comment(plans, [replace(DRIFT, message=word)] * agents, limit)
    assert length(text) <= limit
    assert escaped("; ".join(verdict(plans).reasons)) in text
    assert all(f"gone-{n}" in text for n in range(removed))
    assert text.endswith("</sub>\n")
    assert text.count("<details>") == text.count("</details>")


def test_what_was_left_out_is_told() -> None:
    text = comment((plan("training", *(training(f"agent-{n}") for n in range(500))),))
    assert re.search(r"Left out for size: \d+ agent\(s\), 500 detail\(s\)\. All of it is in the saved plan\.", text)
    assert "agent-0**" in text
    assert "500 trained again" in text


def test_more_deletions_than_fit_are_counted() -> None:
    text = comment((plan("training", *(Change("_" * 39 + str(n), "remove", "gone") for n in range(5000))),))
    assert length(text) <= COMMENT_LIMIT
    assert "**5,000 agents**" in text
    assert re.search(r"and [\d,]+ more", text)


@given(st.text(max_size=50))
def test_a_saved_plan_is_read_as_it_was_written(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("plan") / "plan.json"
    for one in hostile_plans(text):
        path.write_text(one.text(), encoding="utf-8")
        assert read_plan(path) == one
        assert read_plan(path).text() == one.text()


@pytest.mark.parametrize("broken", ["", "[]", "{}", "null", '{"schema": "gitune.plan/2"}', "[" * 100_000])
def test_what_is_no_plan_is_a_problem(tmp_path: Path, broken: str) -> None:
    (tmp_path / "plan.json").write_text(broken)
    with pytest.raises(InvalidInput, match="not a saved plan"):
        read_plan(tmp_path / "plan.json")


def test_a_plan_that_was_edited_is_refused(tmp_path: Path) -> None:
    facts = json.loads(plan("training", training()).text())
    facts["changes"][0]["action"] = "adopt"
    (tmp_path / "plan.json").write_text(json.dumps(facts))
    with pytest.raises(InvalidInput, match="changed after it was saved"):
        read_plan(tmp_path / "plan.json")


OTHER_KEY = (PlannedCandidate("openai", "gpt-4.1-mini", "k9", taken=True),)


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (plan("production", training()), "stack: training → production"),
        (plan("training", training(), settings="9"), "Pulumi.training.yaml says something else"),
        (plan("training", training(), state="9"), "the state: something was recorded since"),
        (plan("training", training(), agents={"support": "git:9"}), "agents/support: its files changed"),
        (plan("training", training(), agents={}), "agents/support: the folder is gone"),
        (plan("training", training(), agents={"support": "git:2", "b": "git:9"}), "agents/b: the folder is new"),
        (plan("training"), "support: trains again: gpt-4.1-mini on openai → no change"),
        (plan("training", training(candidates=OTHER_KEY)), "by another training key"),
        (plan("training", training(), rulings=(REFUSED,)), "rules that refuse: none → fleet-share for all agents"),
    ],
)
def test_what_differs_is_named(now: SavedPlan, said: str) -> None:
    approved = plan("training", training())
    assert [line for line in differences(approved, now) if said in line]
    assert approved.checksum != now.checksum


def test_what_follows_from_the_rest_does_not_decide() -> None:
    approved = plan("training", training(), ends=(END,))
    again = plan("training", training(usd=5.0, reasons=("openai: 2 of 3 slots are taken",)), commit=None)
    assert list(differences(approved, again)) == []
    assert approved.checksum == again.checksum
