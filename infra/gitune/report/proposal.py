"""The pull request of a new lock: verdict, scores, what got worse, cost. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gitune.lock import Lock
from gitune.report.markdown import COMMENT_LIMIT, Block, bullets, code, escaped, fitted, header, row

_ANSWER = 300
_REASON = 1000
_REASON_ROOM = 12_000
_NOTE_ROOM = 300


def proposal_title(lock: Lock, previous: Lock | None) -> str:
    """Such as "support 1.1.0: 76.0 % (+4.0 points)". Names and numbers only."""
    accuracy, before = lock.benchmark.get("accuracy"), _comparable(lock, previous)
    if not isinstance(accuracy, int | float):
        return f"{lock.agent} {lock.version}"
    moved = f" ({(accuracy - before) * 100:+.1f} points)" if before is not None else ""
    return f"{lock.agent} {lock.version}: {accuracy:.1%}{moved}"


def proposal_body(lock: Lock, previous: Lock | None, regressions: Sequence[Mapping[str, Any]]) -> str:
    """At most as long as GitHub takes; of what got worse the worst stands first, and goes last for size."""
    blocks = list(_blocks(lock, previous, regressions))
    foot = f"### Next\n\n{bullets(_next(lock))}"
    text, missed = fitted(blocks, COMMENT_LIMIT - len(foot) - _NOTE_ROOM)
    if missed:
        said = ", ".join(f"{count:,} {what}" for what, count in missed.items())
        foot = f"Left out for size: {said}.\n\n{foot}"
    return text + foot


def _blocks(lock: Lock, previous: Lock | None, regressions: Sequence[Mapping[str, Any]]) -> Iterator[Block]:
    outcome = str(lock.verdict.get("outcome", "unknown")).capitalize()
    yield Block(f"## {escaped(outcome)}: {escaped(lock.agent)} {escaped(lock.version)}\n\n")
    room = _REASON_ROOM
    for reason in map(str, lock.verdict.get("reasons") or ()):
        line = f"- {escaped(reason, _REASON)}\n"
        room -= len(line)
        yield Block(line, 0 if room > 0 else 2, "reason(s)")
    yield Block("\n")
    yield Block(header("", "in production" if previous else "base model", "proposed"))
    for cells in _rows(lock, previous):
        yield Block(row(cells))
    yield Block("\n")
    yield Block(f"### Cost\n\n{bullets(_costs(lock))}\n")
    if regressions:
        yield Block(f"### What got worse: {len(regressions):,} case(s)\n\n")
        yield Block(header("case", "before", "now"))
        for one in regressions:
            yield Block(row(_regression(one)), 1, "case(s) that got worse")
        yield Block("\n")


def _rows(lock: Lock, previous: Lock | None) -> Iterator[tuple[str, str, str]]:
    if previous is None:
        base = lock.benchmark.get("base_accuracy")
        yield "accuracy", _percent(base), f"**{_percent(lock.benchmark.get('accuracy'))}**"
        yield "model", escaped(lock.base_model), f"{code(lock.model_id)} on {escaped(lock.provider)}"
    else:
        before = _comparable(lock, previous)
        told = _percent(before) if before is not None else "of other cases"
        yield "accuracy", told, f"**{_percent(lock.benchmark.get('accuracy'))}**"
        yield "version", escaped(previous.version), escaped(lock.version)
        yield "model", _model(previous), _model(lock)
        yield "base model", escaped(previous.base_model), escaped(lock.base_model)
    old = previous.dataset if previous else {}
    yield "examples", _count(old.get("examples")), _count(lock.dataset.get("examples"))
    yield "dataset", _short(old.get("fingerprint")), _short(lock.dataset.get("fingerprint"))
    yield "cases", _count(previous.benchmark.get("cases") if previous else None), _count(lock.benchmark.get("cases"))
    yield (
        "answer time, median",
        _seconds(previous.benchmark.get("latency_seconds") if previous else None),
        _seconds(lock.benchmark.get("latency_seconds")),
    )
    settings = {**(previous.hyperparameters if previous else {}), **lock.hyperparameters}
    for name in settings:
        was = previous.hyperparameters.get(name) if previous else None
        now = lock.hyperparameters.get(name)
        if was != now:
            yield escaped(name), "" if was is None else escaped(str(was)), "" if now is None else escaped(str(now))


def _costs(lock: Lock) -> Iterator[str]:
    paid, estimated = lock.job.get("cost_usd"), lock.job.get("estimated_usd")
    yield f"paid: {_usd(paid) if paid is not None else 'the provider does not say'}"
    if estimated is None:
        yield "estimated: unknown"
    else:
        low, expected, high = estimated
        yield f"estimated: {_usd(expected)} ({_usd(low)} to {_usd(high)})"
    if lock.job.get("seconds") is not None:
        yield f"trained in {lock.job['seconds'] / 60:,.1f} minutes"
    if lock.job.get("passed_over"):
        yield f"candidates before it: {escaped(str(lock.job['passed_over']), _REASON)}"


def _next(lock: Lock) -> Iterator[str]:
    yield "merge: the deploy waits for its approval, then the alias answers with this model"
    yield "close: this model is not proposed again"
    yield f"look closer: {code(f'gitune show {lock.agent}')}, {code(f'gitune verify {lock.agent}')}"
    if lock.passport:
        yield f"passport {code(lock.passport[:16])}"


def _regression(one: Mapping[str, Any]) -> Iterator[str]:
    yield code(str(one.get("case_id")), _ANSWER)
    yield f"{one.get('baseline_value'):g}: {escaped(str(one.get('baseline_answer')), _ANSWER)}"
    yield f"{one.get('value'):g}: {escaped(str(one.get('answer')), _ANSWER)}"


def _comparable(lock: Lock, previous: Lock | None) -> float | None:
    """The accuracy in production, where it was counted on the same cases."""
    if previous is None or previous.benchmark.get("fingerprint") != lock.benchmark.get("fingerprint"):
        return None
    accuracy = previous.benchmark.get("accuracy")
    return float(accuracy) if isinstance(accuracy, int | float) else None


def _model(lock: Lock) -> str:
    return f"{code(lock.model_id)} on {escaped(lock.provider)}"


def _percent(value: Any) -> str:
    return f"{value:.1%}" if isinstance(value, int | float) else "unknown"


def _count(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else ""


def _seconds(value: Any) -> str:
    return f"{value:.2f} s" if isinstance(value, int | float) else ""


def _short(fingerprint: Any) -> str:
    return code(str(fingerprint)[:12]) if fingerprint else ""


def _usd(value: float) -> str:
    return f"&#36;{value:,.2f}"
