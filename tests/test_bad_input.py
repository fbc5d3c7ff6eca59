"""Bad input: one clear error each with its place, exit code 1, no traceback, nothing started."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import yaml

from tests.conftest import Repository, Result, agent_yaml, case, example, jsonl

AGENT = "agents/support/agent.yaml"
TRAIN = "agents/support/data/train.jsonl"
CASES = "agents/support/benchmark/cases.jsonl"
Gitune = Callable[..., Result]


def _yaml(**changes: Any) -> str:
    return yaml.safe_dump(agent_yaml(**changes), sort_keys=False)


def _messages(*turns: tuple[str, str]) -> str:
    return jsonl([{"messages": [{"role": role, "content": content} for role, content in turns]}])


GOOD = jsonl([example("good", "yes")])
FILES: dict[str, tuple[str, str | bytes, str]] = {
    # name: (file, content, what must be said)
    "unknown key": (
        AGENT,
        _yaml(trainning=[]),
        f"{AGENT}:11: unknown key 'trainning'\n  hint: did you mean 'training'?",
    ),
    "unknown nested key": (
        AGENT,
        _yaml(gate={"min_improvment": 0.1}),
        f"{AGENT}:12: unknown key 'gate.min_improvment'\n  hint: did you mean 'min_improvement'?",
    ),
    "wrong type": (AGENT, _yaml(dataset={"sources": "x"}), f"{AGENT}:3: 'dataset.sources' must be a list, not 'x'"),
    "number as text": (
        AGENT,
        _yaml(gate={"max_regression": "8 %"}),
        f"{AGENT}:12: 'gate.max_regression' must be a number, not '8 %'",
    ),
    "neither points nor a share": (
        AGENT,
        _yaml(gate={"min_improvement": "8 points"}),
        f"{AGENT}:12: 'gate.min_improvement': cannot be '8 points'\n  hint: points as a number, 0.08 for 8, or a share",
    ),
    "out of range": (
        AGENT,
        _yaml(dataset={"sources": [{"path": "data/train.jsonl"}], "validation": 0.9}),
        f"{AGENT}:5: 'dataset.validation': input should be less than or equal to 0.5",
    ),
    "negative budget": (
        AGENT,
        _yaml(budget_usd=-1),
        f"{AGENT}:11: 'budget_usd': input should be greater than or equal to 0",
    ),
    "endless budget": (AGENT, _yaml(budget_usd=float("inf")), f"{AGENT}:11: 'budget_usd': input should be a finite"),
    "budget as text": (AGENT, _yaml(budget_usd="$5"), f"{AGENT}:11: 'budget_usd' must be a number, not '$5'"),
    "missing key": (AGENT, "description: x\n", f"{AGENT}:1: 'dataset' is missing"),
    "missing file": (
        AGENT,
        _yaml(benchmark={"cases": "benchmark/case.jsonl"}),
        f"{AGENT}:10: no such file: 'benchmark/case.jsonl'\n  hint: did you mean 'benchmark/cases.jsonl'?",
    ),
    "file outside": (
        AGENT,
        _yaml(benchmark={"cases": "../../../../etc/passwd"}),
        f"{AGENT}:10: '../../../../etc/passwd' is outside the repository",
    ),
    "bad alias": (AGENT, _yaml(alias="Bad Alias"), f"{AGENT}:11: 'alias' cannot be 'Bad Alias'"),
    "name in file": (AGENT, _yaml(name="support"), f"{AGENT}:11: unknown key 'name'\n  hint: the folder is the name"),
    "unknown provider": (AGENT, _yaml(training=[{"provider": "mistrall"}]), "agents"),
    "unknown method": (
        AGENT,
        _yaml(training=[{"provider": "local", "method": "dpo"}]),
        f"{AGENT}:9: 'training.0.method' cannot be 'dpo'\n  hint: one of: 'lora'",
    ),
    "unknown hyperparameter": (
        AGENT,
        _yaml(training=[{"provider": "local", "hyperparameters": {"epoch": 3}}]),
        f"{AGENT}:10: local: ",
    ),
    "broken yaml": (AGENT, "dataset: [\n", f"{AGENT}:2: not valid YAML"),
    "duplicate key": (AGENT, "alias: a\nalias: b\n", f"{AGENT}:2: key 'alias' stands twice (first on line 1)"),
    "yaml alias": (AGENT, "a: &a [*a]\n", f"{AGENT}:1: YAML anchors and aliases are not allowed"),
    "empty yaml": (AGENT, "", f"{AGENT}:1: the file is empty"),
    "a list": (AGENT, "- a\n", f"{AGENT}:1: must be a mapping"),
    "not UTF-8 yaml": (AGENT, b"alias: \xff\n", f"{AGENT}:1: not UTF-8 text"),
    "truncated JSON": (TRAIN, GOOD + '{"messages": [', f"{TRAIN}:2: not valid JSON"),
    "not an object": (TRAIN, "[1]\n", f"{TRAIN}:1: not a JSON object"),
    "empty file": (TRAIN, "\n\n", f"{TRAIN}: no example in this file"),
    "not UTF-8": (TRAIN, GOOD.encode() + b'{"messages": "\xff"}\n', f"{TRAIN}:2: not UTF-8 text"),
    "no messages": (TRAIN, '{"prompt": "x"}\n', f"{TRAIN}:1: 'messages' is missing"),
    "bad role": (TRAIN, _messages(("human", "x")), f"{TRAIN}:1: messages[0].role cannot be 'human'"),
    "empty content": (TRAIN, _messages(("user", " ")), f"{TRAIN}:1: messages[0].content must be text"),
    "null byte": (TRAIN, _messages(("user", "a\x00b")), f"{TRAIN}:1: messages[0].content holds a null byte"),
    "no answer": (TRAIN, _messages(("user", "x")), f"{TRAIN}:1: the last message must have role assistant, not user"),
    "wrong order": (TRAIN, _messages(("assistant", "x"), ("user", "y")), f"{TRAIN}:1: roles must alternate"),
    "late system": (
        TRAIN,
        _messages(("user", "x"), ("system", "y"), ("assistant", "z")),
        f"{TRAIN}:1: only the first message may have role system",
    ),
    "huge line": (TRAIN, '{"messages": "' + "x" * 1_100_000 + '"}\n', f"{TRAIN}:1: a line of more than 1 MB"),
    "duplicate example": (TRAIN, GOOD + GOOD, f"{TRAIN}:2: the same example as {TRAIN}:1"),
    "case without target": (
        CASES,
        jsonl([{"messages": example("x", "y")["messages"][:2]}]),
        f"{CASES}:1: 'target' must",
    ),
    "case ends with the answer": (
        CASES,
        jsonl([{**example("x", "y"), "target": "y"}]),
        f"{CASES}:1: the last message must have role user, not assistant",
    ),
    "unknown case key": (CASES, jsonl([{**case("a", "x", "y"), "answer": "y"}]), f"{CASES}:1: unknown key 'answer'"),
    "case twice": (CASES, jsonl([case("a", "x", "y"), case("a", "z", "y")]), f"{CASES}:2: 'id' must be text that"),
    "leaked case": (
        CASES,
        jsonl([case("a", "Message  1 about 1", "intent_1")]),
        f"{CASES}:1: case 'a' is also a training example ({TRAIN}:2)",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_a_bad_file_is_one_clear_error(name: str, repository: Repository, gitune: Gitune) -> None:
    file, content, expected = FILES[name]
    repository.add_agent("support")
    repository.write(file, content)
    if name == "unknown provider":
        stack = "config:\n  gitune:declare: [models]\n"
        repository.write("Pulumi.dev.yaml", stack)
        expected = f"{AGENT}:8: no provider 'mistrall'"
    result = gitune("up")
    assert result.code == 1
    assert expected in result.err
    assert "Traceback" not in result.err
    assert result.err.rstrip().endswith("nothing was started")
    assert not (repository.root / ".gitune").exists()


def test_all_problems_are_reported_at_once(repository: Repository, gitune: Gitune) -> None:
    repository.add_agent("support", agent_yaml(alias="help", extra=1))
    repository.add_agent("qa")
    repository.write("agents/qa/data/train.jsonl", "nonsense\n{}\n")
    repository.add_agent("Bad Name")
    (repository.root / "agents" / "empty").mkdir()
    result = gitune("validate")
    assert result.code == 1
    for expected in (
        "unknown key 'extra'",
        "qa/data/train.jsonl:1",
        "qa/data/train.jsonl:2",
        "bad agent name 'Bad Name'",
    ):
        assert expected in result.err
    assert "agents/empty: an agent's folder without agent.yaml" in result.err
    assert "5 problem(s)" in result.err


def test_two_agents_may_not_share_an_alias(repository: Repository, gitune: Gitune) -> None:
    repository.add_agent("qa", agent_yaml(alias="help"))
    repository.add_agent("support", agent_yaml(alias="help"))
    result = gitune("up")
    assert result.code == 1
    assert f"{AGENT}:11: alias 'help' is already taken by agent 'qa'" in result.err


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ("gitune:declared: [models]", "Pulumi.dev.yaml:2: unknown key 'declared'\n  hint: did you mean 'declare'?"),
        ("gitune:declare: [model]", "Pulumi.dev.yaml:2: 'declare.0' cannot be 'model'"),
        (
            "gitune:budget_usd: {monthly: 5}",
            "Pulumi.dev.yaml:2: unknown key 'budget_usd.monthly'\n  hint: did you mean 'month'?",
        ),
        (
            "gitune:budget_usd: {plan: -1}",
            "Pulumi.dev.yaml:2: 'budget_usd.plan': input should be",
        ),
        ("gitune:budget_usd: 20", "Pulumi.dev.yaml:2: 'budget_usd' must be a mapping of keys to values, not '20'"),
        ("gitune:providers: {local: {concurrency: 0}}", "Pulumi.dev.yaml:2: 'concurrency'"),
    ],
)
def test_a_bad_stack_file(config: str, expected: str, repository: Repository, gitune: Gitune) -> None:
    repository.add_agent("support")
    repository.write("Pulumi.dev.yaml", f"config:\n  {config}\n")
    result = gitune("up")
    assert (result.code, expected in result.err) == (1, True), result.err


def test_an_unknown_stack(repository: Repository, gitune: Gitune) -> None:
    result = gitune("up", "-s", "deb")
    assert result.code == 1
    assert "Pulumi.deb.yaml: no stack 'deb'\n  hint: did you mean 'dev'?" in result.err


def test_no_agent_at_all(repository: Repository, gitune: Gitune) -> None:
    result = gitune("up")
    said = "agents: no agent here\n  hint: gitune new AGENT --from FILE makes one"
    assert (result.code, said in result.err) == (1, True)


def test_outside_a_repository(tmp_path: Any, monkeypatch: pytest.MonkeyPatch, gitune: Gitune) -> None:
    monkeypatch.chdir(tmp_path)
    result = gitune("status")
    assert (result.code, "error: no Pulumi.yaml in" in result.err) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("upp",), "error: no command 'upp'\nhint: did you mean 'up'?"),
        (("up", "--retri"), "error: No such option"),
        (("chat",), "error: Missing argument 'ALIAS'"),
        (("chat", "nobody", "hello"), "error: no alias 'nobody'\nhint: nothing is deployed yet: run gitune up"),
        (("completion", "csh"), "error: Invalid value"),
    ],
)
def test_a_bad_command_line(arguments: tuple[str, ...], expected: str, repository: Repository, gitune: Gitune) -> None:
    repository.add_agent("support")
    result = gitune(*arguments)
    assert (result.code, expected in result.err) == (1, True), result.err
