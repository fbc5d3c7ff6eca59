"""A model as a scorer: what it is asked, and what its verdict means."""

from __future__ import annotations

import re
from pathlib import Path

from gitune.benchmark.cases import Case
from gitune.scorer_spec import PLACEHOLDERS, JudgeOptions

PROMPT = Path(__file__).with_name("judge_prompt.md")
_GRADE = re.compile(r"^\W*GRADE\W*?(\d+(?:\.\d+)?)\s*(?:/\s*(\d+))?\W*$", re.IGNORECASE | re.MULTILINE)


class NoVerdict(Exception):
    """The judge said something, but no grade."""


def read_prompt(options: JudgeOptions, folder: Path, default: Path = PROMPT) -> str:
    """The agent's own prompt, else gitune's."""
    return (folder / options.prompt if options.prompt else default).read_text(encoding="utf-8")


def ask_judge(prompt: str, answer: str, case: Case) -> str:
    """The prompt with its placeholders filled in, once: braces in an answer are left alone."""
    facts = "\n".join(f"- {fact}" for fact in case.facts)
    target = f"{case.target}\n{facts}" if facts else case.target
    values = {"question": case.question, "target": target, "answer": answer}
    return PLACEHOLDERS.sub(lambda found: values[found[1]], prompt)


def read_verdict(text: str) -> float:
    """The grade on the verdict's last such line, `GRADE: 1`, `GRADE: 0.5` or `GRADE: 7/10`, as 0 to 1.

    Raises NoVerdict: a judge who gives no grade has not judged, which is neither right nor wrong.
    """
    found = _GRADE.findall(text)
    if found:
        grade, scale = float(found[-1][0]), float(found[-1][1] or 1)
        if scale > 0 and grade <= scale:
            return grade / scale
    raise NoVerdict(f"the judge gave no grade: {' '.join(text.split())[:200]!r}")
