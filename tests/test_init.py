"""A new repository: what is written, what is left alone, and that it passes the lint of this one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import REPOSITORY, Result
from tests.repositories import Git
from tests.workflows.test_files import TOOLS

Gitune = Callable[..., Result]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
FROM = ("--gitune-repository", "acme/gitune", "--gitune-ref", COMMIT)
WORKFLOWS = ("plan", "train", "deploy", "drift")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, and the current one."""
    empty = tmp_path / "agents of acme"
    empty.mkdir()
    monkeypatch.chdir(empty)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    monkeypatch.setenv("GITUNE_PROGRAM", "gitune")
    return empty


@pytest.fixture
def team(folder: Path, gitune: Gitune) -> Path:
    result = gitune("init", *FROM, "--owner", "@acme/ml")
    assert (result.code, result.err) == (0, "")
    return folder


def files(root: Path) -> dict[str, str]:
    found = (path for path in root.rglob("*") if path.is_file() and ".git" not in path.relative_to(root).parts)
    return {path.relative_to(root).as_posix(): path.read_text() for path in found}


def workflow(file: Path) -> dict[str, Any]:
    data = yaml.safe_load(file.read_text())
    return {str(key): value for key, value in data.items()} | {"on": data[True]}  # YAML 1.1 reads `on` as true


def test_all_that_a_team_needs_is_written(team: Path) -> None:
    written = files(team)
    assert sorted(written) == sorted(
        [
            ".github/CODEOWNERS", ".github/dependabot.yml", *(f".github/workflows/{name}.yml" for name in WORKFLOWS),
            ".gitignore", "Pulumi.dev.yaml", "Pulumi.production.yaml", "Pulumi.training.yaml", "Pulumi.yaml",
            "README.md", "agents/README.md", "agents/agent.schema.json", "infra/__main__.py", "requirements.txt",
        ]
    )  # fmt: skip
    assert yaml.safe_load(written["Pulumi.yaml"])["name"] == "agents-of-acme"
    assert f"git+https://github.com/acme/gitune@{COMMIT}" in written["requirements.txt"]
    assert "/.github/ @acme/ml\n" in written[".github/CODEOWNERS"]
    assert all(entry["cooldown"] for entry in yaml.safe_load(written[".github/dependabot.yml"])["updates"])
    head = subprocess.run(["git", "symbolic-ref", "HEAD"], cwd=team, capture_output=True, text=True, check=True)
    assert head.stdout == "refs/heads/main\n"


@pytest.mark.parametrize(
    "file", ["infra/__main__.py", *(f"Pulumi.{s}.yaml" for s in ("dev", "training", "production"))]
)
def test_program_and_stacks_are_those_that_this_repository_is_tested_with(team: Path, file: str) -> None:
    assert (team / file).read_text() == (REPOSITORY / file).read_text()


def test_it_is_right_before_it_has_an_agent(team: Path, gitune: Gitune) -> None:
    result = gitune("validate", "-s", "training")
    assert (result.code, result.out) == (0, "no agent yet: gitune new AGENT --from FILE\n")


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_call_gives_what_the_called_workflow_takes(team: Path, name: str) -> None:
    """Inputs, rights and secrets: what is not named in the call, GitHub does not hand on."""
    (call,) = workflow(team / f".github/workflows/{name}.yml")["jobs"].values()
    called = workflow(REPOSITORY / f".github/workflows/{name}.yml")
    taken = called["on"]["workflow_call"]
    assert call["uses"] == f"acme/gitune/.github/workflows/{name}.yml@{COMMIT}"
    assert call["with"] == {"gitune-repository": "acme/gitune", "gitune-ref": COMMIT}
    assert call["with"].keys() == taken["inputs"].keys()
    wanted: dict[str, str] = {}
    for job in called["jobs"].values():
        for right, level in job["permissions"].items():
            wanted[right] = "write" if "write" in (level, wanted.get(right)) else level
    assert call["permissions"] == wanted
    text = (REPOSITORY / f".github/workflows/{name}.yml").read_text()
    used = {word.split("}")[0].strip() for word in text.split("${{ secrets.")[1:]}
    assert call["secrets"] == {secret: f"${{{{ secrets.{secret} }}}}" for secret in call["secrets"]}
    assert call["secrets"].keys() == taken["secrets"].keys() == used


