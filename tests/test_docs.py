"""The docs say what is: the reference is the code's, and commands, files and modules that they name exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
import yaml

from gitune.commands import cli
from scripts.reference import pages
from tests.conftest import REPOSITORY, Repository, Result

DOCS = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
_FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")
_CALL = re.compile(r"(?:^|[|;&$(:] *)(?:[A-Z_]+=\S+ )*(?:scripts/|\.venv/bin/)?gitune ([a-z-][^|;&)]*)")
_PLACEHOLDERS = {"ALIAS": "support", "AGENT": "support", "STACK": "dev", "FINGERPRINT": "0" * 64}


def _pieces(path: Path) -> Iterator[str]:
    """What stands in code: each line of a block that is not another language's, and each word between backticks."""
    text = path.read_text(encoding="utf-8")
    for language, block in _FENCE.findall(text):
        if language in ("", "sh"):
            yield from block.replace("\\\n", " ").splitlines()
    yield from _CODE.findall(_FENCE.sub("", text))


def _calls() -> Iterator[tuple[str, str]]:
    for path in DOCS:
        if path.name == "cli.md":  # the help itself
            continue
        for piece in _pieces(path):
            for call in _CALL.findall(re.sub(r" +#.*", "", piece.strip())):
                yield str(path.relative_to(REPOSITORY)), call.rstrip(" :")


@pytest.mark.parametrize(("document", "call"), sorted(set(_calls())))
def test_the_docs_name_only_commands_and_options_that_exist(document: str, call: str) -> None:
    words = [_PLACEHOLDERS.get(word, word) for word in shlex.split(call) if word != "..."]
    command: click.Command = cli
    context = click.Context(cli, info_name="gitune", **cli.context_settings)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(context, words[0])
        assert found is not None, f"{document}: gitune {call}"
        command, words = found, words[1:]
        context = click.Context(command, context, command.name, **command.context_settings)
    if not words:  # spoken of, not called
        return
    values, left, _ = command.make_parser(context).parse_args(words)
    assert not left, f"{document}: gitune {call}"
    for parameter in command.params:
        value = values.get(parameter.name)
        if isinstance(parameter.type, click.Choice) and value is not None:
            parameter.type_cast_value(context, value)
        assert value or not (isinstance(parameter, click.Argument) and parameter.required), f"{document}: {call}"


_PATH = re.compile(r"^(?:\.\./)*((?:scripts|infra|tests|requirements|agents|\.github)/[\w./-]*\w)$")


@pytest.mark.parametrize("path", DOCS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_the_docs_name_only_files_that_exist(path: Path) -> None:
    words = {word for piece in _pieces(path) for word in piece.split()}
    named = {match[1] for match in map(_PATH.match, words) if match}
    written = ("/model.lock.yaml", "/passports")  # by gitune, in a repository that trains
    assert {name for name in named if not (REPOSITORY / name).exists() and not name.endswith(written)} == set()


def test_the_architecture_names_every_module_and_no_other() -> None:
    """Each package and each module beside them; those inside a package may go unnamed."""
    text = (REPOSITORY / "docs/architecture.md").read_text(encoding="utf-8")
    package = REPOSITORY / "infra/gitune"
    code = "\n".join([block for _, block in _FENCE.findall(text)] + _CODE.findall(text))
    missing = {
        path.name
        for path in package.iterdir()
        if (path.suffix == ".py" and path.stem != "__init__" or (path / "__init__.py").exists())
        and not re.search(rf"\b{path.stem}\b", code)
    }
    assert missing == set()
    there = {path.name for path in REPOSITORY.glob("infra/**/*.py")}
    assert {name for name in re.findall(r"\b\w+\.py\b", code)} - there == set()


@pytest.mark.parametrize("name", pages())
def test_the_reference_is_what_the_code_says(name: str) -> None:
    written = (REPOSITORY / "docs/reference" / name).read_text(encoding="utf-8")
    assert written == pages()[name], "run: .venv/bin/python scripts/reference.py"


def test_the_reference_has_nothing_else() -> None:
    assert {path.name for path in (REPOSITORY / "docs/reference").iterdir()} == set(pages())


def test_the_readme_shows_an_agent_that_is_right(repository: Repository, gitune: Callable[..., Result]) -> None:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    repository.add_agent("support", yaml.safe_load(shown))
    result = gitune("validate")
    assert (result.code, result.out) == (0, "1 agent(s) are right: support\n"), result.err


def test_the_readme_quotes_a_real_comment() -> None:
    quoted = re.findall(r"^> (.+)$", (REPOSITORY / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    comment = (REPOSITORY / "tests/report/comment.md").read_text(encoding="utf-8").splitlines()
    assert quoted
    assert [line for line in quoted if line not in comment] == []
