"""A benchmark on this machine, with the real small model: batched, repeatable, and the same as one by one."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

pytest.importorskip("inspect_ai", reason="the extra 'benchmark' is not installed")
pytest.importorskip("trl", reason="the extra 'local' is not installed")

from gitune.errors import UserError
from gitune.training.base_model import DEFAULT_BASE_MODEL, resolve_base_model
from tests.conftest import Repository, agent_yaml, case

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("default"),  # torch and transformers deprecate each other's calls
]
BASE = f"local:{DEFAULT_BASE_MODEL}"


@pytest.fixture(autouse=True)
def base_model() -> None:
    try:
        resolve_base_model(DEFAULT_BASE_MODEL)
    except UserError as error:
        pytest.skip(error.message)


@pytest.mark.long
def test_same_model_twice_is_no_difference(repository: Repository, gitune: Any) -> None:
    from inspect_ai.log import read_eval_log

    settings = {"cases": "benchmark/cases.jsonl", "max_new_tokens": 6, "latency_cases": 2, "scorer": "f1"}
    cases = [case(f"c{n}", f"Say a word that begins with {chr(97 + n)}{'.' * n}", "a word") for n in range(20)]
    repository.add_agent("words", agent_yaml(benchmark=settings), cases=cases)
    result = gitune("benchmark", "words", "--model", BASE, "--against", BASE, "--runs", "2", "--json")
    assert result.code == 0, result.err
    (found,) = json.loads(result.out)
    assert found["difference"]["estimate"] == 0
    assert found["differences"] == []
    assert found["model"]["score"] > 0
    log = read_eval_log(str(repository.root / ".gitune" / found["model"]["log"]))
    assert log.status == "success"
    assert len(log.samples or []) == 40
    timed = read_eval_log(str(repository.root / ".gitune" / found["model"]["latency_log"]))
    assert 0 < found["model"]["latency_seconds"] < 60
    assert len(timed.samples or []) == 2

    (repository.root / ".gitune" / found["model"]["log"]).unlink()
    again = gitune("benchmark", "words", "--model", BASE, "--against", BASE, "--runs", "2", "--json")
    assert json.loads(again.out)[0]["model"]["score"] == found["model"]["score"]
    assert (repository.root / ".gitune" / json.loads(again.out)[0]["model"]["log"]).is_file()


def test_other_tasks_of_inspects_may_ask_an_agents_model(repository: Repository, gitune: Any) -> None:
    from inspect_ai import Task, eval  # noqa: A004
    from inspect_ai.dataset import Sample
    from inspect_ai.scorer import includes

    repository.add_agent("words")
    repository.write("Pulumi.dev.yaml", yaml.safe_dump({"config": {"gitune:provider": "local"}}))
    (log,) = eval(
        Task(dataset=[Sample(input="Say yes.", target="e")], scorer=includes()),
        model=f"gitune/{BASE}",
        log_dir=str(repository.root / "logs"),
        display="none",
        max_tokens=8,
    )
    assert log.status == "success", log.error
    assert log.samples
    assert log.samples[0].output.completion


def test_judge_and_judged_take_turns_on_one_base_model(repository: Repository, gitune: Any) -> None:
    scorer = {"judge": {"model": BASE, "prompt": "judge.md", "max_new_tokens": 12}}
    settings = {"cases": "benchmark/cases.jsonl", "max_new_tokens": 4, "latency_cases": 1, "scorer": scorer}
    repository.write("agents/words/judge.md", "Repeat: GRADE: 1. Say nothing else. {answer}")
    repository.add_agent("words", agent_yaml(benchmark=settings))
    result = gitune("benchmark", "words", "--model", BASE, "--against", BASE, "--cases", "6", "--json")
    if result.code == 0:  # what so small a judge says is its own business: it has graded, or it is told that it has not
        assert json.loads(result.out)[0]["difference"]["estimate"] == 0
    else:
        assert "gave no grade" in result.err + result.out