@pytest.mark.parametrize("name", WORKFLOWS)
def test_the_same_pushes_and_hours_start_it(team: Path, name: str) -> None:
    own, theirs = (workflow(root / f".github/workflows/{name}.yml")["on"] for root in (REPOSITORY, team))
    assert theirs == {event: how for event, how in own.items() if event != "workflow_call"}


def test_actionlint_and_zizmor_find_nothing(team: Path) -> None:
    actionlint = next(TOOLS.glob("actionlint-*"), None)
    zizmor = shutil.which("zizmor", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if actionlint is None or zizmor is None:
        pytest.skip("scripts/lint builds actionlint where Go is installed")
    for command in ([actionlint], [zizmor, "--offline", "--persona=auditor", "--no-progress", "--quiet", ".github"]):
        done = subprocess.run(command, cwd=team, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
    assert "zizmor: ignore" not in "".join(files(team).values())


def test_a_second_time_nothing_is_left_to_do(team: Path, gitune: Gitune) -> None:
    before = files(team)
    result = gitune("init", *FROM, "--owner", "@acme/ml", "--json")
    told = json.loads(result.out)
    assert (told["written"], told["kept"], sorted(told["same"])) == ([], [], sorted(before))
    assert files(team) == before


def test_what_was_said_once_need_not_be_said_again(team: Path, gitune: Gitune) -> None:
    moved = team.rename(team.parent / "elsewhere")
    assert json.loads(gitune("init", str(moved), "--json").out)["same"] == sorted(files(moved))
    result = gitune("init", str(moved), "--gitune-ref", "f" * 40, "--force", ".github/workflows", "--json")
    assert json.loads(result.out)["written"] == [f".github/workflows/{name}.yml" for name in sorted(WORKFLOWS)]


def test_what_is_there_stays_and_is_named(folder: Path, gitune: Gitune) -> None:
    (folder / "README.md").write_text("ours\n")
    result = gitune("init", *FROM, "--owner", "@acme/ml")
    assert result.code == 0
    assert "kept README.md: it was there and differs; --force README.md writes it anew\n" in result.out
    assert (folder / "README.md").read_text() == "ours\n"
    again = json.loads(gitune("init", *FROM, "--owner", "@acme/ml", "--force", "README.md", "--json").out)
    assert (again["written"], again["kept"]) == (["README.md"], [])


def test_a_newer_gitune_moves_all_of_its_commits_at_once(team: Path, gitune: Gitune) -> None:
    newer = ("--gitune-repository", "acme/gitune", "--gitune-ref", "f" * 40, "--owner", "@acme/ml")
    kept = json.loads(gitune("init", *newer, "--json").out)["kept"]
    forced = json.loads(gitune("init", *newer, "--json", *(f"--force={file}" for file in kept)).out)
    assert forced["written"] == kept
    assert not [file for file, text in files(team).items() if COMMIT in text]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "hint: --gitune-repository OWNER/NAME says it; --no-github leaves the workflows out"),
        (["--gitune-repository", "gitune"], "error: 'gitune' is not a repository on GitHub"),
        ([*FROM, "--owner", "me"], "error: 'me' cannot own code"),
        ([*FROM, "--name", "a b"], "error: 'a b' cannot be a project's name"),
        ([*FROM, "--force", "READNE.md"], "hint: did you mean 'README.md'?"),
        (["--no-github", "--owner", "@acme"], "error: --no-github needs no repository, ref or owner"),
    ],
)  # fmt: skip
def test_a_mistake_writes_nothing(folder: Path, gitune: Gitune, arguments: list[str], said: str) -> None:
    result = gitune("init", *arguments)
    assert result.code == 1
    assert said in result.err
    assert list(folder.iterdir()) == []


def test_what_stands_in_the_way_is_found_before_anything_is_written(folder: Path, gitune: Gitune) -> None:
    (folder / "agents").write_text("a file")
    (folder / ".github").symlink_to(folder.parent)
    (folder / "README.md").mkdir()
    result = gitune("init", *FROM)
    assert result.code == 1
    for said in ("agents: a file, not a folder", ".github: a link", "README.md: a folder, not a file"):
        assert said in result.err
    assert sorted(path.name for path in folder.iterdir()) == [".github", "README.md", "agents"]


