"""What the process that runs dynamic providers needs: the project, and an end when its engine has ended."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from gitune.errors import UserError
from gitune.project import Project
from gitune.reconcile import Target
from gitune.root import find_root
from gitune.round import ROUND_VARIABLE, read_targets

if TYPE_CHECKING:
    from gitune.wishes import Wish


@functools.cache
def open_project(stack: str) -> Project:
    """The project of the folder that the engine runs in. Read once for a process."""
    return Project.open(stack, find_root())


@functools.cache
def handed_over_targets() -> Mapping[str, Target]:
    """What gitune decided before it started the engine, by agent; nothing where `pulumi` was started by hand."""
    path = os.environ.get(ROUND_VARIABLE)
    return read_targets(Path(path)) if path else {}


@functools.cache
def own_wishes(stack: str) -> Mapping[str, Wish]:
    """What every agent wants, by agent, where gitune has decided nothing. Raises InvalidInput or UserError."""
    from gitune.wishes import read_wishes, within_budgets  # much to import, and mostly not needed

    project = open_project(stack)
    return {wish.agent: wish for wish in within_budgets(read_wishes(project), project, {}, {})}


@contextlib.contextmanager
def telling_the_engine() -> Iterator[None]:
    """The engine passes on an error's text and nothing else, so the hint goes into it; stack.py takes it out again."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{error.message}\nhint: {error.hint}" if error.hint else error.message) from None


@functools.cache
def end_with_engine() -> None:
    """End this process soon after its engine dies.

    Pulumi's dynamic host waits for ever; when the engine is killed with -9 it would stay, and an operation in it could
    still act while the next `gitune up` runs.
    """
    ancestors = psutil.Process().parents()
    engine = next((process for process in ancestors if process.name() == "pulumi"), None)
    if engine is None:
        return

    def watch(engine: psutil.Process) -> None:
        while engine.is_running() and engine.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, args=(engine,), daemon=True).start()
