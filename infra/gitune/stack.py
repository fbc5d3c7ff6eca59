"""The Pulumi engine, driven through its Automation API: one pass at a time."""

from __future__ import annotations

import os
import random
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pulumi import automation
from pulumi.automation import events
from pulumi.automation._stack import StackInitMode  # the constructor takes it, but the package does not export it
from semver import VersionInfo

from gitune.backend import backend_url, file_state
from gitune.checked import CHECKED_VARIABLE, hand_over
from gitune.engine.install import Engine, engine_environment, ensure_engine
from gitune.errors import EngineError
from gitune.project import Project
from gitune.round import ROUND_VARIABLE
from gitune.state import RESOURCE_PREFIX, EngineLock, FileState, told_locks, without_pending
from gitune.wishes import Wish

_LOOK_SECONDS = 1.0
_ENGINE_LOOK_SECONDS = 2.0
"""Each look starts the engine."""


@dataclass(frozen=True, slots=True)
class Step:
    """One resource in a pass: what is done to it, from what is recorded to what is wanted."""

    kind: str
    agent: str
    operation: str
    recorded: Mapping[str, Any]
    """Outputs before, empty for a new resource."""
    wanted: Mapping[str, Any]
    """Inputs now, empty for a deletion."""


OnStep = Callable[[Step], None]
Notify = Callable[[str], None]


class PulumiStack:
    """One stack of one project. Open it with `PulumiStack.open`."""

    def __init__(
        self, project: Project, engine: Engine, environment: Mapping[str, str], wishes: Sequence[Wish] = ()
    ) -> None:
        self._project = project
        self.engine_version = engine.version
        self._environment = dict(environment)
        self._files = file_state(project)
        self._workspace = automation.LocalWorkspace(
            work_dir=str(project.root), env_vars=self._environment, pulumi_command=_LeanCommand(engine)
        )
        self._stack: automation.Stack | None = None
        if wishes:
            # A killed command leaves it to the engine, which reads it when it starts; the system clears it away.
            self._checked = tempfile.NamedTemporaryFile(prefix="gitune-checked-", suffix=".json")  # noqa: SIM115
            self._environment[CHECKED_VARIABLE] = self._checked.name
            hand_over(wishes, Path(self._checked.name))

    @classmethod
    def open(cls, project: Project, wishes: Sequence[Wish] = ()) -> PulumiStack:
        """Find the engine, and the backend's address. Raises EngineError.

        `wishes` are those of all agents, as this command checked them: no dataset is built again.
        """
        engine = ensure_engine()
        return cls(project, engine, stack_environment(project.root, engine), wishes)

    def recorded(self) -> Mapping[str, Any]:
        """The deployment as it was last recorded; empty before the first pass. Raises EngineError."""
        if self._files is not None:
            return self._files.deployment()
        try:
            return self._workspace.export_stack(self._project.stack.name).deployment or {}
        except automation.StackNotFoundError:
            return {}
        except automation.CommandError as error:
            raise _backend_error(error) from error

    def mend(self, notify: Notify) -> None:
        """Undo what a killed engine left: its lock, and operations that it did not finish. Waits for a living owner.

        Whether the owner lives is known on its own machine only. Raises EngineError for a lock of another machine that
        is older than any pass.
        """
        if self._files is None:
            return
        self._wait_for_locks(self._files, notify)
        deployment = self._files.deployment()
        if deployment.get("pending_operations"):
            count = len(deployment["pending_operations"])
            cleaned = automation.Deployment(version=3, deployment=without_pending(deployment))
            try:
                self._selected().import_stack(cleaned)
            except automation.ConcurrentUpdateError:  # another engine has begun: these were its own
                self.mend(notify)
            else:
                notify(f"resolved {count} operation(s) that a killed engine left pending")

    def _wait_for_locks(self, files: FileState, notify: Notify) -> None:
        watch = _LockWatch(self._project.stack.name, notify)
        while locks := list(files.locks()):
            dead = [lock for lock in locks if lock.dead]
            for lock in dead:
                files.remove_lock(lock)
                notify(f"removed the lock of a dead engine ({lock})")
            if len(dead) < len(locks):
                watch.wait((lock for lock in locks if lock not in dead), _LOOK_SECONDS)

    def up(self, targets: Path, on_step: OnStep, notify: Notify) -> Mapping[str, Any]:
        """One pass of `pulumi up --refresh` towards the targets of a round. Returns what is recorded then.

        Raises EngineError.

        An engine whose starter was killed may take the lock after `mend` has looked: then it is waited for again.
        """
        self._environment[ROUND_VARIABLE] = str(targets)
        watch = _LockWatch(self._project.stack.name, notify)
        attempts = 0
        while True:
            attempts += 1
            collector = _Collector(on_step)
            try:
                self._selected().up(refresh=True, on_event=collector, color="never", suppress_outputs=True)
                return self.recorded()
            except automation.ConcurrentUpdateError as error:
                if self._files is None:
                    locks = told_locks(str(error))
                    watch.refuse_dead(locks)
                    watch.wait(locks, _ENGINE_LOOK_SECONDS)
                elif attempts < _LOCK_ATTEMPTS:
                    self.mend(notify)
                else:
                    raise collector.error(error) from error
            except automation.CommandError as error:
                raise collector.error(error) from error

    def preview(self, targets: Path, on_step: OnStep) -> None:
        """What a pass would do. Changes nothing. Raises EngineError."""
        self._environment[ROUND_VARIABLE] = str(targets)
        collector = _Collector(on_step)
        try:
            self._selected().preview(refresh=True, on_event=collector, color="never", suppress_outputs=True)
        except automation.CommandError as error:
            raise collector.error(error) from error

    def _selected(self) -> automation.Stack:
        if self._stack is None:
            try:
                known = self._files is not None and self._files.checkpoint_file.is_file()
                self._stack = _LeanStack(self._project.stack.name, self._workspace, known=known)
            except automation.StackAlreadyExistsError:  # another machine made it between the engine's two looks
                self._stack = _LeanStack(self._project.stack.name, self._workspace, known=True)
            except automation.CommandError as error:
                raise _backend_error(error) from error
        return self._stack


