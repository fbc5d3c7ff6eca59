"""A file of examples becomes an agent: recognised, proposed, cut in two, checked, and only then written."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import pty
import select
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gitune.dataset.chat import Example, Message
from gitune.dataset.rules.text import asked
from gitune.new_agent.cut import cut_cases
from gitune.new_agent.scoring import propose_scoring
from gitune.scorer_spec import Plain, Scorer
from tests.banking77 import FOLDER, available
from tests.conftest import Repository, Result, example, jsonl
from tests.servers.files import FileServer

Gitune = Callable[..., Result]
EXACT = Scorer(exact=Plain())
WORDS = ("anchor", "basket", "candle", "dragon", "engine", "forest", "guitar", "hammer", "island", "jacket")


def question(number: int) -> str:
    """No two are near each other."""
    return " ".join(WORDS[int(digit)] + digit * 3 for digit in f"{number * 7919:06}")


ROWS = [(question(number), f"intent_{number % 3}") for number in range(1, 91)]


@pytest.fixture(autouse=True)
def _stack(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITUNE_PROGRAM", "gitune")
    repository.write("Pulumi.training.yaml", "config:\n  gitune:declare: [models]\n")


def table(rows: Sequence[Sequence[str]], header: Sequence[str] = ("text", "intent"), delimiter: str = ",") -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows([header, *rows])
    return text.getvalue()


def made(gitune: Gitune, *arguments: str) -> dict[str, Any]:
    result = gitune("new", "support", *arguments, "--json")
    assert result.code == 0, result.err
    return json.loads(result.out)  # type: ignore[no-any-return]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def agent(repository: Repository) -> dict[str, Any]:
    return yaml.safe_load((repository.root / "agents/support/agent.yaml").read_text())  # type: ignore[no-any-return]


def parquet(rows: Sequence[Sequence[str]]) -> bytes:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet as files

    buffer = io.BytesIO()
    texts, intents = zip(*rows, strict=True)
    files.write_table(pyarrow.table({"text": texts, "intent": intents}), buffer)
    return buffer.getvalue()


OBJECTS = [{"text": text, "intent": intent} for text, intent in ROWS]
FILES: dict[str, tuple[Callable[[], str | bytes], str]] = {
    "messages.csv": (lambda: table(ROWS), "csv"),
    "tabs.csv": (lambda: table(ROWS, delimiter="\t"), "tsv"),
    "messages.tsv": (lambda: table(ROWS, delimiter="\t"), "tsv"),
    "messages.jsonl": (lambda: jsonl(OBJECTS), "jsonl"),
    "lines.json": (lambda: jsonl(OBJECTS), "jsonl"),
    "messages.json": (lambda: json.dumps(OBJECTS), "json"),
    "messages.csv.gz": (lambda: gzip.compress(table(ROWS).encode()), "csv"),
    "export": (lambda: table(ROWS), "csv"),
    "messages.parquet": (lambda: parquet(ROWS), "parquet"),
    "chat.jsonl": (lambda: jsonl([{"messages": [{"role": "user", "content": text},
                                                {"role": "assistant", "content": intent}]} for text, intent in ROWS]),
                   "jsonl"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_file_makes_the_same_agent(repository: Repository, gitune: Gitune, name: str) -> None:
    content, kind = FILES[name]
    repository.write(name, content())
    facts = made(gitune, "--from", name)
    assert (facts["kind"], facts["rows"], facts["scorer"]) == (kind, 90, "exact")
    assert (facts["cases"], facts["training"], facts["repeats"], facts["near_cases"]) == (30, 60, 0, 0)
    folder = repository.root / "agents/support"
    cases, training = lines(folder / "benchmark/cases.jsonl"), lines(folder / "data/train.jsonl")
    assert {case["messages"][0]["content"]: case["target"] for case in cases}.items() <= dict(ROWS).items()
    held_back = {case["messages"][0]["content"] for case in cases}
    trained = {row["messages"][0]["content"] for row in training}
    assert held_back | trained == {text for text, _ in ROWS}
    assert not held_back & trained
    assert Counter(case["target"] for case in cases) == {"intent_0": 10, "intent_1": 10, "intent_2": 10}
    assert gitune("validate").out == "1 agent(s) are right: support\n"


def test_the_file_says_what_was_proposed(repository: Repository, gitune: Gitune) -> None:
    repository.write("messages.csv", table(ROWS))
    repository.write("agents/agent.schema.json", "{}")
    result = gitune("new", "support", "--from", "messages.csv")
    assert result.out == (
        "from       messages.csv: csv, 90 rows\n"
        "shape      question: text; answer: intent\n"
        "scorer     exact: 3 distinct answers, none longer than 8 characters\n"
        "benchmark  30 of 90 questions\n"
        "training   60 examples, 10% held back to follow the loss\n"
        "wrote agents/support: agent.yaml and its benchmark and data\n"
        "next: gitune plan\n"
    )
    text = (repository.root / "agents/support/agent.yaml").read_text()
    assert text.startswith("# yaml-language-server: $schema=../agent.schema.json\n")
    assert agent(repository) == {
        "description": "Gives one of 3 answers.",
        "alias": "support",
        "dataset": {"sources": [{"path": "data/train.jsonl"}], "validation": 0.1},
        "training": [{"provider": "local"}],
        "benchmark": {"cases": "benchmark/cases.jsonl", "scorer": "exact", "max_new_tokens": 16},
        "gate": {"min_improvement": 0.08, "max_latency_seconds": 2},
    }
    assert sorted(path.name for path in (repository.root / ".gitune").iterdir()) in ([], ["stats"])


def test_every_answer_is_a_flag(repository: Repository, gitune: Gitune) -> None:
    rows = [(str(n), f"Ticket {n}", text, intent) for n, (text, intent) in enumerate(ROWS)]
    repository.write("tickets.csv", table(rows, ("id", "title", "what", "goes_to")))
    made(
        gitune, "--from", "tickets.csv", "--question", "{title}: {what}", "--answer", "goes_to", "--system",
        "Route it.", "--scorer", "normalised", "--cases", "12", "--examples", "40", "--validation", "0.25",
        "--provider", "openai", "--provider", "local",
        "--alias", "router", "--description", "Routes: all", "--licence", "CC-BY-4.0",
        "--rule", "near-duplicate=off", "--rule", "email=drop",
    )  # fmt: skip
    assert agent(repository) == {
        "description": "Routes: all",
        "alias": "router",
        "dataset": {
            "sources": [{"path": "data/train.jsonl", "licence": "CC-BY-4.0"}],
            "validation": 0.25,
            "examples": 40,
            "stratify_by": "assistant",
            "rules": {"near-duplicate": "off", "email": "drop"},
        },
        "training": [{"provider": "openai"}, {"provider": "local"}],
        "benchmark": {"cases": "benchmark/cases.jsonl", "scorer": "normalised", "max_new_tokens": 16},
        "gate": {"min_improvement": 0.08, "max_latency_seconds": 2},
    }
    (first, *others) = lines(repository.root / "agents/support/benchmark/cases.jsonl")
    assert len(others) == 11
    assert first["messages"][0] == {"role": "system", "content": "Route it."}
    assert first["messages"][1]["content"].startswith("Ticket ")


def test_a_linked_file_stays_where_it_is_and_its_cases_are_not_trained_on(
    repository: Repository, gitune: Gitune
) -> None:
    repository.write("agents/_data/messages.csv", table([*ROWS, ROWS[0]]))
    made(gitune, "--from", "agents/_data/messages.csv", "--link")
    (source,) = agent(repository)["dataset"]["sources"]
    assert source == {"path": "../_data/messages.csv", "columns": {"user": "text", "assistant": "intent"}}
    assert not (repository.root / "agents/support/data").exists()
    built = repository.root / gitune("dataset", "build", "support").out.strip()
    assert len(lines(built / "train.jsonl")) + len(lines(built / "validation.jsonl")) == 60


def test_a_file_elsewhere_is_copied_or_linked_by_its_content(repository: Repository, gitune: Gitune) -> None:
    pytest.importorskip("aiohttp")
    with FileServer() as server:
        server.files["/messages.csv"] = table(ROWS).encode()
        address = f"{server.url}/messages.csv"
        assert made(gitune, "--from", address)["training"] == 60
        assert gitune("new", "linked", "--from", address, "--link").code == 0
        assert gitune("validate").code == 0
        signed = gitune("new", "signed", "--from", f"{address}?sig=s3cret", "--link")
    source = yaml.safe_load((repository.root / "agents/linked/agent.yaml").read_text())["dataset"]["sources"][0]
    assert (source["path"], len(source["sha256"])) == (address, 64)
    assert (signed.code, "a URL with a secret cannot be linked" in signed.err) == (1, True)
    assert "s3cret" not in signed.err


@pytest.mark.skipif(not available(), reason="needs ../shared/data")
@pytest.mark.parametrize(
    ("file", "scorer", "columns", "cases"),
    [
        ("banking77_train.csv", "exact", {"user": "text", "assistant": "category"}, 300),
        ("gsm8k_test.jsonl", "number", {"user": "question", "assistant": "answer"}, 263),
        ("xstest_prompts.csv", "exact", {"user": "prompt", "assistant": "label"}, 90),
    ],
)
def test_public_files(
    repository: Repository, gitune: Gitune, file: str, scorer: str, columns: dict[str, str], cases: int
) -> None:
    facts = made(gitune, "--from", str(FOLDER / file))
    assert (facts["scorer"], facts["columns"], facts["cases"]) == (scorer, columns, cases)
    assert gitune("validate").code == 0


@pytest.mark.parametrize(
    ("answers", "scorer", "labels"),
    [
        (["yes", "no", "yes", "no", "yes", "no"], "exact", 2),
        (["12", "-3.5", "1,000"], "number", 0),
        (["3 apples and 2 pears are 5\n#### 5", "so\n#### 12", "#### 1,234"], "number", 0),
        (['{"a": 1}', '{"b": [2]}'], "json_fields", 0),
        (["Paris", "the Nile", "Ada Lovelace"], "normalised", 0),
        (["It opens at nine on every day of the week.", "You can bring it back for a month."], "f1", 0),
        (["word " * 60, "other " * 70], "rouge_l", 0),
    ],
)
def test_the_scorer_follows_the_answers(answers: list[str], scorer: str, labels: int) -> None:
    found = propose_scoring(answers)
    assert (found.scorer, found.labels) == (scorer, labels)
    assert found.max_new_tokens >= max(len(answer.split()) for answer in answers)


conversations = st.lists(
    st.tuples(st.sampled_from(["Where?", "where? ", "When", "WHEN", "who", "Why not"]), st.sampled_from("abc")),
    max_size=30,
)


@given(conversations, st.integers(1, 9), st.booleans())
def test_nothing_of_the_benchmark_is_trained_on(rows: list[tuple[str, str]], count: int, by_answer: bool) -> None:
    examples = [
        Example((Message("user", text), Message("assistant", answer)), "f", line)
        for line, (text, answer) in enumerate(rows, start=1)
    ]
    cut = cut_cases(examples, count, EXACT, by_answer=by_answer)
    assert not {asked(case.messages) for case in cut.cases} & {asked(example.messages) for example in cut.training}
    assert len(cut.cases) <= count
    assert len({case.case_id for case in cut.cases}) == len(cut.cases)
    again = cut_cases(examples[::-1], count, EXACT, by_answer=by_answer)
    assert {asked(case.messages) for case in again.cases} == {asked(case.messages) for case in cut.cases}
    for case in cut.cases:  # a question with two answers has no right one
        said = {answer for text, answer in rows if asked((Message("user", text),)) == asked(case.messages)}
        assert said == {case.target}


def test_what_is_near_a_case_is_not_trained_on(repository: Repository, gitune: Gitune) -> None:
    nearly = [(f"{text}!", answer) for text, answer in ROWS]
    repository.write("messages.csv", table([*ROWS, *nearly, *ROWS[:5]]))
    facts = made(gitune, "--from", "messages.csv", "--cases", "20")
    assert (facts["repeats"], facts["questions"], facts["cases"]) == (5, 180, 20)
    assert facts["near_cases"] > 0
    assert facts["training"] + facts["near_cases"] + facts["cases"] == 180
    assert gitune("validate").code == 0


@pytest.mark.parametrize(
    ("name", "content", "arguments", "said"),
    [
        ("a.csv", "text,intent\nhello,a\nbye\n", [], "a.csv:3: 1 cells in a row, but 2 columns"),
        ("a.csv", "text;intent\nhello;a\n", [], "a.csv:1: semicolons part its columns\n  hint: save it with commas"),
        ("a.csv", "text,intent\n", [], "a.csv: no row in this file"),
        ("a.csv", "", [], "a.csv: no row in this file"),
        ("a.xlsx", b"PK\x03\x04rest", [], "a.xlsx: a spreadsheet or a zip archive"),
        ("a.csv", "text,intent\nhi,é".encode("utf-16"), [], "a.csv: UTF-16 or UTF-32, not UTF-8 text"),
        ("a.jsonl", '{"text": "a", "intent": "b"}\n{"text": \n', [], "a.jsonl:2: not valid JSON"),
        ("a.csv", "x,y,z\na,b,c\nd,e,f\n", [], "a.csv:1: which column is the question? there are: x, y, z"),
        ("a.csv", "text,y,z\na,b,c\nd,e,f\n", [], "a.csv:1: which column is the answer? there are: text, y, z"),
        ("a.csv", table(ROWS), ["--answer", "intend"], "a.csv:1: no column 'intend' for --answer in every row"),
        ("a.csv", table([*ROWS, ("", "a")]), [], "a.csv:92: messages[0].content must be text that is not empty"),
        ("a.csv", table([*ROWS, ("I am bob@corp.io", "intent_1")]), [],
         "a.csv:92: an e-mail address in messages[0] at character 6\n  hint: replace"),
        ("a.csv", table(ROWS[:1]), [], "a.csv: no question can be held back for the benchmark"),
        ("a.csv", table(ROWS), ["--cases", "89"], "a.csv: only 87 of 90 questions can be held back, not 89"),
        ("a.csv", table(ROWS), ["--scorer", "exakt"], "hint: did you mean 'exact'?"),
        ("a.csv", table([(text, "yes") for text, _ in ROWS]), ["--scorer", "number"],
         "a.csv:2: the scorer 'number' needs a number in 'target'\n  hint: --scorer names another"),
        ("a.csv", table(ROWS), ["--provider", "lokal"], "error: no provider 'lokal'\nhint: did you mean 'local'?"),
        ("a.csv", table(ROWS), ["--rule", "email=maybe"], "'email=maybe' is not RULE=ACTION"),
        ("a.csv", table(ROWS), ["--validation", "0.9"], "Invalid value for '--validation'"),
        ("../a.csv", table(ROWS), ["--link"], "../a.csv: outside agents/, so it cannot be linked"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_and_nothing_is_written(
    repository: Repository, gitune: Gitune, name: str, content: str | bytes, arguments: list[str], said: str
) -> None:
    repository.write(name, content)
    result = gitune("new", "support", "--from", name, *arguments)
    assert (result.code, said in result.err) == (1, True), result.err
    assert "Traceback" not in result.err
    assert list((repository.root / "agents").iterdir()) == []
    state = repository.root / ".gitune"
    assert not state.exists() or not [path for path in state.iterdir() if path.name.startswith("new-")]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["support", "--from", "a.csv"], "error: agents/support is there already"),
        (["other", "--from", "a.csv", "--alias", "support"], "error: alias 'support' is already taken"),
        (["Bad", "--from", "a.csv"], "error: bad agent name 'Bad'"),
        (["other"], "error: no examples to make an agent of\nhint: --from FILE"),
        (["other", "--from", "b.csv"], "b.csv: no such file"),
        (["other", "--from", "."], ".: a folder, not a file"),
        (["other", "--from", "https://me:secret@example.org/a.csv"], "must not hold a password"),
    ],
)
def test_names_and_files(repository: Repository, gitune: Gitune, arguments: list[str], said: str) -> None:
    repository.write("a.csv", table(ROWS))
    made(gitune, "--from", "a.csv")
    result = gitune("new", *arguments)
    assert (result.code, said in result.err) == (1, True), result.err
    assert "secret@" not in result.err
    assert [path.name for path in (repository.root / "agents").iterdir()] == ["support"]


def test_what_breaks_a_rule_can_be_left_out(repository: Repository, gitune: Gitune) -> None:
    repository.write("a.csv", table([*ROWS, ("write to bob@corp.io", "intent_1")]))
    result = gitune("new", "support", "--from", "a.csv")
    assert "--rule email=drop leaves such examples out, warn and off keep them" in result.err
    assert made(gitune, "--from", "a.csv", "--rule", "email=drop")["dropped"] == 1
    assert not [path for path in repository.root.glob("agents/**/*.jsonl") if "corp.io" in path.read_text()]
    assert gitune("validate").code == 0


def talk(arguments: Sequence[str], answers: Sequence[str]) -> tuple[int, str]:
    """The command line on a terminal, where each question gets the next answer."""
    child, terminal = pty.fork()
    if child == 0:
        program = "from gitune.commands import main; main()"
        os.execve(sys.executable, [sys.executable, "-c", program, *arguments], {**os.environ, "NO_COLOR": "1"})
    said, left = b"", list(answers)
    while select.select([terminal], [], [], 60)[0]:
        try:
            read = os.read(terminal, 4096)
        except OSError:  # Linux says so when the other side has closed
            break
        said += read
        if left and said.endswith(b": "):
            os.write(terminal, f"{left.pop(0)}\n".encode())
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said.decode()


def test_on_a_terminal_it_asks_what_no_flag_said(repository: Repository) -> None:
    repository.write("a.csv", table(ROWS))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", environment["PYTHONPATH"])
        code, said = talk(["new", "support", "--answer", "intent"], ["a.csv", "", "Name it.", "", "12", ""])
        assert code == 0, said
        assert "Column of the question, of text, intent? [text]: " in said
        assert "Column of the answer" not in said
        assert agent(repository)["benchmark"]["scorer"] == "exact"
        cases = lines(repository.root / "agents/support/benchmark/cases.jsonl")
        assert (len(cases), cases[0]["messages"][0]["content"]) == (12, "Name it.")
        repository.write("b.csv", table([(*row, "x") for row in ROWS], ("a", "b", "c")))
        code, said = talk(["new", "other", "--from", "b.csv"], ["a", "b", "", "", "", "no"])
    assert (code, "nothing was written" in said) == (0, True)
    assert not (repository.root / "agents/other").exists()


def test_a_system_message_goes_before_conversations_that_have_none(repository: Repository, gitune: Gitune) -> None:
    bare = [{"messages": example(text, intent)["messages"][1:]} for text, intent in ROWS[1:]]
    repository.write("a.jsonl", jsonl([example(*ROWS[0]), *bare]))
    made(gitune, "--from", "a.jsonl", "--system", "Say which.")
    rows = lines(repository.root / "agents/support/data/train.jsonl")
    rows += lines(repository.root / "agents/support/benchmark/cases.jsonl")
    systems = Counter(row["messages"][0]["content"] for row in rows)
    assert systems == {"Say which.": 89, "Name the intent of the customer's message.": 1}
