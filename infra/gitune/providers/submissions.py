"""What this clone has asked a provider to train, written down before the call that costs money.

For providers without an idempotency key. A submission whose answer was lost may have been accepted, and a list may lag
behind. So before the call the key is written to disk; as long as it is fresh and no job is found, nobody in this clone
submits it again. After the answer the job's ID is written, and the job is asked for by ID, which does not lag.

    .gitune/submissions/<provider>/<training key>.json    {"at": seconds since 1970, "job_id": null or text}
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from gitune.errors import ProviderError, Unanswered, Unavailable
from gitune.files import locked, read_json, write_atomic
from gitune.providers.base import Job, TrainingKey

LISTED_AFTER_SECONDS = 300.0
"""A job that was accepted is listed by then. Providers say nothing about it; seconds are what is seen."""


class Submissions:
    """The submissions of one provider in one clone."""

    def __init__(self, root: Path, provider: str, *, clock: Callable[[], float] = time.time) -> None:
        self._folder = root / ".gitune" / "submissions" / provider
        self._provider = provider
        self._clock = clock

    def job_id(self, key: TrainingKey) -> str | None:
        """The ID of the job that this clone submitted for the key, if the provider answered."""
        note = read_json(self._file(key))
        return note.get("job_id") if isinstance(note, dict) else None

    def submit_once(self, key: TrainingKey, find: Callable[[], Job | None], submit: Callable[[], Job]) -> Job:
        """The job that `find` finds, else what `submit` starts; two processes of this clone never both submit.

        Raises Unanswered while an earlier submission without an answer may still turn up, and what the calls raise.
        """
        file = self._file(key)
        with locked(file.with_suffix(".lock")):
            found = find()
            if found is not None and (found.live or found.status == "succeeded"):
                return found
            self._refuse_while_unanswered(file)
            self._note(file, None)
            with _forgotten_when_refused(file):
                job = submit()
            self._note(file, job.job_id)
            return job

    def _refuse_while_unanswered(self, file: Path) -> None:
        note = read_json(file)
        if not isinstance(note, dict) or note.get("job_id") is not None:
            return
        wait = note["at"] + LISTED_AFTER_SECONDS - self._clock()
        if wait > 0:
            message = f"the answer to a submission was lost; {self._provider} may have accepted it"
            raise Unanswered(message, retry_after=wait, hint=f"looked for again; submitted anew in {wait:.0f} s")

    def _note(self, file: Path, job_id: str | None) -> None:
        write_atomic(file, json.dumps({"at": self._clock(), "job_id": job_id}))

    def _file(self, key: TrainingKey) -> Path:
        return self._folder / f"{key}.json"


@contextlib.contextmanager
def _forgotten_when_refused(file: Path) -> Iterator[None]:
    """A clear no is an answer: nothing was accepted. Only silence leaves the note."""
    try:
        yield
    except Unavailable:
        raise
    except ProviderError:
        file.unlink(missing_ok=True)
        raise