class _LockWatch:
    """Waits for the engines that hold a stack's lock, and gives up on one that is gone."""

    def __init__(self, stack: str, notify: Notify) -> None:
        self._cancel = f"gitune pulumi cancel --yes --stack {stack}"
        self._notify = notify
        self._since: dict[str, float] = {}

    def wait(self, locks: Iterable[EngineLock], seconds: float) -> None:
        """About so long. No locks: Pulumi Cloud does not say whose. Raises EngineError where the owner is gone."""
        now = datetime.now(UTC)
        found = {lock.place: lock for lock in locks}
        for place, lock in found.items():
            if lock.abandoned(now, self._watched_seconds(place, str(lock))):
                hint = f"if nothing runs there any more: {self._cancel}, then gitune up again"
                raise EngineError(f"another machine holds the stack's lock ({lock})", hint=hint)
        if not found and self._watched_seconds("", "the backend does not say whose") > _LONGEST_WAIT_SECONDS:
            hint = f"if nothing runs any more: {self._cancel}, then gitune up again"
            raise EngineError("another engine holds the stack's lock", hint=hint)
        # two that wait are not to look at the same moment: each would see the other's lock, and both would step back
        time.sleep(seconds * random.uniform(0.5, 1.5))

    def refuse_dead(self, locks: Iterable[EngineLock]) -> None:
        """Where only the engine can remove a lock, and then all of them at once. Raises EngineError."""
        for lock in locks:
            if lock.dead:
                hint = f"run: {self._cancel}, then gitune up again"
                raise EngineError(f"an engine was killed and left the stack's lock ({lock})", hint=hint)

    def _watched_seconds(self, place: str, who: str) -> float:
        if place not in self._since:
            self._since[place] = time.monotonic()
            self._notify(f"waiting for another engine ({who})")
        return time.monotonic() - self._since[place]


class _LeanCommand(automation.PulumiCommand):
    """The engine's command line, not asked again for the version that `ensure_engine` knows."""

    def __init__(self, engine: Engine) -> None:
        self.command = str(engine.command)
        self.version = VersionInfo.parse(engine.version)


