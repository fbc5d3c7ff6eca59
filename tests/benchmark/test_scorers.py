"""What an answer is worth, by each scorer; and what agent.yaml and the cases may say of it."""

from __future__ import annotations

from typing import Any

import pytest

from gitune.benchmark.cases import Case
from gitune.benchmark.judge import NoVerdict, ask_judge, read_verdict
from gitune.benchmark.scorers import check_case, grader, last_number
from gitune.dataset.chat import Message
from gitune.scorer_spec import Scorer
from gitune.spec import agent_schema
from tests.conftest import Repository, agent_yaml, case


def grade(scorer: Any, answer: str, target: str, **more: Any) -> float:
    found = grader(Scorer.model_validate(scorer))
    assert found is not None
    return found(answer, Case("c", (Message("user", "?"),), target, 1, **more))


@pytest.mark.parametrize(
    ("scorer", "answer", "target", "worth"),
    [
        ("exact", " refund\n", "refund", 1),
        ("exact", "Refund", "refund", 0),
        ("normalised", "  Refund. ", "refund", 1),
        ("number", "The total is $1,234.50.", "1234.5", 1),
        ("number", "about 12 or 13", "12", 0),
        ("number", "no idea", "12", 0),
        ({"number": {"tolerance": 0.1}}, "0.3", "0.2", 1),
        ({"number": {"tolerance": 0.1}}, "0.31", "0.2", 0),
        ({"number": {"relative": 0.01}}, "-101", "-100", 1),
        ({"number": {"relative": 0.01}}, "101", "-100", 0),
        ("json_fields", '{"a": 1, "b": "x"}', '{"a": 1.0, "b": "y"}', 0.5),
        ("json_fields", 'Here:\n```json\n{"a": 1}\n```', '{"a": 1}', 1),
        ("json_fields", '{"a": true}', '{"a": 1}', 0),
        ("json_fields", "[1]", '{"a": 1}', 0),
        ({"json_fields": {"fields": ["a"]}}, '{"a": 1, "b": 3}', '{"a": 1, "b": 2}', 1),
        ("f1", "the cat sat", "The cat, it sat down.", 2 * 3 / 8),
        ("f1", "", "word", 0),
        ("rouge_l", "police kill the gunman", "police killed the gunman", 0.75),  # Lin 2004, section 3
        ("rouge_l", "the gunman kill police", "police killed the gunman", 0.5),
    ],
)
def test_worth(scorer: Any, answer: str, target: str, worth: float) -> None:
    assert grade(scorer, answer, target) == pytest.approx(worth)


def test_all_facts_must_occur() -> None:
    facts = ("30 days", "/refund(ed)?/")
    assert grade("facts", "We REFUND within 30\ndays.", "x", facts=facts) == 1
    assert grade("facts", "We refund within 3 days.", "x", facts=facts) == 0


def test_fields_of_a_case_come_before_those_of_the_scorer() -> None:
    scorer = {"json_fields": {"fields": ["a"]}}
    assert grade(scorer, '{"a": 0, "b": 2}', '{"a": 1, "b": 2}', fields=("b",)) == 1


@pytest.mark.parametrize(
    ("text", "number"), [("1 234,5", 5), ("\u22123", -3), ("1e3", 1000), ("v2 costs .5", 0.5), ("", None)]
)
def test_last_number(text: str, number: float | None) -> None:
    assert last_number(text) == number


def test_what_a_scorer_can_make_nothing_of() -> None:
    def wrong(scorer: str, target: str) -> str | None:
        return check_case(Scorer.model_validate(scorer), Case("c", (Message("user", "?"),), target, 1))

    assert "needs a number" in str(wrong("number", "many"))
    assert "needs 'facts'" in str(wrong("facts", "x"))
    assert "a JSON object" in str(wrong("json_fields", "[]"))
    assert "needs words" in str(wrong("f1", "..."))
    assert wrong("exact", "...") is None


@pytest.mark.parametrize(
    ("text", "worth"), [("Fine.\nGRADE: 1", 1), ("GRADE: 0\n - GRADE: 0.5", 0.5), ("**Grade: 7/10**", 0.7)]
)
def test_verdict(text: str, worth: float) -> None:
    assert read_verdict(text) == pytest.approx(worth)


@pytest.mark.parametrize("text", ["", "It is right.", "GRADE: 3", "GRADE: 1/0"])
def test_no_grade_is_no_verdict(text: str) -> None:
    with pytest.raises(NoVerdict):
        read_verdict(text)


def test_braces_of_an_answer_are_left_alone() -> None:
    asked = Case("c", (Message("user", "why {answer}?"),), "{target}", 1)
    assert ask_judge("{question}|{target}|{answer}|{other}", "{question}", asked) == (
        "why {answer}?|{target}|{question}|{other}"
    )


@pytest.mark.parametrize(
    ("scorer", "said"),
    [
        ("exat", "agents/aa/agent.yaml:10: 'benchmark.scorer': no scorer of this name: 'exat'"),
        ("judge", "it has options that must be given"),
        ({"number": {"tolerence": 1}}, "agents/aa/agent.yaml:12: unknown key 'benchmark.scorer.number.tolerence'"),
        ({"number": {"tolerance": -1}}, "agents/aa/agent.yaml:12: 'benchmark.scorer.number.tolerance'"),
        ({"exact": {}, "f1": {}}, "name exactly one scorer"),
        ({"judge": {"model": "local:x", "prompt": "judge.md"}}, "agents/aa/agent.yaml:13: no such file: 'judge.md'"),
        ("number", "agents/aa/benchmark/cases.jsonl:1: the scorer 'number' needs a number in 'target'"),
    ],
)
def test_mistakes_are_told_with_their_line(repository: Repository, gitune: Any, scorer: Any, said: str) -> None:
    spec = agent_yaml(benchmark={"cases": "benchmark/cases.jsonl", "scorer": scorer})
    del spec["dataset"]["validation"]
    repository.add_agent("aa", spec, cases=[case("1", "how many?", "intent")])
    found = gitune("validate")
    assert found.code == 1
    assert said in found.err, found.err


def test_case_may_name_source_facts_and_fields(repository: Repository, gitune: Any) -> None:
    rich = {**case("1", "how?", "x"), "source": "manual.pdf", "facts": ["/a+/"], "fields": ["b"]}
    repository.add_agent("aa", cases=[rich])
    assert gitune("validate").code == 0
    for key, value, said in (
        ("facts", "a", "'facts' must be a list of texts"),
        ("facts", ["/(/"], "is not a pattern"),
        ("source", 3, "'source' must be text"),
        ("sauce", "x", "unknown key 'sauce'"),
    ):
        repository.add_agent("aa", cases=[{**rich, key: value}])
        found = gitune("validate")
        assert said in found.err
        assert "cases.jsonl:1" in found.err


def test_schema_knows_names_options_and_functions() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = {**agent_schema()["$defs"]["Scorer"], "$defs": agent_schema()["$defs"]}
    for right in ("exact", "my.module:function", {"number": {"tolerance": 1}}, {"judge": {"model": "a"}}):
        jsonschema.validate(right, schema)
    for wrong in ("exat", {"numbr": {}}, {"exact": {}, "f1": {}}, 3):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)
