"""The store: publish, restore and what goes wrong, on a disk, in memory and over real HTTP against an S3 server."""

from __future__ import annotations

import json
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pytest
import yaml

from gitune.dataset import build_dataset, dataset_folder, write_dataset
from gitune.dataset.restore import restore_dataset
from gitune.dataset.store import Store
from gitune.errors import UserError
from gitune.spec import load_agents
from gitune.store_url import holds_password
from tests import s3
from tests.conftest import STACK, Repository, Result, example, jsonl

Gitune = Callable[..., Result]
FILES = {"train.jsonl", "validation.jsonl", "dataset.json", "card.md", "findings.jsonl", "summary.json"}


@pytest.fixture(scope="module")
def s3_server() -> Iterator[str]:
    with s3.served() as url:
        yield url


@pytest.fixture(params=["path", "file", "memory", "s3"])
def store(request: pytest.FixtureRequest, repository: Repository, tmp_path: Path) -> Store:
    """An empty store of each kind."""
    if request.param == "s3":
        request.getfixturevalue("s3_server")
    urls = {
        "path": ".gitune/store",
        "file": f"file://{tmp_path}/shared",
        "memory": f"memory://{uuid.uuid4().hex}",
        "s3": f"s3://{s3.BUCKET}/{uuid.uuid4().hex}",
    }
    return Store(urls[request.param], repository.root)


def written(repository: Repository, name: str = "qa", count: int = 24) -> Path:
    """The folder of a dataset that was built here."""
    repository.add_agent(name, examples=[example(f"message {i} of {name}", f"intent_{i % 3}") for i in range(count)])
    spec = next(spec for spec in load_agents(repository.root) if spec.name == name)
    return write_dataset(spec, build_dataset(spec, repository.root), repository.root)


def test_notes_are_whole_replaced_and_no_datasets(store: Store, tmp_path: Path) -> None:
    assert store.notes("spending") == {}
    for text in ("old", "new"):
        store.put_note("spending/a.json", text)
    store.put_note("spending/b.json", "b")
    assert clone(store, tmp_path).notes("spending") == {"a.json": b"new", "b.json": b"b"}
    assert store.note_names("spending") == {"a.json", "b.json"}
    assert store.find("") == []


def clone(store: Store, tmp_path: Path) -> Store:
    """The same store seen from another clone of the repository, where nothing was built."""
    if "://" not in store.url:
        return replace(store, url=str(store.root / store.url), root=tmp_path / "clone")
    return replace(store, root=tmp_path / "clone")


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def opened(store: Store) -> tuple[Any, str]:
    """The file system below, to damage what is there."""
    url = store.url if "://" in store.url else str(store.root / store.url)
    filesystem, base = fsspec.core.url_to_fs(url, **({} if "memory" in url or "s3" in url else {"auto_mkdir": True}))
    return filesystem, str(base)


def left_behind(store: Store) -> list[str]:
    folder = dataset_folder(store.root, "")
    return sorted(path.name for path in folder.glob("*") if path.name != ".lock")


def test_what_is_published_is_restored_to_the_byte(store: Store, repository: Repository, tmp_path: Path) -> None:
    folder = written(repository)
    assert not store.holds(folder.name)
    store.publish(folder)
    assert store.holds(folder.name)
    restored = clone(store, tmp_path).restore(folder.name)
    assert restored == tmp_path / "clone/.gitune/datasets" / folder.name
    assert content(restored) == content(folder)
    assert content(restored).keys() == FILES


def test_the_manifest_names_every_other_file(repository: Repository) -> None:
    folder = written(repository)
    files = json.loads((folder / "dataset.json").read_text())["files"]
    assert files.keys() == FILES - {"dataset.json"}
    assert {name: fact["size"] for name, fact in files.items()} == {
        name: len(data) for name, data in content(folder).items() if name != "dataset.json"
    }


def test_what_is_published_is_not_written_again(store: Store, repository: Repository) -> None:
    folder = written(repository)
    store.publish(folder)
    filesystem, base = opened(store)
    filesystem.pipe_file(f"{base}/{folder.name}/card.md", b"kept as it is")
    store.publish(folder)
    assert filesystem.cat_file(f"{base}/{folder.name}/card.md") == b"kept as it is"


@pytest.mark.parametrize("damage", ["train.jsonl", "card.md", "dataset.json"])
def test_a_wrong_byte_is_an_error_that_leaves_nothing(
    damage: str, store: Store, repository: Repository, tmp_path: Path
) -> None:
    folder = written(repository)
    store.publish(folder)
    filesystem, base = opened(store)
    path = f"{base}/{folder.name}/{damage}"
    data = filesystem.cat_file(path)
    filesystem.pipe_file(path, data.replace(b"e", b"f", 1) if damage != "dataset.json" else data[:-3])
    elsewhere = clone(store, tmp_path)
    with pytest.raises(UserError):
        elsewhere.restore(folder.name)
    assert left_behind(elsewhere) == []