def test_another_pulumi_project_is_left_alone(folder: Path, gitune: Gitune) -> None:
    (folder / "Pulumi.yaml").write_text("name: web\nruntime: nodejs\n")
    result = gitune("init", *FROM)
    assert (result.code, "Pulumi.yaml: a Pulumi project of another kind is here" in result.err) == (1, True)
    assert [path.name for path in folder.iterdir()] == ["Pulumi.yaml"]


def test_below_another_repository_the_workflows_are_not_read(team: Path, gitune: Gitune) -> None:
    result = gitune("init", "more", *FROM, "--owner", "@acme/ml")
    assert f"GitHub reads .github at the root of a repository only, which is {team}: move it there\n" in result.out
    assert not (team / "more" / ".git").exists()


def test_without_github(folder: Path, gitune: Gitune) -> None:
    told = json.loads(gitune("init", "team", "--no-github", "--json").out)
    assert told["next"] == ["cd team", "gitune new AGENT --from FILE"]
    assert not [file for file in told["written"] if file.startswith(".github")]
    assert f"]=={metadata.version('gitune')}\n" in (folder / "team/requirements.txt").read_text()


def test_a_tag_becomes_its_commit(folder: Path, gitune: Gitune, monkeypatch: pytest.MonkeyPatch) -> None:
    """git asks GitHub; here a local repository stands in for it."""
    origin = Git(folder.parent / "github" / "acme" / "gitune")
    commit = origin.commit("first")
    origin("tag", "-a", "v9.8.7", "-m", "a release")
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.{folder.parent}/github/.insteadOf")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "https://github.com/")
    assert gitune("init", "--gitune-repository", "acme/gitune", "--gitune-ref", "v9.8.7").code == 0
    assert f"train.yml@{commit} # v9.8.7\n" in (folder / ".github/workflows/train.yml").read_text()
    result = gitune("init", "--gitune-repository", "acme/gitune", "--gitune-ref", "v9")
    assert (result.code, "error: acme/gitune has no tag or branch 'v9'" in result.err) == (1, True)


@pytest.mark.slow
def test_the_wheel_alone_serves_a_new_repository(tmp_path: Path) -> None:
    """Nothing of this repository beside it: the real engine plans an agent out of a CSV file."""
    python = Path(sys.executable)
    uv = [str(python.parent / "uv"), "--quiet"]
    dist, venv, root = tmp_path / "dist", tmp_path / "venv", tmp_path / "team"
    for command in (
        [*uv, "build", "--wheel", "--no-build-isolation", "--python", str(python), "--out-dir", str(dist)],
        [*uv, "venv", "--python", str(python), str(venv)],
    ):
        subprocess.run(command, cwd=REPOSITORY, check=True)
    (wheel,) = dist.glob("*.whl")
    subprocess.run([*uv, "pip", "install", "--no-deps", "--python", str(venv / "bin/python"), str(wheel)], check=True)
    (packages,) = venv.glob("lib/python*/site-packages")
    (packages / "others.pth").write_text(str(Path(pytest.__file__).parent.parent))  # all but gitune
    rows = [f"message {number} about {number % 3},intent_{number % 3}" for number in range(90)]
    (tmp_path / "messages.csv").write_text("\n".join(["text,intent", *rows]))
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}

    def gitune(*arguments: str, cwd: Path = root) -> str:
        done = subprocess.run(
            [venv / "bin/gitune", *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    gitune("init", str(root), *FROM, cwd=tmp_path)
    gitune("new", "support", "--from", "../messages.csv", "--rule", "near-leak=off")
    assert gitune("validate") == "1 agent(s) are right: support\n"
    plan = json.loads(gitune("plan", "-s", "dev", "--json"))
    assert "support" in json.dumps(plan)
    where = subprocess.run(
        [venv / "bin/python", "-c", "import gitune; print(gitune.__file__)"], cwd=root, capture_output=True, text=True,
        check=True, env=environment,
    )  # fmt: skip
    assert where.stdout.startswith(str(venv))
