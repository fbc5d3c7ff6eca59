"""Plans as one comment on a pull request, and as a job summary. Pure.

The verdict and what is removed always stand. What else there is goes as a whole where it does not fit, details first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import chain

from gitune.drift import Finding
from gitune.forecast import describe_cost, describe_minutes
from gitune.plan import Change
from gitune.report.markdown import (
    COMMENT_LIMIT,
    SUMMARY_LIMIT,
    Block,
    bullets,
    code,
    details,
    escaped,
    fitted,
    header,
    row,
)
from gitune.report.verdict import counts, estimate_of, total_usd, verdict
from gitune.saved_plan import SavedPlan

_DETAIL, _END, _DRIFT, _ROW, _PROBLEM, _RULE = range(1, 7)
"""What goes first where there is no room."""
_NOTE_ROOM = 400
_REMOVED_ROOM = 24_000
_BARS = 20
_PROSE = 300


def comment(plans: Sequence[SavedPlan], drift: Sequence[Finding] = (), limit: int = COMMENT_LIMIT) -> str:
    """Of one pull request, for all of its stacks. At most `limit` characters."""
    return _text(plans, drift, limit, chart="")


def summary(plans: Sequence[SavedPlan], drift: Sequence[Finding] = (), limit: int = SUMMARY_LIMIT) -> str:
    """The same with a chart, for a job's page."""
    return _text(plans, drift, limit, chart=_chart(plans))


def marker(plans: Sequence[SavedPlan]) -> str:
    """The first line, by which the comment is found again; GitHub does not show it."""
    stacks = ",".join(re.sub(r"[^\w.-]", "", plan.stack, flags=re.ASCII).replace("--", "-") for plan in plans)
    return f"<!-- gitune:plan:{stacks} -->"


def _text(plans: Sequence[SavedPlan], drift: Sequence[Finding], limit: int, chart: str) -> str:
    blocks = list(_blocks(plans, drift, chart))
    foot = _next(plans) + _footer(plans)
    text, missed = fitted(blocks, limit - len(foot) - _NOTE_ROOM)
    if missed:
        said = ", ".join(f"{count:,} {what}" for what, count in missed.items())
        foot = f"Left out for size: {said}. All of it is in the saved plan.\n\n{foot}"
    return text + foot


def _blocks(plans: Sequence[SavedPlan], drift: Sequence[Finding], chart: str) -> Iterator[Block]:
    said = verdict(plans)
    yield Block(f"{marker(plans)}\n## {said.word.capitalize()}\n\n")
    yield Block(f"{escaped('; '.join(said.reasons))}.\n\n")
    yield Block(bullets(f"{code(plan.stack)}: {counts(plan)}{_cost_of(plan)}" for plan in plans) + "\n")
    yield from _list("Removed", _removed(plans), 0, "")
    yield from _list("Rules", chain.from_iterable(map(_rules, plans)), _RULE, "rule(s)")
    yield from _list("Problems", chain.from_iterable(map(_problems, plans)), _PROBLEM, "problem(s)")
    yield Block(chart, _DETAIL, "chart")
    for plan in plans:
        yield from _trainings(plan)
        yield from _deployments(plan)
        yield from (Block(_details(change), _DETAIL, "detail(s)") for change in plan.changes)
    yield from _list("Drift", map(_drift, drift), _DRIFT, "line(s) of drift")
    yield from _list("What ends", _ends(plans), _END, "end date(s)")
    yield from _list(
        "Not known", dict.fromkeys(escaped(u) for plan in plans for u in plan.unknown), _PROBLEM, "line(s)"
    )


def _list(title: str, lines: Iterator[str] | dict[str, None], weight: int, what: str) -> Iterator[Block]:
    found = tuple(lines)
    if found:
        yield Block(f"### {title}\n\n")
        yield from (Block(f"- {line}\n", weight, what) for line in found)
        yield Block("\n")


def _cost_of(plan: SavedPlan) -> str:
    usd, unknown = total_usd(plan.changes)
    if not any(change.forecast for change in plan.changes):
        return ""
    return f", {describe_cost(usd).replace('$', '&#36;')}" + (f" and {unknown:,} of unknown cost" if unknown else "")


