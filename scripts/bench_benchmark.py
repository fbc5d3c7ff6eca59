"""Cases per second: gitune's benchmark beside the plain loop that one would write oneself, in one run, and their ratio.

Both ask the small base model the agents' own cases, greedily, with the same longest answer, in the weights' own
precision, on the same device. gitune's time includes inspect and its log, with nothing cached; loading the model is
counted for neither. `scripts/bench benchmark [--cases N]`.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gitune.benchmark.cases import Case, load_cases
from gitune.benchmark.grading import open_grading
from gitune.benchmark.models import find_model
from gitune.benchmark.run import Benchmark, spread
from gitune.dataset.chat import as_dicts
from gitune.project import Project
from gitune.spec import load_agents
from gitune.training.base_model import DEFAULT_BASE_MODEL, resolve_base_model

ROOT = Path(__file__).resolve().parent.parent
LONGEST = 16


def plain_loop(cases: Sequence[Case], model: Any, tokenizer: Any) -> tuple[list[str], float]:
    """One conversation after the other, as in Transformers' own examples."""
    import torch

    answers = []
    started = time.perf_counter()
    for case in cases:
        inputs = tokenizer.apply_chat_template(
            as_dicts(case.messages), add_generation_prompt=True, return_tensors="pt", return_dict=True
        ).to(model.device)
        with torch.inference_mode():
            output = model.generate(
                **inputs, max_new_tokens=LONGEST, do_sample=False, pad_token_id=tokenizer.eos_token_id
            )
        answers.append(tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
    return answers, time.perf_counter() - started


def gitune(cases: Sequence[Case], folder: Path) -> tuple[list[str], float]:
    """All of it: batches, inspect, scores, log."""
    from gitune.benchmark import inspect_run  # noqa: F401 - its import is not what is measured
    from gitune.benchmark.inspect_provider import open_answers

    project = Project.open("dev", ROOT)
    spec = load_agents(ROOT)[0]
    settings = spec.benchmark.model_copy(update={"max_new_tokens": LONGEST, "latency_cases": 1})
    bench = Benchmark("bench", folder, cases, settings, open_grading(spec, project), None, lambda *_: None)
    model = find_model(project, f"local:{DEFAULT_BASE_MODEL}")
    open_answers(model.target, 1)  # loads the weights
    started = time.perf_counter()
    scores = bench.scores(model, timed=False)
    return [score.answer for score in scores.scores], time.perf_counter() - started


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench benchmark", description=__doc__)
    parser.add_argument("--cases", type=int, default=100)
    wanted = parser.parse_args().cases
    every = [case for spec in load_agents(ROOT) for case in load_cases(spec, ROOT)]
    cases = spread(every, wanted)
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    folder = resolve_base_model(DEFAULT_BASE_MODEL)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype="auto").to(device).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    where = f"{device}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
    print(f"{len(cases)} cases, {DEFAULT_BASE_MODEL} on {where}", flush=True)
    plain_loop(cases[:2], model, tokenizer)
    expected, loop = plain_loop(cases, model, tokenizer)
    with tempfile.TemporaryDirectory() as folder_:
        found, batched = gitune(cases, Path(folder_))
    same = sum(one.strip() == other.strip() for one, other in zip(expected, found, strict=True))
    print(f"plain loop  {len(cases) / loop:7.1f} cases/s")
    print(f"gitune      {len(cases) / batched:7.1f} cases/s   {loop / batched:.1f} times as fast")
    print(f"{same} of {len(cases)} answers are the same: in bf16 those of an untuned model may depend on the batch")
    return 0


if __name__ == "__main__":
    sys.exit(main())
