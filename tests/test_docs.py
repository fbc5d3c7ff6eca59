"""The docs say what is: the reference is the code's, and commands, files and modules that they name exist."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
import yaml

from gitune.commands import cli
from scripts.reference import pages
from tests.conftest import REPOSITORY, Repository, Result
from tests.repositories import Git

DOCS = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
_FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")
_CALL = re.compile(r"(?:^|[|;&$(:] *)(?:[A-Z_]+=\S+ )*(?:scripts/|\.venv/bin/)?gitune ([a-z-][^|;&)>]*)")
_PLACEHOLDERS = {"ALIAS": "support", "AGENT": "support", "STACK": "dev", "FINGERPRINT": "0" * 64}


def _pieces(path: Path) -> Iterator[str]:
    """What stands in code: each line of a block that is not another language's, and each word between backticks."""
    text = path.read_text(encoding="utf-8")
    for language, block in _FENCE.findall(text):
        if language in ("", "sh"):
            yield from block.replace("\\\n", " ").splitlines()
    yield from _CODE.findall(_FENCE.sub("", text))


def calls_in(line: str) -> list[str]:
    """The calls of gitune, without a comment behind them."""
    return [call.rstrip(" :") for call in _CALL.findall(re.sub(r" +#.*", "", line.strip()))]


def all_calls() -> Iterator[tuple[str, str]]:
    """Document and call."""
    for path in DOCS:
        if path.name == "cli.md":  # the help itself
            continue
        for piece in _pieces(path):
            for call in calls_in(piece):
                yield str(path.relative_to(REPOSITORY)), call


@pytest.mark.parametrize(("document", "call"), sorted(set(all_calls())))
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


READERS = (
    "dataset show",
    "dataset stats",
    "dataset diff",
    "dataset build",
    "validate",
    "status",
    "history",
    "show",
    "costs",
    "schema",
    "completion",
    "tag",
    "plan --static",
)
"""Commands that neither start the engine nor ask anybody: these are run as the docs have them."""


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the agents, versions and stacks that the docs speak of."""
    root = tmp_path_factory.mktemp("team")
    for name in ("Pulumi.yaml", "Pulumi.dev.yaml", "Pulumi.training.yaml", "Pulumi.production.yaml"):
        shutil.copy(REPOSITORY / name, root)
    git, repository = Git(root), Repository(root)
    repository.write(".gitignore", ".gitune/\norigin.git/\n")
    for agent in ("support", "qa"):
        repository.add_agent(agent)
    git("init", "--quiet", "--bare", "origin.git")
    git("remote", "add", "origin", str(root / "origin.git"))
    git.commit("agents")
    git("tag", "v1")
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        git.lock(version)
        git.commit(f"support {version} (#{version[2]})")
    return root


@pytest.mark.parametrize("call", sorted({call for _, call in all_calls() if call.startswith(READERS)}))
def test_commands_that_read_do_what_the_docs_say(
    call: str, team: Path, gitune: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [_PLACEHOLDERS.get(word, word) for word in shlex.split(call)]
    monkeypatch.chdir(team)
    done = gitune(*words)
    assert done.code == 0, done.err


_PATH = re.compile(r"^(?:\.\./)*((?:scripts|infra|tests|requirements|agents|\.github)/[\w./-]*\w)$")


@pytest.mark.parametrize(
    "path", [path for path in DOCS if path.name != "cli.md"], ids=lambda path: str(path.relative_to(REPOSITORY))
)
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
        if ((path.suffix == ".py" and path.stem != "__init__") or (path / "__init__.py").exists())
        and not re.search(rf"\b{path.stem}\b", code)
    }
    assert missing == set()
    there = {path.name for path in REPOSITORY.glob("infra/**/*.py")}
    assert set(re.findall(r"\b\w+\.py\b", code)) - there == set()


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
