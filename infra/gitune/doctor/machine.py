"""This machine: Python, packages, engine, git, disk."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib import metadata

from packaging.requirements import InvalidRequirement, Requirement

from gitune.doctor.finding import Finding, Setting
from gitune.engine.install import MINIMUM_VERSION, Engine, find_engine

Installed = Callable[[str], str | None]
"""The version of a distribution; None: it is not there."""
_OLDEST_PYTHON = (3, 11)
_OLDEST_GIT = (2, 29)
"""Has `fetch --no-auto-maintenance` and `%(taggeremail:trim)`, which tags are read with."""
_LITTLE_BYTES, _TOO_LITTLE_BYTES = 5 * 2**30, 2**30


def check_python(_setting: Setting) -> Iterator[Finding]:
    """The interpreter, and the packages that every command needs."""
    yield judge_python(sys.version_info[:3])
    yield judge_packages(metadata.version("gitune"), metadata.requires("gitune") or (), _installed)


def judge_python(version: tuple[int, ...]) -> Finding:
    """Against the oldest that gitune supports."""
    shown = ".".join(map(str, version))
    if version < _OLDEST_PYTHON:
        hint = "make the virtual environment anew with Python 3.11 or newer"
        return Finding("python", "problem", f"Python {shown} is too old", hint)
    return Finding("python", "ok", f"Python {shown} on {platform.system()} {platform.machine()}")


def judge_packages(version: str, required: Iterable[str], installed: Installed) -> Finding:
    """Those without an extra, each in a version that gitune's own metadata takes."""
    wrong = []
    for text in required:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        found = installed(requirement.name)
        if found is None:
            wrong.append(f"{requirement.name} is missing")
        elif not requirement.specifier.contains(found, prereleases=True):
            wrong.append(f"{requirement.name} {found} does not fit {requirement.specifier}")
    if wrong:
        return Finding("packages", "problem", f"gitune {version}: {', '.join(wrong)}", "pip install --upgrade gitune")
    return Finding("packages", "ok", f"gitune {version} with all that it needs")


def check_engine(_setting: Setting) -> Iterator[Finding]:
    """The Pulumi engine that the next command would take; none is installed."""
    skipped: list[str] = []
    yield judge_engine(find_engine(skipped.append), metadata.version("pulumi"), skipped)


def judge_engine(engine: Engine | None, sdk: str, skipped: Iterable[str]) -> Finding:
    """`skipped` says why the pulumi on PATH is not taken, if there is one."""
    why = "; ".join(skipped)
    if engine is None:
        wanted = ".".join(map(str, MINIMUM_VERSION))
        message = f"no Pulumi engine of {wanted} or newer{f': {why}' if why else ''}"
        return Finding("engine", "warning", message, "the next gitune up or plan installs one; or install Pulumi")
    message = f"pulumi {engine.version} ({engine.source}), Python SDK {sdk}{f'; {why}' if why else ''}"
    return Finding("engine", "ok", message)


def check_git(_setting: Setting) -> Iterator[Finding]:
    """git itself."""
    try:
        said = subprocess.run(["git", "version"], capture_output=True, text=True, check=False).stdout
    except FileNotFoundError:
        said = ""
    yield judge_git(said)


def judge_git(said: str) -> Finding:
    """`said` is what `git version` printed; empty where it is missing."""
    words = said.split()
    numbers = tuple(int(part) for part in (words[2].split(".") if len(words) > 2 else ()) if part.isdigit())
    if not numbers:
        return Finding("git", "problem", "git is not installed", "install it: history, tags and plans rest on it")
    if numbers < _OLDEST_GIT:
        return Finding("git", "warning", f"git {words[2]} is too old for gitune tag and history", "update git")
    return Finding("git", "ok", f"git {words[2]}")


def check_disk(setting: Setting) -> Iterator[Finding]:
    """Room where the repository is: datasets, models and scores are below it."""
    yield judge_disk(shutil.disk_usage(setting.root).free)


def judge_disk(free_bytes: int) -> Finding:
    """Training needs room for checkpoints; a disk that is full ends everything."""
    shown = f"{free_bytes / 2**30:.1f} GiB free where the repository is"
    hint = "make room: .gitune/jobs of trainings whose models are no longer needed are the largest"
    if free_bytes < _TOO_LITTLE_BYTES:
        return Finding("disk", "problem", shown, hint)
    return Finding("disk", "warning", shown, hint) if free_bytes < _LITTLE_BYTES else Finding("disk", "ok", shown)


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
