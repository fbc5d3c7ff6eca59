"""gitune dataset: build, show, stats, diff."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from gitune.dataset.compare import compare
from gitune.hashing import canonical_json
from tests.conftest import Repository, Result, agent_yaml, example, jsonl

Gitune = Callable[..., Result]
EXAMPLES = [example(f"which parcel number {i} is it", f"intent_{i % 3}") for i in range(30)]


def line(user: str, assistant: str) -> str:
    return canonical_json(example(user, assistant))


def test_build_writes_what_the_rules_found_and_the_card(repository: Repository, gitune: Gitune) -> None:
    dirty = [*EXAMPLES, EXAMPLES[0]]
    rules = {"exact-duplicate": "drop"}
    source = [{"path": "data/train.jsonl", "licence": "CC0-1.0"}]
    repository.add_agent("qa", agent_yaml(dataset={"sources": source, "rules": rules}), examples=dirty)
    result = gitune("dataset", "build", "qa")
    assert result.code == 0, result.err
    folder = repository.root / result.out.strip()
    (finding,) = [
        row for row in map(json.loads, (folder / "findings.jsonl").read_text().splitlines()) if row["dropped"]
    ]
    assert (finding["rule"], finding["file"], finding["line"]) == ("exact-duplicate", "agents/qa/data/train.jsonl", 31)
    card = (folder / "card.md").read_text()
    assert "| agents/qa/data/train.jsonl | CC0-1.0 |" in card
    assert card == gitune("dataset", "show", folder.name[:8]).out
    shown = gitune("dataset", "show", "qa").out  # with tokens as the base model counts them
    assert card.partition("## Tokens")[0] == shown.partition("## Tokens")[0]


def test_stats_count_what_is_there(repository: Repository, gitune: Gitune) -> None:
    repository.add_agent("qa", examples=EXAMPLES)
    stats = json.loads(gitune("dataset", "stats", "qa", "--json").out)
    assert stats["examples"] == 30
    assert stats["categories"] == {"intent_0": 10, "intent_1": 10, "intent_2": 10}
    assert stats["tokens"] >= 30 * 8


def test_diff_tells_added_removed_and_changed(repository: Repository, gitune: Gitune) -> None:
    repository.add_agent("qa", examples=EXAMPLES)
    first = json.loads(gitune("dataset", "build", "qa", "--json").out)["fingerprint"]
    after = [example("which parcel number 1 is it", "intent_9"), *EXAMPLES[2:], example("quite new", "intent_0")]
    repository.write("agents/qa/data/train.jsonl", jsonl(after))
    found = json.loads(gitune("dataset", "diff", "qa", first[:10], "--json").out)
    assert [json.loads(text)["messages"][1]["content"] for text in found["added"]] == ["quite new"]
    assert [json.loads(text)["messages"][1]["content"] for text in found["removed"]] == ["which parcel number 0 is it"]
    assert len(found["changed"]) == 1
    assert found["categories"] == {"intent_1": [10, 9], "intent_9": [0, 1]}
    assert "\n1 added, 1 removed, 1 changed\n" in gitune("dataset", "diff", "qa", first).out


def test_a_declared_language_is_checked(repository: Repository, gitune: Gitune) -> None:
    german = example("Guten Tag, ich warte seit zwei Wochen auf mein Paket und niemand antwortet mir", "intent_0")
    source = [{"path": "data/train.jsonl"}]
    repository.add_agent(
        "qa",
        agent_yaml(dataset={"sources": source, "language": "en", "rules": {"language": "error"}}),
        examples=[*EXAMPLES, german],
    )
    result = gitune("validate")
    assert (result.code, "agents/qa/data/train.jsonl:31: " in result.err) == (1, True), result.err


def test_an_unknown_fingerprint_is_an_error(repository: Repository, gitune: Gitune) -> None:
    repository.add_agent("qa", examples=EXAMPLES)
    result = gitune("dataset", "diff", "qa", "abc")
    assert (result.code, "error: no dataset and no git revision 'abc' here\nhint: " in result.err) == (1, True)


@pytest.mark.parametrize("word", ["biuld", ""])
def test_an_unknown_subcommand_is_an_error(word: str, repository: Repository, gitune: Gitune) -> None:
    assert gitune("dataset", word).code == 1


def test_a_changed_answer_is_not_added_and_removed() -> None:
    found = compare([line("a", "x"), line("b", "x")], [line("a", "y"), line("b", "x")])
    assert (found.added, found.removed) == ((), ())
    assert found.changed == ((line("a", "x"), line("a", "y")),)
    assert compare([line("a", "x")], [line("a", "x")]).categories == {}
