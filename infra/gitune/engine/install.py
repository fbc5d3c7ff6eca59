"""Have a Pulumi engine: the user's, a cached one, Pulumi's installer, or a build from source. In this order.

`python -m gitune.engine.install` prints the steps and what came of them.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from gitune.engine.build import BUILD_VERSION, Say, build_engine, recipe_digest
from gitune.engine.cache import appearing, cache_folder, locked
from gitune.engine.interpreter import python_command
from gitune.errors import EngineError, GituneError

# The oldest engine that the test-suite runs with.
MINIMUM_VERSION = (3, 259, 0)

# 130 MB; a slow line is no reason to give up, a dead one is noticed sooner by `official`.
_INSTALLER_SECONDS = 600

_LANGUAGE_HOST = "pulumi-language-python"


@dataclass(frozen=True, slots=True)
class Engine:
    """One Pulumi engine that gitune can run."""

    command: Path
    version: str
    source: Literal["path", "cache", "installer", "build"]

    @property
    def root(self) -> Path | None:
        """For `PulumiCommand(root=...)`; None means the `pulumi` on PATH."""
        return None if self.source == "path" else self.command.parent.parent


def ensure_engine(say: Say | None = None) -> Engine:
    """Return an engine, installing one if there is none. `say` gets a line per step, by default to standard error."""
    tell = say or _say
    engine = find_engine(tell)
    if engine is not None:
        return engine
    waiting = "waiting for another gitune that installs the Pulumi engine"
    with locked(cache_folder() / "engine.lock", lambda: tell(waiting)):
        # Whoever held the lock may have done the work.
        return _cached() or _official(tell) or _built(tell)


def find_engine(say: Say) -> Engine | None:
    """The engine that is there: on PATH or in the cache. `say` is told why the one on PATH is not taken."""
    return _on_path(say) or _cached()


def engine_environment(engine: Engine, venv: Path) -> dict[str, str]:
    """What to set over the user's own environment: the engine uses `venv` and writes nothing to ~/.pulumi."""
    folders = [str(venv / "bin"), str(engine.command.parent), os.environ.get("PATH", os.defpath)]
    environment = {
        "PATH": os.pathsep.join(folders),
        "PULUMI_HOME": str(cache_folder() / "pulumi-home"),
        "PULUMI_PYTHON_CMD": str(python_command(venv / "bin" / "python")),
        "PULUMI_SKIP_UPDATE_CHECK": "1",
    }
    # Another home would forget who did `pulumi login`.
    login = Path(os.environ.get("PULUMI_HOME") or Path.home() / ".pulumi")
    if (login / "credentials.json").is_file() and "PULUMI_CREDENTIALS_PATH" not in os.environ:
        environment["PULUMI_CREDENTIALS_PATH"] = str(login)
    return environment


def _on_path(tell: Say) -> Engine | None:
    found = shutil.which("pulumi")
    if found is None:
        return None
    version = _version_of(found)
    if version is None:
        tell(f"the pulumi on PATH ({found}) does not run: using another")
        return None
    if not MINIMUM_VERSION <= _parts(version) < (MINIMUM_VERSION[0] + 1,):
        wanted = ".".join(str(part) for part in MINIMUM_VERSION)
        tell(f"pulumi {version} on PATH is not compatible (gitune needs {wanted} or a later 3.x): using another")
        return None
    beside = Path(found).resolve().parent / _LANGUAGE_HOST
    if shutil.which(_LANGUAGE_HOST) is None and not beside.is_file():
        tell(f"pulumi {version} on PATH has no {_LANGUAGE_HOST} beside it: using another")
        return None
    return Engine(Path(found), version, "path")


def _version_of(command: str) -> str | None:
    environment = {**os.environ, "PULUMI_SKIP_UPDATE_CHECK": "1"}
    try:
        answer = subprocess.run(
            [command, "version"], capture_output=True, text=True, check=False, timeout=30, env=environment
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = re.fullmatch(r"v?(\d+\.\d+\.\d+\S*)", answer.stdout.strip())
    return version.group(1) if version and answer.returncode == 0 else None


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def _cached() -> Engine | None:
    """A folder gets its final name only after its engine ran, so the name is enough."""
    for folder, version in ((_official_folder(), _sdk_version()), (_build_folder(), BUILD_VERSION)):
        command = folder / "bin" / "pulumi"
        if command.is_file():
            return Engine(command, version, "cache")
    return None


def _official(tell: Say) -> Engine | None:
    version, folder = _sdk_version(), _official_folder()
    tell(f"downloading Pulumi {version} with Pulumi's installer")
    try:
        with appearing(folder) as draft:
            _run_installer(draft)
    except EngineError as error:
        tell(f"Pulumi's installer did not work: {error}")
        return None
    return Engine(folder / "bin" / "pulumi", version, "installer")


def _run_installer(root: Path) -> None:
    command = [sys.executable, "-m", "gitune.engine.official", str(root)]
    try:
        answer = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=_INSTALLER_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise EngineError(f"not done after {_INSTALLER_SECONDS} s") from error
    if answer.returncode:
        lines = (answer.stderr or answer.stdout).strip().splitlines()
        raise EngineError(lines[-1] if lines else f"it ended with status {answer.returncode}")


def _built(tell: Say) -> Engine:
    folder = _build_folder()
    build_engine(folder, tell)
    return Engine(folder / "bin" / "pulumi", BUILD_VERSION, "build")


def _official_folder() -> Path:
    return cache_folder() / "pulumi" / f"installer-{_sdk_version()}"


def _build_folder() -> Path:
    return cache_folder() / "pulumi" / f"build-{BUILD_VERSION}-{recipe_digest()}"


def _sdk_version() -> str:
    return metadata.version("pulumi")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    """Print what was found or done; 0 when there is an engine."""
    try:
        engine = ensure_engine()
    except GituneError as error:
        hint = f"\nhint: {error.hint}" if error.hint else ""
        print(f"error: {error}{hint}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(f"pulumi {engine.version} ({engine.source}): {engine.command}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
