"""Where the engine keeps its state: whether it is reached, who holds the stack, what its secrets are encrypted with.

Buckets are read with fsspec, because the engine writes to an empty one as soon as it opens it.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from gitune.backend import backend_url, file_state, project_settings
from gitune.dataset.filesystem import first_line, missing_package, open_filesystem
from gitune.dataset.urls import shown_url
from gitune.doctor.finding import OFFLINE, Finding, Setting
from gitune.engine.install import find_engine
from gitune.errors import UserError
from gitune.project import Project
from gitune.state import EngineLock
from gitune.yaml_source import parse_yaml

_ENGINE_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Backend:
    """What was found there."""

    address: str
    """As people may see it."""
    exists: bool
    """A stack was recorded there before."""
    locks: tuple[EngineLock, ...] = ()
    alone: bool = False
    """A folder of this machine, though the stack is worked on by workflows too."""
    busy: bool = False
    """Pulumi Cloud says that an update is in progress, and not whose."""


def check_backend(setting: Setting) -> Iterator[Finding]:
    """Whether it answers, and who holds the stack."""
    url = backend_url(setting.root)
    scheme = urlsplit(url).scheme
    shown = shown_url(url.partition("?")[0]) or "the one of pulumi login"
    if scheme != "file" and not setting.online:
        yield Finding("backend", "not checked", f"{shown}: {OFFLINE}")
        return
    project = setting.project
    try:
        if scheme == "file":
            found = _folder(project, shown)
        elif scheme in ("s3", "gs"):
            found = _bucket(setting, url, shown)
        elif scheme in ("", "http", "https"):
            found = _cloud(setting, shown)
        else:
            hint = "gitune pulumi stack ls asks it, through the engine"
            yield Finding("backend", "not checked", f"{shown}: gitune reads no {scheme}:// by itself", hint)
            return
    except UserError as error:
        yield Finding("backend", "problem", error.message, error.hint or "gitune's docs/backends.md sets each up")
        return
    yield from judge_backend(found, setting.stack, datetime.now(UTC))


def judge_backend(found: Backend, stack: str, now: datetime) -> Iterator[Finding]:
    """A lock of a living engine is no fault; one that is dead or old keeps everybody out."""
    if found.alone:
        hint = "PULUMI_BACKEND_URL=s3://..., or another of gitune's docs/backends.md, before the first gitune up"
        yield Finding("backend", "warning", f"{found.address} is on this machine: no workflow reaches it", hint)
    else:
        beside = "" if found.exists else f"; stack {stack} is not there yet, and the first gitune up makes it"
        yield Finding("backend", "ok", f"{found.address} answers{beside}")
    cancel = f"gitune pulumi cancel --yes --stack {stack}"
    for lock in found.locks:
        if lock.dead:
            yield Finding("lock", "problem", f"left by an engine that was killed: {lock}", cancel)
        elif lock.abandoned(now, float("inf")):
            yield Finding("lock", "warning", f"old, and of another machine: {lock}", f"if it runs no more: {cancel}")
        else:
            yield Finding("lock", "ok", f"an engine works on the stack: {lock}; gitune up waits for it")
    if found.busy:
        hint = f"if nothing runs any more: {cancel}"
        yield Finding("lock", "warning", "an update is in progress; Pulumi Cloud's page of the stack says whose", hint)
    elif not found.locks:
        yield Finding("lock", "ok", f"nobody holds stack {stack}")


def check_encryption(setting: Setting) -> Iterator[Finding]:
    """What encrypts secrets of the stack's config and state."""
    path = setting.root / f"Pulumi.{setting.project.stack.name}.yaml"
    source = parse_yaml(path.read_bytes(), path.name)
    data = source.data if isinstance(source.data, dict) else {}
    yield judge_encryption(data, os.environ, urlsplit(backend_url(setting.root)).scheme)


def judge_encryption(stack_file: Mapping[str, Any], environment: Mapping[str, str], scheme: str) -> Finding:
    """gitune itself puts no secret into state, so an empty passphrase is enough until somebody else does."""
    provider = str(stack_file.get("secretsprovider") or "")
    if provider and provider != "passphrase":
        return Finding("encryption", "ok", f"secrets are encrypted by {urlsplit(provider).scheme or provider}")
    if scheme in ("", "http", "https") and "encryptionsalt" not in stack_file:
        return Finding("encryption", "ok", "secrets are encrypted by Pulumi Cloud")
    file = environment.get("PULUMI_CONFIG_PASSPHRASE_FILE")
    if file and not Path(file).is_file():
        hint = "name a file that is there, or set PULUMI_CONFIG_PASSPHRASE"
        return Finding("encryption", "problem", "PULUMI_CONFIG_PASSPHRASE_FILE names no file", hint)
    if file or environment.get("PULUMI_CONFIG_PASSPHRASE"):
        return Finding("encryption", "ok", "secrets are encrypted with a passphrase")
    if '"secure":' in json.dumps(stack_file.get("config"), default=str):
        hint = "set PULUMI_CONFIG_PASSPHRASE"
        return Finding("encryption", "warning", "the stack's config has secrets, and there is no passphrase", hint)
    if scheme == "file":
        return Finding("encryption", "ok", "no passphrase: gitune puts no secret into state")
    hint = "set PULUMI_CONFIG_PASSPHRASE before the first gitune up, or use a KMS: gitune's docs/backends.md"
    return Finding("encryption", "warning", "a shared backend without a passphrase or KMS", hint)


