"""Files of every kind are read alike, and what is wrong with one is one clear error with its place."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from gitune.dataset import index as index_module
from gitune.dataset import workers
from gitune.dataset.build import assemble
from gitune.dataset.formats import Reader
from gitune.dataset.index import Input, build_index
from gitune.dataset.rules import DEFAULTS
from gitune.dataset.sources import SourceFile
from gitune.errors import UserError
from gitune.spec import load_agents
from tests.conftest import Repository, Result, agent_yaml, example, jsonl

Gitune = Callable[..., Result]
OFF: dict[str, str] = {**dict.fromkeys(DEFAULTS, "off"), "exact-duplicate": "error"}
AGENT = "agents/qa/agent.yaml"
ROWS = [{"text": f'Grüße {i}, "so"\nund so', "label": "a" if i % 2 else "b"} for i in range(7)]
COLUMNS = {"user": "text", "assistant": "label"}


def zstd(content: bytes) -> bytes:
    return bytes(pytest.importorskip("zstandard").ZstdCompressor().compress(content))


def delimited(mark: str) -> bytes:
    import csv

    file = io.StringIO()
    writer = csv.DictWriter(file, ["text", "label"], delimiter=mark)
    writer.writeheader()
    writer.writerows(ROWS)
    return file.getvalue().encode()


def parquet(rows: list[dict[str, Any]]) -> bytes:
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet as writer

    file = io.BytesIO()
    writer.write_table(arrow.Table.from_pylist(rows), file)
    return file.getvalue()


def add(repository: Repository, name: str, content: bytes, **source: Any) -> None:
    dataset = {"sources": [{"path": f"data/{name}", **source}], "validation": 0.0, "rules": OFF}
    repository.add_agent("qa", agent_yaml(dataset=dataset))
    repository.write(f"agents/qa/data/{name}", content)


def problems(gitune: Gitune) -> list[str]:
    """What `gitune validate` says, hints with their problems. Nothing may be written, and no traceback be seen."""
    result = gitune("validate")
    assert (result.code, result.out) == (1, "")
    *said, last = re.split(r"\n(?! )", result.err.rstrip())
    assert last == f"error: {len(said)} problem(s); nothing was started"
    return said


LINES = jsonl(ROWS).encode()
KINDS = {
    "rows.jsonl": lambda: LINES,
    "rows.ndjson": lambda: b"\xef\xbb\xbf" + LINES.replace(b"\n", b"\r\n"),
    "rows.jsonl.gz": lambda: gzip.compress(LINES),
    "rows.jsonl.zst": lambda: zstd(LINES),
    "rows.json": lambda: json.dumps(ROWS, indent=2).encode(),
    "lines.json": lambda: LINES,
    "rows.json.gz": lambda: gzip.compress(json.dumps(ROWS).encode()),
    "rows.csv": lambda: delimited(","),
    "rows.csv.gz": lambda: gzip.compress(b"\xef\xbb\xbf" + delimited(",")),
    "rows.tsv.zst": lambda: zstd(delimited("\t")),
    "rows.parquet": lambda: parquet(ROWS),
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_file_holds_the_same_examples(name: str, repository: Repository) -> None:
    add(repository, name, KINDS[name](), columns=COLUMNS)
    (spec,) = load_agents(repository.root)
    found = assemble(spec, repository.root)
    assert found.problems == ()
    assert sorted([m.content for m in e.messages] for e in found.examples) == [[r["text"], r["label"]] for r in ROWS]
    assert [share.taken for share in found.choice.shares] == [7]


def test_globs_take_every_file_once(repository: Repository) -> None:
    add(repository, "b/one.csv", delimited(","), columns=COLUMNS)
    other = [{"text": f"more {i}", "label": "c"} for i in range(3)]
    repository.write("agents/qa/data/b/two.jsonl", jsonl(other))
    sources = [{"path": "data/**/*.*l", "columns": COLUMNS}, {"path": "data/b/*", "columns": {**COLUMNS}}]
    repository.write("agents/qa/data/train.jsonl", jsonl([{"text": "x", "label": "y"}]))
    repository.write(AGENT, yaml.safe_dump(agent_yaml(dataset={"sources": sources, "rules": OFF})))
    (spec,) = load_agents(repository.root)
    found = assemble(spec, repository.root)
    assert (found.problems, len(found.examples)) == ((), 11)


BAD: dict[str, tuple[str, bytes, str]] = {
    # file name, content, what must be said after agents/qa/data/
    "cut gzip": ("t.jsonl.gz", gzip.compress(LINES)[:-9], "t.jsonl.gz: damaged gzip"),
    "no gzip": ("t.jsonl.gz", LINES, "t.jsonl.gz: damaged gzip"),
    "no zstd": ("t.jsonl.zst", LINES, "t.jsonl.zst: damaged zstd"),
    "no Parquet": ("t.parquet", LINES, "t.parquet: not valid Parquet"),
    "empty Parquet": ("t.parquet", b"", "t.parquet: not valid Parquet"),
    "packed Parquet": ("t.parquet.gz", b"", "t.parquet.gz: Parquet packs its own columns"),
    "truncated JSON": ("t.json", json.dumps(ROWS).encode()[:-20], "t.json:1: not valid JSON"),
    "JSON without an end": ("t.json", b'[{"text": "a", "label": "b"}\n\n', "t.json:3: not valid JSON: the list has no"),
    "a JSON list of lists": ("t.json", b"[\n[1]]", "t.json:2: not a JSON object"),
    "a JSON text": ("t.json", b'"x"', "t.json:1: not a JSON list"),
    "empty JSON list": ("t.json", b"[]", "t.json: no example in this file"),
    "JSON in Latin-1": ("t.json", '[{"text": "Grüße"}]'.encode("latin-1"), "t.json: not UTF-8 text"),
    "JSON nested deep": ("t.json", b"[" * 100_000, "t.json:1: not valid JSON: nested too deep"),
    "CSV in UTF-16": ("t.csv", delimited(",").decode().encode("utf-16"), "t.csv: UTF-16 or UTF-32, not UTF-8"),
    "CSV in Latin-1": ("t.csv", "text,label\na,b\nGrüße,c\n".encode("latin-1"), "t.csv:3: not UTF-8 text"),
    "CSV with a null byte": ("t.csv", b"text,label\na\x00,b\n", "t.csv:2: holds a null byte"),
    "CSV row too short": ("t.csv", b"text,label\na,b\nc\n", "t.csv:3: 1 cells in a row, but 2 columns"),
    "CSV row too long": ("t.csv", b"text,label\na,b,c\n", "t.csv:2: 3 cells in a row, but 2 columns"),
    "CSV quote left open": ("t.csv", b'text,label\n"a,b\n', "t.csv:2: not valid CSV"),
    "CSV huge cell": ("t.csv", b"text,label\n" + b"x" * 1_100_000 + b",b\n", "t.csv:2: not valid CSV"),
    "CSV column twice": ("t.csv", b"text,text\na,b\n", "t.csv:1: column 'text' stands twice"),
    "CSV without a name": ("t.csv", b"text,\na,b\n", "t.csv:1: a column without a name"),
    "CSV header only": ("t.csv", b"text,label\n", "t.csv: no example in this file"),
    "CSV empty cell": ("t.csv", b"text,label\na,b\n,c\n", "t.csv:3: messages[0].content must be text"),
    "CSV other column": ("t.csv", b"texts,label\na,b\n", "t.csv:2: no column 'text' for user\n  hint: did you mean"),
    "empty file": ("t.jsonl", b"", "t.jsonl: no example in this file"),
    "50 MB line": ("t.jsonl", b'{"text": "' + b"x" * 50_000_000 + b'"}\n', "t.jsonl:1: a line of more than 1 MB"),
    "50 MB without an end": ("t.jsonl", LINES + b"x" * 50_000_000, "t.jsonl:8: a line of more than 1 MB"),
    "null bytes": ("t.jsonl", LINES + b"\x00" * 100, "t.jsonl:8: not valid JSON"),
    "UTF-16": ("t.jsonl", LINES.decode().encode("utf-16"), "t.jsonl: UTF-16 or UTF-32, not UTF-8 text"),
    "UTF-16 without a mark": ("t.jsonl", LINES.decode().encode("utf-16-be"), "t.jsonl: UTF-16 or UTF-32, not UTF-8"),
    "UTF-32": ("t.jsonl", LINES.decode().encode("utf-32"), "t.jsonl: UTF-16 or UTF-32, not UTF-8 text"),
    "nothing but null bytes": ("t.jsonl", b"\x00" * 50_000_000, "t.jsonl: nothing but null bytes"),
    "a picture": ("t.jsonl", b"\x89PNG\r\n\x1a\n\x00\x00\n\xff\n" * 9, "t.jsonl: not text: it holds null bytes"),
    "a picture as JSON": ("t.json", b"\x89PNG\r\n\x1a\n\x00\x00\n\xff", "t.json: not text: it holds null bytes"),
    "cut within a letter": ("t.jsonl", LINES + '{"text": "é'.encode()[:-1], "t.jsonl:8: not UTF-8 text"),
    "cut within an object": ("t.jsonl", LINES + b'{"text": "a", "la', "t.jsonl:8: not valid JSON"),
    "old Mac line ends": ("t.jsonl", LINES.replace(b"\n", b"\r"), "t.jsonl:1: not valid JSON: Extra data"),
    "nested deep": ("t.jsonl", LINES + b'{"text":' * 50_000, "t.jsonl:8: not valid JSON: nested too deep"),
    "a number of 5,000 digits": ("t.jsonl", LINES + b'{"text": ' + b"9" * 5_000 + b"}", "t.jsonl:8: not valid JSON"),
    "a list": ("t.jsonl", LINES + b"[]\n", "t.jsonl:8: not a JSON object"),
    "a text": ("t.jsonl", LINES + b'"a"\n', "t.jsonl:8: not a JSON object"),
    "null": ("t.jsonl", LINES + b"null\n", "t.jsonl:8: not a JSON object"),
    "half a character": (
        "t.jsonl",
        LINES + b'{"text": "\\ud800", "label": "b"}\n',
        "t.jsonl:8: messages[0].content holds",
    ),
    "not a number": ("t.jsonl", LINES + b'{"text": NaN, "label": "b"}\n', "t.jsonl:8: not valid JSON: NaN is not"),
    "mixed types": ("t.jsonl", LINES + b'{"text": ["a"], "label": "b"}\n', "t.jsonl:8: messages[0].content must be"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_one_clear_problem(name: str, repository: Repository, gitune: Gitune) -> None:
    file, content, expected = BAD[name]
    if file.endswith(".zst"):
        pytest.importorskip("zstandard")
    add(repository, file, content, columns=COLUMNS)
    (said,) = problems(gitune)
    assert said.startswith(f"agents/qa/data/{expected}")
    assert not (repository.root / ".gitune").exists()


def test_another_shape_in_the_same_file(repository: Repository, gitune: Gitune) -> None:
    content = jsonl([example("a", "b"), {"prompt": "c", "completion": "d"}]).encode()
    add(repository, "t.jsonl", content)
    assert problems(gitune) == [
        "agents/qa/data/t.jsonl:2: 'messages' is missing\n  hint: every row of a messages file has 'messages'"
    ]


def test_an_unknown_shape_is_one_problem(repository: Repository, gitune: Gitune) -> None:
    add(repository, "t.jsonl", jsonl([{"query": "a", "response": "b"}] * 100).encode())
    (said,) = problems(gitune)
    assert said.startswith('agents/qa/data/t.jsonl:1: \'messages\' is missing and no other format fits: {"query": "a"')
    assert "hint: the closest format is" in said


def test_many_problems_of_one_file_are_cut(repository: Repository, gitune: Gitune) -> None:
    add(repository, "t.jsonl", b"nonsense\n" * 100)
    said = problems(gitune)
    assert len(said) == 21
    assert "more problems follow" in said[-1]


SPECS: dict[str, tuple[dict[str, Any], str]] = {
    "sum": ({"mix": {"qa": 0.6, "bb": 0.3}}, "'dataset.mix' sums to 0.9, not to 1"),
    "negative share": ({"mix": {"qa": 1.5, "bb": -0.5}}, "'dataset.mix."),
    "no share": ({"mix": {}}, "'dataset.mix' needs at least 1"),
    "unknown agent": ({"mix": {"qa": 0.6, "bbb": 0.4}}, "no agent 'bbb' to mix\n  hint: did you mean 'bb'?"),
    "its own dataset": ({"sources": [{"path": "../../.gitune/datasets/x.jsonl"}]}, "is what gitune made, not a source"),
    "negative size": ({"examples": -5}, "'dataset.examples': input should be greater than or equal to 1"),
    "over the sum": ({"mix": {"qa": 0.9, "bb": 0.9}}, "'dataset.mix' sums to 1.8, not to 1"),
    "no number": ({"mix": {"qa": float("nan"), "bb": 1.0}}, "'dataset.mix.qa': input should be"),
    "endless": ({"mix": {"qa": float("inf"), "bb": 1.0}}, "'dataset.mix.qa': input should be"),
    "a word": ({"mix": {"qa": "half", "bb": 0.5}}, "'dataset.mix.qa' must be a number, not 'half'"),
    "shares in a list": ({"mix": [0.5, 0.5]}, "'dataset.mix' must be a mapping of keys to values, not a list"),
    "negative validation": ({"validation": -0.1}, "'dataset.validation': input should be greater than or equal to 0"),
    "negative seed": ({"seed": -1}, "'dataset.seed': input should be greater than or equal to 0"),
    "size true": ({"examples": True}, "'dataset.examples' must be a whole number, not true/false"),
    "long name": ({"sources": [{"path": "a" * 5_000}]}, "is outside the repository"),
    "a folder": ({"sources": [{"path": "data"}]}, "no such file: 'data'"),
    "a chain of addresses": ({"sources": [{"path": "simplecache::file:///etc/x"}]}, "is not an address"),
    "half an address": ({"sources": [{"path": "://x"}]}, "'://x' is not an address"),
    "no size": ({"examples": 0}, "'dataset.examples': input should be greater than or equal to 1"),
    "half a size": ({"examples": 2.5}, "'dataset.examples' must be a whole number, not '2.5'"),
    "strata of everything": ({"stratify_by": "kind"}, "'dataset.stratify_by' does nothing where all examples"),
    "no file": ({"sources": [{"path": "data/*.csv"}]}, "no file matches 'data/*.csv'"),
    "outside": ({"sources": [{"path": "../../../*.txt"}]}, "is outside the repository"),
    "glob from the root": ({"sources": [{"path": "/etc/*"}]}, "is outside the repository"),
    "unknown format": ({"sources": [{"path": "data/train.jsonl", "format": "x"}]}, "cannot be 'x'"),
    "both": (
        {"sources": [{"path": "data/train.jsonl", "format": "alpaca", "columns": COLUMNS}]},
        "either format or columns, not both",
    ),
    "bad template": (
        {"sources": [{"path": "data/train.jsonl", "columns": {"user": "{a.b}", "assistant": "b"}}]},
        "bad template: '{a.b}' is not a column",
    ),
    "open brace": (
        {"sources": [{"path": "data/train.jsonl", "columns": {"user": "{a", "assistant": "b"}}]},
        "bad template",
    ),
    "half a mapping": ({"sources": [{"path": "data/train.jsonl", "columns": {"user": "a"}}]}, "columns.assistant' is"),
    "pinned": ({"sources": [{"path": "data/train.jsonl", "sha256": "0" * 64}]}, "only a remote source is pinned"),
}


@pytest.mark.parametrize("name", SPECS)
def test_a_bad_spec_is_one_clear_problem(name: str, repository: Repository, gitune: Gitune) -> None:
    dataset, expected = SPECS[name]
    repository.add_agent("bb")
    repository.write(".gitune/datasets/x.jsonl", "{}")
    repository.write("../outside.txt", "")
    sources = [{"path": "data/train.jsonl"}]
    repository.add_agent("qa", agent_yaml(dataset={"sources": sources, **dataset}))
    said = problems(gitune)
    assert all(line.startswith(f"{AGENT}:") for line in said)
    assert any(expected in line for line in said), said
    assert len(said) == (2 if name == "negative share" else 1)


def test_a_missing_stratum_has_its_place(repository: Repository, gitune: Gitune) -> None:
    rows = [{**example(f"m{i}", "a"), "metadata": {"kind": i % 2}} for i in range(5)]
    repository.add_agent("qa", examples=[*rows, example("m5", "a")])
    dataset = {"sources": [{"path": "data/train.jsonl"}], "examples": 3, "stratify_by": "kind", "rules": OFF}
    repository.write(AGENT, yaml.safe_dump(agent_yaml(dataset=dataset)))
    assert problems(gitune) == [
        "agents/qa/data/train.jsonl:6: no 'kind' to stratify by\n  hint: columns: messages; or 'assistant', the answer"
    ]


# --- large files ------------------------------------------------------------------------------------------------------


def _index(path: Path) -> tuple[Any, ...]:
    found = build_index([Input(SourceFile.of(path, "f.jsonl"), Reader("messages", source="qa"))])
    records = [record for ring in found.rings.of("qa").values() for record in ring.walk()]
    places = [(record.place, record.position, found.where(record)) for record in records]
    lines = sorted(example.line for example in found.fetch(records).values())
    return places, lines, found.counts, found.problems


@pytest.mark.parametrize("bad", ["", "nonsense\n", "x" * 30_000 + "\n"])
def test_processes_find_what_one_finds(bad: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [json.dumps(example(f"m{i}", "a")) + "\n" for i in range(500)]
    path = tmp_path / "f.jsonl"
    path.write_text("\ufeff" + "".join(lines[:300]) + bad + "\n\n" + "".join(lines[300:]).rstrip("\n"))
    alone = _index(path)
    monkeypatch.setattr(index_module, "MIN_BYTES", 1)
    monkeypatch.setattr(workers, "BLOCK_BYTES", 10_000)
    assert _index(path) == alone
    assert len(alone[-1]) == bool(bad)


def test_a_file_that_changes_meanwhile_is_told(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    path.write_text(jsonl([example(f"m{i}", "a") for i in range(5)]))
    found = build_index([Input(SourceFile.of(path, "f.jsonl"), Reader("messages", source="qa"))])
    records = [next(ring.walk()) for ring in found.rings.of("qa").values()]
    path.write_text(jsonl([example(f"n{i}", "a") for i in range(5)]))
    with pytest.raises(UserError, match=r"f\.jsonl: the file changed while it was read"):
        found.fetch(records)


# --- remote files: the memory file system of fsspec stands for all ---------------------------------------------------


def _remote(repository: Repository, **source: Any) -> Any:
    dataset = {"sources": [{"path": "memory://bucket/train.jsonl", **source}], "validation": 0.0, "rules": OFF}
    repository.add_agent("qa", agent_yaml(dataset=dataset))
    (spec,) = load_agents(repository.root)
    return assemble(spec, repository.root)


def test_a_remote_source_is_recorded_by_its_content(repository: Repository) -> None:
    fsspec = pytest.importorskip("fsspec")
    content = jsonl([example(f"m{i}", "a") for i in range(5)]).encode()
    memory = fsspec.filesystem("memory")
    memory.pipe("/bucket/train.jsonl", content)
    digest = hashlib.sha256(content).hexdigest()
    found = _remote(repository)
    assert (len(found.examples), [source.sha256 for source in found.sources]) == (5, [digest])
    assert (repository.root / ".gitune" / "sources" / digest).read_bytes() == content
    memory.pipe("/bucket/train.jsonl", content + jsonl([example(f"n{i}", "a") for i in range(5)]).encode())
    assert len(_remote(repository).examples) == 10
    assert len(_remote(repository, sha256=digest).examples) == 5  # here by content: not asked for again
    with pytest.raises(UserError, match=r"its content has SHA-256 .*, but sha256 says 0000"):
        _remote(repository, sha256="0" * 64)
    memory.rm("/bucket/train.jsonl")
    with pytest.raises(UserError, match=r"memory://bucket/train\.jsonl: cannot be read"):
        _remote(repository)


def test_a_remote_source_of_an_unknown_kind(repository: Repository, gitune: Gitune) -> None:
    pytest.importorskip("fsspec")
    repository.add_agent("qa", agent_yaml(dataset={"sources": [{"path": "ftpx://a/b.jsonl"}]}))
    (said,) = problems(gitune)
    assert said.startswith(f"{AGENT}:4: ftpx://a/b.jsonl: Protocol not known: ftpx")
    assert said.endswith("\n  hint: known: hf://, s3://, gs://, https://")