def test_other_examples_under_the_same_name_are_refused(store: Store, repository: Repository, tmp_path: Path) -> None:
    """Every hash in the manifest is right, but the examples are not those of the fingerprint."""
    folder, other = written(repository, "qa"), written(repository, "other")
    store.publish(folder)
    filesystem, base = opened(store)
    for name, data in content(other).items():
        filesystem.pipe_file(f"{base}/{folder.name}/{name}", data.replace(other.name.encode(), folder.name.encode()))
    manifest = json.loads((other / "dataset.json").read_bytes())
    del manifest["files"]["card.md"]
    manifest["fingerprint"] = folder.name
    filesystem.pipe_file(f"{base}/{folder.name}/dataset.json", json.dumps(manifest).encode())
    with pytest.raises(UserError, match="have another fingerprint"):
        clone(store, tmp_path).restore(folder.name)


@pytest.mark.parametrize("name", ["../train.jsonl", "/etc/passwd", "a/b", ""])
def test_a_file_name_that_leads_elsewhere_is_refused(name: str, repository: Repository, tmp_path: Path) -> None:
    store = Store(f"memory://{uuid.uuid4().hex}", repository.root)
    folder = written(repository)
    store.publish(folder)
    filesystem, base = opened(store)
    manifest = json.loads((folder / "dataset.json").read_bytes())
    manifest["files"][name] = manifest["files"]["train.jsonl"]
    filesystem.pipe_file(f"{base}/{folder.name}/dataset.json", json.dumps(manifest).encode())
    with pytest.raises(UserError, match="no dataset is published there"):
        clone(store, tmp_path).restore(folder.name)


def test_half_published_is_not_published(store: Store, repository: Repository, tmp_path: Path) -> None:
    """A publisher that was killed left everything but the manifest, which is written last, or a part of one."""
    folder = written(repository)
    store.publish(folder)
    filesystem, base = opened(store)
    manifest = f"{base}/{folder.name}/dataset.json"
    for part in (None, (folder / "dataset.json").read_bytes()[:100]):
        if part is None:
            filesystem.rm_file(manifest)
        else:
            filesystem.pipe_file(manifest, part)
        assert not store.holds(folder.name)
        with pytest.raises(UserError, match="no dataset is published there, or only a part of it"):
            clone(store, tmp_path).restore(folder.name)
        store.publish(folder)
        assert store.holds(folder.name)


def test_the_manifest_is_written_last(repository: Repository, tmp_path: Path) -> None:
    store = Store(f"file://{tmp_path}/shared", repository.root)
    folder = written(repository)
    store.publish(folder)
    times = {file.name: file.stat().st_ctime_ns for file in (tmp_path / "shared" / folder.name).iterdir()}
    assert times.keys() == FILES
    assert max(times, key=lambda name: times[name]) == "dataset.json"


def test_several_publish_at_once(store: Store, repository: Repository, tmp_path: Path) -> None:
    folder = written(repository)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(store.publish, [folder] * 4))
    assert content(clone(store, tmp_path).restore(folder.name)) == content(folder)


def test_a_damaged_dataset_is_not_published(store: Store, repository: Repository) -> None:
    folder = written(repository)
    lines = (folder / "train.jsonl").read_bytes()
    (folder / "train.jsonl").write_bytes(lines.replace(b"intent_0", b"intent_9", 1))
    with pytest.raises(UserError, match=r"train\.jsonl is not what its dataset\.json says"):
        store.publish(folder)
    assert not store.holds(folder.name)


def test_restore_by_the_beginning_of_a_fingerprint(store: Store, repository: Repository, tmp_path: Path) -> None:
    first, second = written(repository, "qa"), written(repository, "other")
    store.publish(first)
    store.publish(second)
    elsewhere = clone(store, tmp_path)
    assert restore_dataset(first.name[:8], elsewhere).name == first.name
    twin = first.name[:8] + "0" * 56
    filesystem, base = opened(store)
    filesystem.pipe_file(f"{base}/{twin}/dataset.json", b"{}")
    with pytest.raises(UserError, match=f"2 datasets '{first.name[:8]}' in "):
        restore_dataset(first.name[:8], elsewhere)
    with pytest.raises(UserError, match="no dataset '00000000' in ") as caught:
        restore_dataset("0" * 8, elsewhere)
    assert second.name[:12] in (caught.value.hint or "")


@pytest.mark.parametrize("name", ["", "abc", "../../etc", "A" * 64, "g" * 64, "0" * 65, "0123456"])
def test_what_is_no_fingerprint_is_said(name: str, repository: Repository) -> None:
    with pytest.raises(UserError, match="is not a fingerprint"):
        restore_dataset(name, Store(".gitune/store", repository.root))