def s3_options(query: Mapping[str, str]) -> dict[str, Any]:
    """The engine's parameters of s3:// (gocloud.dev/aws, and Pulumi's own older ones), for s3fs."""
    options: dict[str, Any] = {}
    client: dict[str, Any] = {}
    if endpoint := query.get("endpoint"):
        plain = "http" if _true(query.get("disableSSL")) or _true(query.get("disable_https")) else "https"
        client["endpoint_url"] = endpoint if "://" in endpoint else f"{plain}://{endpoint}"
    if region := query.get("region"):
        client["region_name"] = region
    if client:
        options["client_kwargs"] = client
    if profile := query.get("profile"):
        options["profile"] = profile
    config: dict[str, Any] = {"retries": {"total_max_attempts": 2}}  # one that is away is said in seconds
    if any(_true(query.get(name)) for name in ("s3ForcePathStyle", "use_path_style", "hostname_immutable")):
        config["s3"] = {"addressing_style": "path"}
    return {**options, "config_kwargs": config}


def _folder(project: Project, shown: str) -> Backend:
    files = file_state(project)
    assert files is not None
    base = files.folder.parent
    if base.is_dir() and not os.access(base, os.R_OK | os.W_OK | os.X_OK):
        raise UserError(f"{base} cannot be read and written", hint="check who owns the folder")
    if not base.is_dir() and "create_dir=true" not in backend_url(project.root):
        raise UserError(f"{base} is not there", hint="make it, or add ?create_dir=true to the URL")
    workflows = any((project.root / ".github" / "workflows").glob("*.yml"))
    alone = workflows and project.stack.locks == "agents"
    return Backend(shown, files.checkpoint_file.is_file(), tuple(files.locks()), alone)


def _bucket(setting: Setting, url: str, shown: str) -> Backend:
    parts = urlsplit(url)
    options = s3_options(dict(parse_qsl(parts.query))) if parts.scheme == "s3" else {}
    project = project_settings(setting.root).get("name", "")
    try:
        filesystem, base = open_filesystem(f"{parts.scheme}://{parts.netloc}{parts.path}", options)
        folder = f"{base.rstrip('/')}/.pulumi"
        filesystem.ls(parts.netloc, detail=False)  # a bucket that is not there is no empty folder
        exists = filesystem.exists(f"{folder}/stacks/{project}/{setting.stack}.json")
        paths = _listed(filesystem, f"{folder}/locks/organization/{project}/{setting.stack}")
        locks = [EngineLock.parsed(f"{parts.scheme}://{path}", filesystem.cat_file(path)) for path in paths]
    except UserError:
        raise
    except ImportError as error:
        raise missing_package(url, error) from error
    except Exception as error:
        raise UserError(f"{shown} cannot be read: {first_line(error)}", hint=_CREDENTIALS[parts.scheme]) from error
    return Backend(shown, exists, tuple(lock for lock in locks if lock is not None))


def _listed(filesystem: Any, folder: str) -> Sequence[str]:
    try:
        return [str(path) for path in filesystem.ls(folder, detail=False) if str(path).endswith(".json")]
    except FileNotFoundError:
        return []


def _cloud(setting: Setting, shown: str) -> Backend:
    """Through the engine: Pulumi Cloud's API is not a file system."""
    from gitune.stack import stack_environment  # imports pulumi: half a second

    engine = find_engine(lambda _line: None)
    if engine is None:
        raise UserError(f"{shown} is asked through the engine, which is not installed", hint="run: gitune plan")
    environment = {**os.environ, **stack_environment(setting.root, engine)}
    command = [str(engine.command), "stack", "ls", "--json", "--non-interactive"]
    ours: Mapping[str, Any] = {"cwd": setting.root, "env": environment, "timeout": _ENGINE_SECONDS}
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, **ours)
    except subprocess.TimeoutExpired as error:
        raise UserError(f"{shown} did not answer in {_ENGINE_SECONDS} s") from error
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        said = (lines or ["no reason given"])[-1].removeprefix("error: ")
        raise UserError(f"{shown}: {said}", hint="set PULUMI_ACCESS_TOKEN, or run: pulumi login")
    stacks = {str(one["name"]).rpartition("/")[2]: one for one in json.loads(done.stdout)}
    return Backend(shown, setting.stack in stacks, busy=bool(stacks.get(setting.stack, {}).get("updateInProgress")))


def _true(text: str | None) -> bool:
    return text in ("true", "1", "t", "T", "TRUE", "True")


_CREDENTIALS = {
    "s3": "check bucket, region and AWS credentials: gitune's docs/backends.md",
    "gs": "check the bucket, and run: gcloud auth application-default login",
}
