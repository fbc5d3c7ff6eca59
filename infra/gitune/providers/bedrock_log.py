"""What a model customization job of Bedrock's is known to have done, in lines. Pure.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_GetModelCustomizationJob.html
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from gitune.providers.lines import told_at
from gitune.providers.wire import one_line

_STAGES = {
    "validationDetails": "validating the data",
    "dataProcessingDetails": "processing the data",
    "trainingDetails": "training",
}
_UNBEGUN = ("NotStarted", None)
_UNENDED = ("InProgress", "Stopping")


def told_of(said: Mapping[str, Any]) -> list[str]:
    """The lines of one answer of GetModelCustomizationJob. A later answer of the same job begins with the same ones."""
    lines = [_line(said["creationTime"], f"job {said['jobName']} was accepted")]
    for name, words in _STAGES.items():
        stage = said.get("statusDetails", {}).get(name, {})
        status = stage.get("status")
        if status in _UNBEGUN:
            continue
        lines.append(_line(stage.get("creationTime", said["creationTime"]), f"{words}: begun"))
        if status not in _UNENDED:
            lines.append(_line(stage.get("lastModifiedTime", said["creationTime"]), f"{words}: {status.lower()}"))
    if said["status"] in _UNENDED:
        return lines
    end = said.get("endTime") or said["creationTime"]
    why = f": {one_line(said['failureMessage'])}" if said.get("failureMessage") else ""
    lines.append(_line(end, f"the job is {said['status'].lower()}{why}"))
    loss = said.get("trainingMetrics", {}).get("trainingLoss")
    if loss is not None:
        lines.append(_line(end, f"training loss {loss:g}"))
    folder = said.get("outputDataConfig", {}).get("s3Uri")
    if folder:
        job = said["jobArn"].rpartition("/")[2]
        lines.append(_line(end, f"metrics by step: {folder.rstrip('/')}/model-customization-job-{job}/"))
    return lines


def _line(at: datetime, words: str) -> str:
    return told_at(at.timestamp(), words)