def _removed(plans: Sequence[SavedPlan]) -> Iterator[str]:
    found = [(plan.stack, change) for plan in plans for change in plan.changes if change.action == "remove"]
    lines = [f"**{escaped(c.agent)}** in {code(stack)}: {escaped(c.summary, _PROSE)}" for stack, c in found]
    if sum(map(len, lines)) <= _REMOVED_ROOM:
        yield from lines
        return
    names: list[str] = []
    room = _REMOVED_ROOM
    for _, change in found:
        room -= len(escaped(change.agent)) + 2
        if room >= 0:
            names.append(escaped(change.agent))
    more = f" and {len(found) - len(names):,} more" if len(names) < len(found) else ""
    yield f"**{len(found):,} agents**: {', '.join(names)}{more}"


def _rules(plan: SavedPlan) -> Iterator[str]:
    for ruling in plan.rulings:
        said = ruling.refusal
        verdict_ = f"Next: {escaped(said.hint)}" if ruling.stands else f"Allowed by {escaped(ruling.allowed, _PROSE)}"
        yield f"**{said.rule}**: {escaped(said.agent or 'all agents')}: {escaped(said.reason, _PROSE)}. {verdict_}"


def _problems(plan: SavedPlan) -> Iterator[str]:
    for problem in plan.problems:
        place = code(f"{problem.file}:{problem.line}" if problem.line else problem.file)
        hint = f" Next: {escaped(problem.hint, _PROSE)}" if problem.hint else ""
        yield f"{place}: {escaped(problem.message, _PROSE)}.{hint}"


def _trainings(plan: SavedPlan) -> Iterator[Block]:
    changes = [change for change in plan.changes if change.action not in ("deploy", "redeploy", "remove")]
    if changes:
        titles = ("agent", "change", "why", "examples", "tokens", "provider", "then", "time", "cost", "budget")
        yield Block(f"### Models in {escaped(plan.stack)}\n\n{header(*titles)}")
        yield from (Block(row(_training_cells(change)), _ROW, "agent(s)") for change in changes)
        yield Block("\n")


def _training_cells(change: Change) -> Iterator[str]:
    known, estimate = change.forecast, estimate_of(change)
    taken = next((number for number, one in enumerate(change.candidates) if one.taken), 0)
    later = [one.provider for one in change.candidates[taken + 1 :] if not one.refused]
    queue = "queue, then " if change.queued else ""
    mark = "about " if known and known.tokens.estimated else ""
    before = known.before if known else None
    yield f"**{escaped(change.agent)}**"
    yield change.action
    yield "<br>".join(escaped(reason, _PROSE) for reason in change.reasons) or "new"
    yield (_moved(before.examples if before else None, known.examples) if known else "")
    yield (mark + _moved(before.tokens if before else None, known.tokens.count) if known else "")
    yield "<br>".join(
        escaped(text) for one in change.candidates[taken : taken + 1] for text in (one.provider, one.base_model)
    )
    yield escaped(", ".join(later)) or "nobody"
    yield queue + (describe_minutes(estimate.minutes) if estimate else "")
    yield (describe_cost(estimate.usd).replace("$", "&#36;") if estimate else "")
    yield ("" if change.budget_usd is None else f"&#36;{change.budget_usd:,.2f}")


def _moved(before: int | None, now: int) -> str:
    return f"{now:,}" if before is None or before == now else f"{before:,} → {now:,}"


def _deployments(plan: SavedPlan) -> Iterator[Block]:
    changes = [change for change in plan.changes if change.action in ("deploy", "redeploy")]
    if changes:
        yield Block(f"### Aliases in {escaped(plan.stack)}\n\n{header('agent', 'change', 'what', 'why')}")
        for change in changes:
            why = "<br>".join(escaped(reason, _PROSE) for reason in change.reasons)
            cells = (f"**{escaped(change.agent)}**", change.action, escaped(change.summary, _PROSE), why or "new")
            yield Block(row(cells), _ROW, "agent(s)")
        yield Block("\n")


def _details(change: Change) -> str:
    lines = list(_detail_lines(change))
    return details(f"{escaped(change.agent)}: {len(lines)} detail(s)", lines) if lines else ""


