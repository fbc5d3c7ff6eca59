"""The order of preference for an engine, with fake executables on PATH and no network."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from gitune.engine.install import Engine, engine_environment, ensure_engine
from gitune.engine.interpreter import python_command
from gitune.errors import EngineError
from tests.engine.fake_installer import fake_installer

OPENSSL = shutil.which("openssl")

# Answers like Go: `version`, `list` with a folder of sources, and `build` with a small program for a binary.
FAKE_GO = """#!{python}
import os, pathlib, sys
here = pathlib.Path(__file__).parent
with (here / "go.calls").open("a") as calls:
    print(*sys.argv[1:], os.environ.get("GOMODCACHE", "-"), file=calls)
if sys.argv[1] == "version":
    print("go version go{version} linux/amd64")
elif sys.argv[1] == "list":
    print(here / "sdk")
elif "{problem}":
    sys.exit("{problem}")
else:
    output = pathlib.Path(sys.argv[sys.argv.index("-o") + 1])
    output.write_text("#!/bin/sh\\necho v3.259.0\\n")
    output.chmod(0o755)
"""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the whole PATH; nothing outside this machine can be reached."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    return folder


def add_program(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    path.chmod(0o755)
    return path


def add_pulumi(folder: Path, version: str) -> Path:
    add_program(folder, "pulumi-language-python", "#!/bin/sh\n")
    return add_program(folder, "pulumi", f"#!/bin/sh\necho {version}\n")


def add_go(folder: Path, version: str = "1.26.8", problem: str = "") -> Path:
    for script in ("dist/pulumi-resource-pulumi-python", "cmd/pulumi-language-python-exec"):
        source = folder / "sdk" / "python" / script
        source.parent.mkdir(parents=True)
        source.write_text("#!/bin/sh\n")
    return add_program(folder, "go", FAKE_GO.format(python=sys.executable, version=version, problem=problem))


def test_a_compatible_pulumi_on_path_comes_first(programs: Path) -> None:
    command = add_pulumi(programs, "v3.300.1")
    lines: list[str] = []

    assert ensure_engine(lines.append) == Engine(command, "3.300.1", "path")
    assert lines == []


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("v3.100.0", "pulumi 3.100.0 on PATH is not compatible"),
        ("v4.0.0", "pulumi 4.0.0 on PATH is not compatible"),
        ("what?", "does not run"),
    ],
)
def test_an_incompatible_pulumi_is_skipped(programs: Path, version: str, said: str) -> None:
    add_pulumi(programs, version)
    add_go(programs)
    lines: list[str] = []

    assert ensure_engine(lines.append).source == "build"
    assert said in lines[0]


def test_a_pulumi_without_its_language_host_is_skipped(programs: Path) -> None:
    add_pulumi(programs, "v3.300.0")
    (programs / "pulumi-language-python").unlink()
    add_go(programs)
    lines: list[str] = []

    assert ensure_engine(lines.append).source == "build"
    assert "pulumi-language-python" in lines[0]


def test_an_installer_out_of_reach_leads_to_a_build_that_is_kept(programs: Path, tmp_path: Path) -> None:
    add_go(programs)
    lines: list[str] = []

    built = ensure_engine(lines.append)

    assert (built.source, built.version) == ("build", "3.259.0")
    assert built.root == built.command.parent.parent
    assert any("installer did not work" in line and "refused" in line for line in lines)
    assert sorted(path.name for path in built.command.parent.iterdir()) == [
        "pulumi",
        "pulumi-language-python",
        "pulumi-language-python-exec",
        "pulumi-resource-pulumi-python",
    ]
    lines.clear()
    assert ensure_engine(lines.append) == Engine(built.command, "3.259.0", "cache")
    assert lines == []


@pytest.mark.skipif(OPENSSL is None, reason="needs openssl to make a certificate")
def test_pulumis_installer_is_preferred_to_a_build(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_go(programs)
    with fake_installer(tmp_path, str(OPENSSL), "get.pulumi.com") as installer:
        monkeypatch.setenv("HTTPS_PROXY", installer.proxy)
        monkeypatch.setenv("https_proxy", installer.proxy)
        monkeypatch.setenv("SSL_CERT_FILE", str(installer.certificate))
        installed = ensure_engine(lambda line: None)

    assert (installed.source, installed.version) == ("installer", metadata.version("pulumi"))
    assert not (programs / "go.calls").exists()
    assert ensure_engine(lambda line: None) == Engine(installed.command, installed.version, "cache")


def test_a_build_writes_below_gitunes_cache_only_and_tidies_up(programs: Path, tmp_path: Path) -> None:
    add_go(programs)

    engine = ensure_engine(lambda line: None)

    cache = tmp_path / "cache" / "gitune"
    assert engine.command.is_relative_to(cache)
    assert str(cache / "go" / "modules") in (programs / "go.calls").read_text()
    assert not (cache / "go").exists()
    assert not (tmp_path / "home").exists()


def test_a_failed_build_says_why_and_leaves_no_engine(programs: Path, tmp_path: Path) -> None:
    add_go(programs, problem="dial tcp: lookup proxy: no such host")

    with pytest.raises(EngineError, match="no such host") as caught:
        ensure_engine(lambda line: None)

    assert caught.value.hint is not None
    assert "network" in caught.value.hint
    assert list((tmp_path / "cache" / "gitune" / "pulumi").iterdir()) == []


@pytest.mark.parametrize("version", [None, "1.21.0"])
def test_without_a_usable_go_the_hint_names_pulumi_and_go(programs: Path, version: str | None) -> None:
    if version:
        add_go(programs, version=version)

    with pytest.raises(EngineError, match="no Pulumi engine") as caught:
        ensure_engine(lambda line: None)

    assert caught.value.hint is not None
    assert "install Pulumi" in caught.value.hint
    assert "Go 1.25.11" in caught.value.hint


def test_two_builders_build_once(programs: Path) -> None:
    add_go(programs)
    engines: list[Engine] = []
    lines: list[str] = []
    threads = [threading.Thread(target=lambda: engines.append(ensure_engine(lines.append))) for _ in range(2)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(engine.source for engine in engines) == ["build", "cache"]
    assert any("waiting for another" in line for line in lines)


def test_the_environment_puts_venv_and_engine_first_and_spares_the_home_folder(programs: Path, tmp_path: Path) -> None:
    engine = Engine(tmp_path / "engine" / "bin" / "pulumi", "3.259.0", "cache")
    venv = tmp_path / ".venv"

    environment = engine_environment(engine, venv)

    assert environment["PATH"] == f"{venv}/bin:{tmp_path}/engine/bin:{programs}"
    assert environment["PULUMI_PYTHON_CMD"] == str(python_command(venv / "bin/python"))
    assert environment["PULUMI_HOME"] == str(tmp_path / "cache" / "gitune" / "pulumi-home")
    assert environment["PULUMI_SKIP_UPDATE_CHECK"] == "1"


def test_the_engines_python_is_the_interpreter_and_knows_the_packages_as_pip_does(programs: Path) -> None:
    python, command = Path(sys.executable), python_command(Path(sys.executable))
    question = ["-m", "pip", "list", "-v", "--format", "json"]
    named = [[package[key] for key in ("name", "version", "location")] for package in _said([command, *question])]
    assert sorted(named) == sorted(
        [package[key] for key in ("name", "version", "location")] for package in _said([python, *question])
    )
    assert _said([command, "-c", "import json, sys; print(json.dumps([sys.executable, *sys.argv]))", "a b", ""]) == [
        str(python), "-c", "a b", "",
    ]  # fmt: skip
    assert python_command(python) == command


def _said(command: list[str | Path]) -> Any:
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_the_environment_keeps_the_users_login(programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PULUMI_HOME", raising=False)
    monkeypatch.delenv("PULUMI_CREDENTIALS_PATH", raising=False)
    engine = Engine(tmp_path / "bin" / "pulumi", "3.259.0", "cache")
    assert "PULUMI_CREDENTIALS_PATH" not in engine_environment(engine, tmp_path)

    home = tmp_path / "home" / ".pulumi"
    home.mkdir(parents=True)
    (home / "credentials.json").write_text("{}")
    assert engine_environment(engine, tmp_path)["PULUMI_CREDENTIALS_PATH"] == str(home)


def test_the_command_prints_the_engine_or_an_error_with_a_hint(programs: Path) -> None:
    command = [sys.executable, "-m", "gitune.engine.install"]

    without = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (without.returncode, without.stdout) == (1, "")
    assert "error: no Pulumi engine" in without.stderr
    assert "\nhint: install Pulumi" in without.stderr

    path = add_pulumi(programs, "v3.270.0")
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (0, f"pulumi 3.270.0 (path): {path}\n")
