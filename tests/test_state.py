"""Locks of engines, dead and alive."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from gitune.files import is_locked, locked, read_json, try_lock, write_atomic
from gitune.state import FileState, resource_outputs, told_locks, without_pending


def _state(tmp_path: Path, **facts: object) -> FileState:
    state = FileState.at(f"file://{tmp_path}?create_dir=true", tmp_path, "gitune", "dev")
    assert state is not None
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.123456789Z")
    lock = {"pid": os.getpid(), "username": "me", "hostname": socket.gethostname(), "timestamp": now, **facts}
    write_atomic(tmp_path / ".pulumi/locks/organization/gitune/dev/0fe0482d.json", json.dumps(lock))
    return state


def _ended_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_the_lock_of_a_living_process_stands(tmp_path: Path) -> None:
    (lock,) = _state(tmp_path).locks()
    assert not lock.dead
    assert str(lock).startswith(f"me@{socket.gethostname()}, process {os.getpid()}, since 20")


def test_the_lock_of_an_ended_process_is_dead_and_can_be_removed(tmp_path: Path) -> None:
    state = _state(tmp_path, pid=_ended_process())
    (lock,) = state.locks()
    assert lock.dead
    state.remove_lock(lock)
    assert list(state.locks()) == []


def test_a_process_that_only_has_the_owners_number_is_not_the_owner(tmp_path: Path) -> None:
    long_ago = (datetime.now(UTC) - timedelta(days=300)).strftime("%Y-%m-%dT%H:%M:%SZ")
    (lock,) = _state(tmp_path, timestamp=long_ago).locks()
    assert lock.dead


def test_a_lock_of_another_machine_is_never_called_dead(tmp_path: Path) -> None:
    (lock,) = _state(tmp_path, pid=_ended_process(), hostname="elsewhere").locks()
    assert not lock.dead


def test_only_an_old_lock_of_another_machine_is_not_waited_for(tmp_path: Path) -> None:
    (here,) = _state(tmp_path).locks()
    (there,) = _state(tmp_path, hostname="elsewhere").locks()
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    assert there.abandoned(tomorrow, watched_seconds=60)
    assert not there.abandoned(tomorrow, watched_seconds=0)  # perhaps our clock is a day ahead
    assert not there.abandoned(datetime.now(UTC), watched_seconds=60)
    assert not here.abandoned(tomorrow, watched_seconds=60)


@pytest.mark.parametrize("zone", [-8, 0, 5.5])
def test_a_lock_says_its_time_in_its_own_zone(zone: float, tmp_path: Path) -> None:
    now = datetime.now(UTC).astimezone(timezone(timedelta(hours=zone)))
    (lock,) = _state(tmp_path, timestamp=now.isoformat()).locks()
    assert not lock.dead
    assert f"since {now.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" in str(lock)


def test_the_engine_names_the_locks_of_a_bucket_when_it_refuses() -> None:
    place = "s3://team/.pulumi/locks/organization/gitune/training"
    words = (
        "error: the stack is currently locked by 2 lock(s). Either wait for the other process(es) to end or delete "
        "the lock file with `pulumi cancel`.\n"
        f"  {place}/1.json: created by CORP\\ada@ci-7 (pid 12) at 2026-11-23T13:00:00+02:00\n"
        f"  {place}/2.json: created by me@laptop (pid 7) at 2026-11-23T11:00:05Z\n"
    )
    first, second = told_locks(words)
    assert str(first) == "CORP\\ada@ci-7, process 12, since 2026-11-23 11:00:00 UTC"
    assert first.foreign
    assert not first.dead
    assert second.place.endswith("/2.json")
    assert told_locks("error: [409] Conflict: Another update is currently in progress.") == ()


@pytest.mark.parametrize("url", ["s3://bucket", "https://api.pulumi.com", ""])
def test_other_backends_have_no_files(url: str, tmp_path: Path) -> None:
    assert FileState.at(url, tmp_path, "gitune", "dev") is None


def test_recorded_resources_are_read_by_agent(tmp_path: Path) -> None:
    outputs = {"agent": "support", "status": "succeeded"}
    deployment = {
        "resources": [
            {"type": "pulumi:pulumi:Stack"},
            {"type": "pulumi-python:dynamic/gitune:FineTunedModel", "outputs": outputs},
        ],
        "pending_operations": [{}],
    }
    assert resource_outputs(deployment, "FineTunedModel") == {"support": outputs}
    assert resource_outputs({}, "FineTunedModel") == {}
    assert "pending_operations" not in without_pending(deployment)


def test_a_lock_is_exclusive_and_dies_with_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not is_locked(path)
    code = (
        f"import sys; from pathlib import Path; from gitune.files import try_lock; f = try_lock(Path({str(path)!r}));"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code + "print('held', flush=True); sys.stdin.read()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    assert is_locked(path)
    assert try_lock(path) is None
    with pytest.raises(TimeoutError), locked(path, wait_seconds=0.1):
        pass
    holder.kill()
    holder.communicate()
    assert not is_locked(path)
    file = try_lock(path)
    assert file is not None
    file.close()


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    write_atomic(path, "{}")
    with pytest.raises(UnicodeEncodeError):
        write_atomic(path, "\ud800")
    assert read_json(path) == {}
    assert [p.name for p in tmp_path.iterdir()] == ["file.json"]