def _detail_lines(change: Change) -> Iterator[str]:
    if change.dataset is not None:
        found = change.dataset
        yield f"dataset: {found.added:,} added, {found.removed:,} removed, {found.changed:,} with another answer"
        for name, (before, after) in found.categories.items():
            yield f"{code(name, _PROSE)}: {before:,} → {after:,} examples"
    if change.forecast is not None:
        yield from (f"{escaped(rule)}: {n:,} example(s) dropped" for rule, n in change.forecast.dropped_by.items())
        yield from (escaped(text) for text in change.forecast.shortfalls)
        for provider, estimate in change.forecast.estimates:
            yield escaped(f"{provider}: {describe_cost(estimate.usd)}, {describe_minutes(estimate.minutes)}")
    yield from (escaped(f"{one.provider} is passed over: {one.refused}") for one in change.candidates if one.refused)


def _drift(finding: Finding) -> str:
    what = f"**{finding.kind}**: {escaped(finding.agent or finding.provider)}: {escaped(finding.message, _PROSE)}"
    return f"{what}. Next: {escaped(finding.hint, _PROSE)}" if finding.hint else what


def _ends(plans: Sequence[SavedPlan]) -> Iterator[str]:
    for end in dict.fromkeys(end for plan in plans for end in plan.ends):
        what = f"{end.provider} ends {'training' if end.what == 'training' else 'answers'}"
        of = f" of {end.base_model}" if end.base_model else ""
        yield f"{end.ends}: **{escaped(end.agent)}**: {escaped(what + of)}. Next: {escaped(end.hint, _PROSE)}"


def _next(plans: Sequence[SavedPlan]) -> str:
    return f"### Next\n\n{bullets(dict.fromkeys(_commands(plans)))}\n"


def _commands(plans: Sequence[SavedPlan]) -> Iterator[str]:
    wrong = next((plan for plan in plans if plan.problems), None)
    blocked = next((plan for plan in plans if plan.blocked), None)
    if wrong is not None:
        yield f"mend the problems, then {code(f'gitune validate -s {wrong.stack}')}"
    elif blocked is not None:
        again = code(f"gitune plan -s {blocked.stack}")
        yield f"mend what is refused, or allow it by name (gitune's docs/rules.md), then {again}"
    else:
        changed = [plan for plan in plans if plan.changes]
        yield from (f"merge, which does {code(f'gitune up -s {plan.stack}')}" for plan in changed)
        if not changed:
            yield "nothing: all is as the files say"


def _footer(plans: Sequence[SavedPlan]) -> str:
    commits = dict.fromkeys(plan.commit[:12] if plan.commit else "no commit" for plan in plans)
    sums = ", ".join(f"{escaped(plan.stack)} {code(plan.checksum[:16])}" for plan in plans)
    versions = dict.fromkeys(
        f"gitune {plan.gitune}" + (f", pulumi {plan.engine}" if plan.engine else "") for plan in plans
    )
    made = f"commit {', '.join(map(code, commits))} · plan {sums} · {escaped(' / '.join(versions))}"
    return f"<sub>{made}</sub>\n"


def _chart(plans: Sequence[SavedPlan]) -> str:
    """Expected dollars by agent, or minutes where nothing costs anything. Names hold letters, digits, - and _ only."""
    found = [(change, estimate) for plan in plans for change in plan.changes if (estimate := estimate_of(change))]
    usd = [(change.agent, estimate.usd[1]) for change, estimate in found if estimate.usd and estimate.usd[2]]
    minutes = [(change.agent, estimate.minutes[1]) for change, estimate in found if estimate.minutes]
    title, bars = ("Expected cost in USD", usd) if usd else ("Expected minutes", minutes)
    if len(bars) < 2:
        return ""
    most = sorted(bars, key=lambda bar: (-bar[1], bar[0]))[:_BARS]
    names = ", ".join('"' + re.sub(r"[^A-Za-z0-9_-]", "", name) + '"' for name, _ in most)
    values = ", ".join(f"{value:.2f}" for _, value in most)
    lines = ("xychart-beta horizontal", f'    title "{title}"', f"    x-axis [{names}]", f"    bar [{values}]")
    return "```mermaid\n" + "\n".join(lines) + "\n```\n\n"
