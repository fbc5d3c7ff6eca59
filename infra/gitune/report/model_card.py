"""A passport as a Hugging Face model card: metadata that the Hub reads, and a page for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from gitune.passport import Passport


def model_card(passport: Passport, sha256: str) -> str:
    """README.md of a model. `sha256` is the passport's."""
    lock = passport.lock
    data = ModelCardData(
        model_name=f"{lock['agent']} {lock['version']}",
        base_model=lock["base_model"],
        pipeline_tag="text-generation",
        tags=["gitune", lock["method"]],
        eval_results=list(_results(lock)),
    )
    body = "\n\n".join(_parts(passport, sha256))
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n{body}\n"))


def _results(lock: Any) -> Iterator[EvalResult]:
    benchmark = lock["benchmark"]
    for metric, name, field in (("accuracy", "Accuracy", "accuracy"), ("latency", "Latency (s)", "latency_seconds")):
        if benchmark.get(field) is not None:
            yield EvalResult(
                task_type="text-generation",
                dataset_type=f"{lock['agent']}-cases",
                dataset_name=f"{benchmark['cases']} held-out cases of {lock['agent']}",
                dataset_revision=benchmark["fingerprint"],
                metric_type=metric,
                metric_name=name,
                metric_value=benchmark[field],
            )


def _parts(passport: Passport, sha256: str) -> Iterator[str]:
    lock, code = passport.lock, passport.code
    yield f"# {lock['agent']} {lock['version']}"
    yield f"`{lock['model_id']}` on {lock['provider']}: {lock['base_model']}, tuned with {lock['method']}."
    yield "## Training data"
    if lock["dataset"]["fingerprint"] is None:
        yield "Trained outside gitune; its data is not known."
    else:
        yield f"{lock['dataset']['examples']} examples, fingerprint `{lock['dataset']['fingerprint']}`."
    sources = passport.dataset.sources if passport.dataset else ()
    if sources:
        yield _table(
            ("source", "licence", "examples", "SHA-256"),
            [(s.file, s.licence or "not declared", s.examples, s.sha256 or "-") for s in sources],
        )
    yield "## Hyperparameters"
    yield (
        _table(("name", "value"), sorted(lock["hyperparameters"].items())) if lock["hyperparameters"] else "Not known."
    )
    yield "## Evaluation"
    yield _table(("measured", "value"), list(_measured(passport)))
    yield f"Verdict of the gate: {lock['verdict']['outcome']}."
    yield "\n".join(f"- {_cell(reason)}" for reason in lock["verdict"]["reasons"])
    yield "## Where it came from"
    commit = f"commit `{code.commit}`{' with changes that no commit has' if code.dirty else ''}" if code.commit else ""
    yield f"Passport `{sha256}`; gitune {code.gitune}{f', {commit}' if commit else ''}; job `{lock['job']['id']}`."


def _measured(passport: Passport) -> Iterator[tuple[str, Any]]:
    benchmark = passport.lock["benchmark"]
    yield "cases", benchmark["cases"]
    yield "accuracy", benchmark["accuracy"]
    for baseline in passport.baselines:
        yield f"accuracy of the {baseline.role}", baseline.reason if baseline.accuracy is None else baseline.accuracy
    yield "median latency, seconds", benchmark["latency_seconds"]


def _table(header: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(value: Any) -> str:
    """One line that cannot leave its cell."""
    text = " ".join(str("-" if value is None else value).split())
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
