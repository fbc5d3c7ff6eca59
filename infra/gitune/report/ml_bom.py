"""A passport as a CycloneDX 1.6 ML-BOM: the model, its base model and its dataset as components, with a model card.

cyclonedx-python-lib has no modelCard (https://github.com/CycloneDX/cyclonedx-python-lib, checked in 11.12), so that one
object is put into what it writes; its schema validator checks the whole.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense
from cyclonedx.model.tool import ToolRepository
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.spdx import fixup_id
from cyclonedx.validation.json import JsonStrictValidator

from gitune.passport import Passport

_NAMESPACE = uuid.UUID("6f3f1d0c-9f0e-5a53-9a3e-6a1d3f0a5c11")
"""Of serial numbers: the same passport, the same BOM."""
_MODEL, _BASE, _DATASET = "model", "base-model", "dataset"


def ml_bom(passport: Passport, sha256: str) -> str:
    """JSON, checked against the schema. `sha256` is the passport's. The same passport gives the same bytes."""
    bom = _bom(passport, sha256)
    data: dict[str, Any] = json.loads(JsonV1Dot6(bom).output_as_string())
    del data["metadata"]["timestamp"]  # of this export, which says nothing of the model
    data["metadata"]["component"]["modelCard"] = _model_card(passport)
    text = json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    wrong = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    assert wrong is None, wrong
    return text


def _bom(passport: Passport, sha256: str) -> Bom:
    lock = passport.lock
    model = Component(
        name=lock["agent"],
        type=ComponentType.MACHINE_LEARNING_MODEL,
        version=lock["version"],
        bom_ref=_MODEL,
        description=f"{lock['model_id']} on {lock['provider']}",
        properties=[Property(name=name, value=value) for name, value in _properties(passport, sha256)],
    )
    base = Component(name=lock["base_model"], type=ComponentType.MACHINE_LEARNING_MODEL, bom_ref=_BASE)
    parts = [base, *_dataset(passport)]
    tool = Component(name="gitune", type=ComponentType.APPLICATION, version=passport.code.gitune)
    bom = Bom(
        serial_number=uuid.uuid5(_NAMESPACE, sha256),
        metadata=BomMetaData(component=model, tools=ToolRepository(components=[tool])),
        components=parts,
    )
    bom.register_dependency(model, parts)
    return bom


def _dataset(passport: Passport) -> Iterator[Component]:
    """The licences are those of its sources."""
    fingerprint = passport.lock["dataset"]["fingerprint"]
    if fingerprint is None:
        return
    sources = passport.dataset.sources if passport.dataset else ()
    licences = sorted({source.licence for source in sources if source.licence})
    files = passport.dataset.files if passport.dataset else {}
    yield Component(
        name=f"{passport.lock['agent']} dataset",
        type=ComponentType.DATA,
        version=fingerprint,
        bom_ref=_DATASET,
        licenses=[_licence(licence) for licence in licences],
        components=[_file(f"{_DATASET}/{name}", name, facts.sha256) for name, facts in files.items()]
        + [_file(f"source/{source.file}", source.file, source.sha256) for source in sources],
    )


def _licence(told: str) -> DisjunctiveLicense:
    known = fixup_id(told)
    return DisjunctiveLicense(id=known) if known else DisjunctiveLicense(name=told)


def _file(bom_ref: str, name: str, sha256: str | None) -> Component:
    hashes = [HashType(alg=HashAlgorithm.SHA_256, content=sha256)] if sha256 else []
    return Component(name=name, type=ComponentType.FILE, bom_ref=bom_ref, hashes=hashes)


def _properties(passport: Passport, sha256: str) -> Iterator[tuple[str, str]]:
    lock, code = passport.lock, passport.code
    yield "gitune:passport", sha256
    yield "gitune:method", lock["method"]
    yield "gitune:verdict", lock["verdict"]["outcome"]
    for name, value in sorted(lock["hyperparameters"].items()):
        yield f"gitune:hyperparameter:{name}", json.dumps(value)
    for name in ("id", "key"):
        if lock["job"].get(name):
            yield f"gitune:job:{name}", lock["job"][name]
    if code.commit:
        yield "gitune:commit", f"{code.commit}{' with changes' if code.dirty else ''}"
    for name, evaluation in sorted(passport.evaluations.items()):
        yield f"gitune:log:{name}", f"sha256:{evaluation.sha256}"


def _model_card(passport: Passport) -> dict[str, Any]:
    lock = passport.lock
    parameters: dict[str, Any] = {
        "approach": {"type": "supervised"},
        "task": "text-generation",
        "inputs": [{"format": "string"}],
        "outputs": [{"format": "string"}],
    }
    if lock["dataset"]["fingerprint"] is not None:
        parameters["datasets"] = [{"ref": _DATASET}]
    metrics = [{"type": name, "value": value, "slice": slice_} for name, slice_, value in _metrics(lock["benchmark"])]
    card: dict[str, Any] = {"modelParameters": parameters}
    return {**card, "quantitativeAnalysis": {"performanceMetrics": metrics}} if metrics else card


_METRICS = {
    "accuracy": "accuracy",
    "base_accuracy": "accuracy of the base model",
    "latency_seconds": "median latency, seconds",
}


def _metrics(benchmark: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    cases = f"{benchmark['cases']} held-out cases"
    named = {
        "accuracy": "accuracy",
        "base_accuracy": "accuracy of the base model",
        "latency_seconds": "latency, seconds",
    }
    for field, name in named.items():
        if benchmark.get(field) is not None:
            yield name, cases, str(benchmark[field])
