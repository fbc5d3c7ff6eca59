"""The lock files: every download is pinned by hash, from whatever index the user has, in one version."""

from __future__ import annotations

import re
import tomllib
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HOSTED = ("benchmark", "mistral", "openai", "bedrock", "huggingface", "github", "passport", "s3", "serve")
FILES = {**dict.fromkeys(HOSTED, "providers"), "gs": "data", "docs": "dev"}
"""Where several extras are locked together."""
UNLOCKED = {"mistral-tokens"}
"""Asks for an older numpy than the rest on Python 3.12 and older, so it cannot be one version with it."""
LOCKS = [*sorted(ROOT.glob("requirements/*.txt")), ROOT / "infra/gitune/engine/toolchain.txt"]


def entries(lock: Path) -> list[str]:
    """One string per requirement, its hashes included."""
    text = re.sub(r"^\s*#.*\n", "", lock.read_text(), flags=re.MULTILINE)
    return [entry for entry in text.replace("\\\n", " ").splitlines() if entry.strip()]


def pins(lock: Path) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for entry in entries(lock):
        name, version = entry.split()[0].split("==")
        found[name].add(version)
    return found


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_every_requirement_has_a_version_and_hashes(lock: Path) -> None:
    assert entries(lock)
    for entry in entries(lock):
        assert re.match(r"[a-z0-9.-]+==\S+ ", entry), entry
        assert "--hash=sha256:" in entry, entry


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_no_index_and_no_address(lock: Path) -> None:
    text = lock.read_text()
    assert "://" not in text
    assert not re.search(r"^\s*(-i|-f|--(extra-)?index-url|--find-links|--trusted-host)", text, re.MULTILINE)
    assert not re.search(r"^\S+ @ ", text, re.MULTILINE)


def test_one_version_of_each_package_over_all_files() -> None:
    seen: dict[str, dict[str, set[str]]] = defaultdict(dict)
    for lock in LOCKS:
        for name, versions in pins(lock).items():
            seen[name][lock.name] = versions
    different = {
        name: files
        for name, files in seen.items()
        if any(versions != next(iter(files.values())) for versions in files.values())
    }
    assert different == {}


def test_direct_dependencies_are_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = {"base": project["dependencies"], **project["optional-dependencies"]}
    for group, wanted in groups.items():
        if group in UNLOCKED:
            continue
        names = {re.split(r"[<>=~!\[ ;]", requirement)[0].lower() for requirement in wanted}
        assert names - {"gitune"} <= set(pins(ROOT / "requirements" / f"{FILES.get(group, group)}.txt"))


def test_nothing_that_compiles_comes_with_the_base_model() -> None:
    everything = {name for lock in LOCKS for name in pins(lock)}
    assert everything.isdisjoint({"llm", "llama-cpp-python"})
    assert "torch" not in pins(ROOT / "requirements/base.txt")