def test_restore_mends_what_is_damaged_here(store: Store, repository: Repository) -> None:
    folder = written(repository)
    store.publish(folder)
    before = content(folder)
    (folder / "train.jsonl").write_bytes(before["train.jsonl"].replace(b"intent_0", b"intent_9", 1))
    assert content(restore_dataset(folder.name, store)) == before


# --- stores that cannot be had ----------------------------------------------------------------------------------------


def test_a_store_that_is_away_is_one_error_in_seconds(
    repository: Repository, s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    import s3fs

    monkeypatch.setattr(s3fs.S3FileSystem, "_cache", {})  # its clients were made for the endpoint that answers
    folder = written(repository)
    before = content(folder)
    store = Store(f"s3://away-{uuid.uuid4().hex}/prefix", repository.root)
    started = time.monotonic()
    with pytest.raises(UserError, match=r"store s3://away-\S+ cannot be read: Could not connect") as caught:
        store.publish(folder)
    assert time.monotonic() - started < 10
    assert "gitune:store" in (caught.value.hint or "")
    assert content(folder) == before


def test_a_bucket_that_does_not_exist_is_said(repository: Repository, s3_server: str) -> None:
    with pytest.raises(UserError, match=r"store s3://no-such-bucket/x cannot be written: .*bucket does not exist"):
        Store("s3://no-such-bucket/x", repository.root).publish(written(repository))


def test_a_missing_package_is_named_with_its_extra(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(UserError, match="gs://bucket/x: needs the package gcsfs") as caught:
        Store("gs://bucket/x", repository.root).holds("0" * 64)
    assert caught.value.hint == "pip install 'gitune[gs]'"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3://AKIAKEY:hunter22@bucket/prefix", "must not hold a credential"),
        ("s3://AKIAKEY:hun/ter22@bucket/hunter22", "must not hold a credential"),
        ("abfs://container@account/x?sig=hunter22", "must not hold a credential"),
        ("s4://bucket/prefix", "nothing is known of s4://\n  hint: a folder, s3://"),
        ("simplecache::s3://bucket", "a chain of URLs is not a store"),
        ("", "at least 1"),
        (7, "must be text"),
    ],
)
def test_a_wrong_store_is_said_with_its_line_and_no_secret(
    url: Any, message: str, repository: Repository, gitune: Gitune
) -> None:
    repository.add_agent("qa")
    stack = {"config": {**STACK["config"], "gitune:store": url}}
    repository.write("Pulumi.dev.yaml", yaml.safe_dump(stack, sort_keys=False))
    result = gitune("validate")
    assert result.code == 1
    assert "Pulumi.dev.yaml:8: 'store'" in result.err, result.err
    assert message in result.err
    assert "hunter22" not in result.err


@pytest.mark.parametrize(
    "url",
    [
        "abfs://box@account.dfs.core.windows.net/x",
        "sftp://me@host:22/x",
        "https://host:8443/a@1/b",
        "github://a:b@main/c",
    ],
)
def test_a_name_a_port_and_a_branch_are_no_password(url: str) -> None:
    assert not holds_password(url)


def test_a_password_in_a_source_is_refused(repository: Repository, gitune: Gitune) -> None:
    spec = {"dataset": {"sources": [{"path": "https://me:hunter22@example.org/a.jsonl"}]}}
    repository.add_agent("qa", {**spec, "benchmark": {"cases": "benchmark/cases.jsonl"}})
    result = gitune("validate")
    assert (result.code, "must not hold a password" in result.err, "hunter22" in result.err) == (1, True, False)


# --- the command ------------------------------------------------------------------------------------------------------


def test_a_dataset_whose_sources_are_gone_is_restored_shown_and_compared(
    repository: Repository, gitune: Gitune
) -> None:
    folder = written(repository)
    Store(".gitune/store", repository.root).publish(folder)
    card = (folder / "card.md").read_text()
    repository.write("agents/qa/data/train.jsonl", jsonl([example(f"new {i}", "intent_0") for i in range(20)]))
    for words in (["restore", folder.name[:8]], ["show", folder.name[:8]], ["diff", "qa", folder.name[:8]]):
        for file in folder.glob("*"):
            file.unlink()
        folder.rmdir()
        result = gitune("dataset", *words)
        assert result.code == 0, result.err
        assert content(folder).keys() == FILES
        expected = {"restore": f".gitune/datasets/{folder.name}\n", "show": card, "diff": "20 added, 24 removed"}
        assert expected[words[0]] in result.out


def test_restoring_what_was_never_published_says_so(repository: Repository, gitune: Gitune) -> None:
    repository.add_agent("qa")
    result = gitune("dataset", "restore", "0" * 64)
    assert (result.code, result.out) == (1, "")
    assert "error: .gitune/store/0000" in result.err
    assert "hint: " in result.err
    assert "Traceback" not in result.err