class _LeanStack(automation.Stack):
    """A stack that is not selected when it is known, because every call names it; and whose `up` ends with the engine.

    The Automation API then calls the command line three times more, for outputs and for the history of updates: 0.7 s
    of every pass for what nobody here reads.
    """

    def __init__(self, name: str, workspace: automation.Workspace, *, known: bool) -> None:
        if not known:
            super().__init__(name, workspace, StackInitMode.CREATE_OR_SELECT)
            return
        self.name, self.workspace, self._mode = name, workspace, StackInitMode.SELECT

    def outputs(self) -> automation.OutputMap:
        return {}

    def info(self, _show_secrets: bool | None = None) -> automation.UpdateSummary:
        return automation.UpdateSummary("update", datetime.now(UTC), "", {}, {}, "succeeded")


_LOCK_ATTEMPTS = 10
_LONGEST_WAIT_SECONDS = 600.0
_HINT = "run: gitune pulumi up --refresh, to see all that the engine says"
_OURS = re.compile(r"^gitune\.errors\.\w+: (?P<message>.+)(?:\n\s*hint: (?P<hint>.+))?", re.MULTILINE)
"""A GituneError of a resource, as Python prints it; see resources/host.py."""


class _Collector:
    """Turns engine events into steps, and keeps what the engine said of errors."""

    def __init__(self, on_step: OnStep) -> None:
        self._on_step = on_step
        self._errors: list[str] = []

    def __call__(self, event: events.EngineEvent) -> None:
        if event.diagnostic_event is not None and event.diagnostic_event.severity == "error":
            self._errors.append(event.diagnostic_event.message.strip())
        if event.resource_pre_event is not None:
            step = _step(event.resource_pre_event.metadata)
            if step is not None:
                self._on_step(step)

    def error(self, error: automation.CommandError) -> EngineError:
        told = next((text for text in self._errors if text and text != "update failed"), str(error))
        for ours in reversed(list(_OURS.finditer(told))):  # the last that was raised, of a chain
            return EngineError(ours["message"], hint=ours["hint"] or _HINT)
        return EngineError(_last_line(told), hint=_HINT)


def _step(metadata: events.StepEventMetadata) -> Step | None:
    if not metadata.type.startswith(RESOURCE_PREFIX) or metadata.op in ("same", "refresh", "read"):
        return None
    recorded = (metadata.old.outputs if metadata.old else None) or {}
    wanted = (metadata.new.inputs if metadata.new else None) or {}
    agent = metadata.urn.rpartition("::")[2]
    return Step(metadata.type.removeprefix(RESOURCE_PREFIX), agent, metadata.op.value, recorded, wanted)


def _backend_error(error: automation.CommandError) -> EngineError:
    return EngineError(_last_line(str(error)), hint="gitune doctor looks at the backend and its credentials")


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "the Pulumi engine failed"


_ENGINE_SETTINGS: Mapping[str, str] = {
    # The engine writes all of its state once, at the end of a pass, and not twice for each resource: that took time and
    # disk by the square of the agents. What a killed pass did is found again, as it must be: by key, content, alias.
    "PULUMI_SKIP_CHECKPOINTS": "true",
    # A copy of all state after each pass; the history of updates has the same copy beside it.
    "PULUMI_DIY_BACKEND_DISABLE_CHECKPOINT_BACKUPS": "true",
}


def stack_environment(root: Path, engine: Engine) -> dict[str, str]:
    """The variables that the engine needs, over the caller's own.

    A passphrase is asked of nobody who did not set one: gitune stores no secret in state.
    """
    ours = engine_environment(engine, Path(sys.prefix))
    ours["GITUNE_ROOT"] = str(root)
    ours |= {name: value for name, value in _ENGINE_SETTINGS.items() if name not in os.environ}
    url = backend_url(root)
    if url:
        ours["PULUMI_BACKEND_URL"] = url
    if not {"PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE"} & set(os.environ):
        ours["PULUMI_CONFIG_PASSPHRASE"] = ""
    return ours
