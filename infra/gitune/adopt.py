"""Taking over a model that was trained before gitune, or beside it."""

from __future__ import annotations

from dataclasses import replace

from gitune.errors import NotFound, UserError
from gitune.history import taken_versions
from gitune.lock import Lock, next_version, read_lock
from gitune.project import Project
from gitune.provenance import code_record, write_with_passport
from gitune.providers.base import Model
from gitune.spec import AgentSpec

ADOPTED = "adopted"
"""The outcome in the lock of a model that no gate has judged."""


def adopt(
    spec: AgentSpec, project: Project, provider: str, model_id: str, *, job_id: str | None, examples: int | None
) -> tuple[Lock, bool]:
    """Write the lock of an existing model, after the provider has confirmed that it is there.

    Returns the lock, and whether it is new. Raises UserError or ProviderError; then nothing is written.
    """
    path = project.lock_file(spec.name)
    previous = read_lock(path)
    if previous is not None and (previous.provider, previous.model_id) == (provider, model_id):
        return previous, False
    lock = _lock(spec, provider, _existing(project, provider, model_id), job_id, examples)
    lock = replace(lock, version=next_version(previous, lock, taken_versions(project, spec.name)))
    return write_with_passport(project, lock, code_record(project)), True


def _existing(project: Project, provider: str, model_id: str) -> Model:
    model = project.provider(provider).get_model(model_id)
    if model is None:
        raise NotFound(f"{provider} has no model '{model_id}'", hint="check the ID, and whose account the key is of")
    if model.archived:
        raise UserError(f"'{model_id}' is archived at {provider}", hint="unarchive it there first")
    return model


def _lock(spec: AgentSpec, provider: str, model: Model, job_id: str | None, examples: int | None) -> Lock:
    return Lock(
        agent=spec.name,
        version="",
        provider=provider,
        model_id=model.model_id,
        base_model=model.base_model,
        method="lora",
        hyperparameters={},
        dataset={"fingerprint": None, "examples": examples},
        job={"id": job_id, "key": None, "seconds": None, "cost_usd": None, "estimated_usd": None, "passed_over": None},
        benchmark={
            "cases": 0,
            "fingerprint": None,
            "accuracy": None,
            "base_accuracy": None,
            "latency_seconds": None,
        },
        verdict={"outcome": ADOPTED, "reasons": ["trained outside gitune; no gate has judged it"], "gate": None},
    )
