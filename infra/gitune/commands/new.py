"""gitune new"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast, get_args

import click

from gitune.commands import json_option, program_name
from gitune.commands.questions import Ask, asks, yes_option
from gitune.spec import RuleId, Severity

if TYPE_CHECKING:
    from collections import Counter

    from gitune.new_agent.make import Proposal, Wishes


@click.command("new")
@click.argument("agent")
@click.option("--from", "source", metavar="FILE", help="Examples: CSV, TSV, JSON, JSON lines or Parquet; also a URL.")
@click.option("--question", metavar="COLUMN", help="Column that is asked, or a template such as '{title}: {text}'.")
@click.option("--answer", "--label", metavar="COLUMN", help="Column that is the right answer, or a template.")
@click.option("--system", metavar="TEXT", help="System message: plain text, a column or a template.")
@click.option("--scorer", help="How an answer is scored, such as exact, number, json_fields or f1.")
@click.option("--cases", type=click.IntRange(min=1), help="How many questions are held back for the benchmark.")
@click.option("--examples", type=click.IntRange(min=1), help="How many examples are trained on.  [default: all]")
@click.option("--validation", type=click.FloatRange(0, 0.5), help="Share held back to follow the loss, 0 to 0.5.")
@click.option(
    "--provider", "providers", multiple=True, default=("local",), show_default=True, help="Trains it; repeatable."
)
@click.option("--alias", help="The name that clients call.  [default: the agent's]")
@click.option("--description", help="What the agent does, in a line.")
@click.option("--licence", help="Of the examples, such as CC-BY-4.0.")
@click.option("--rule", "rules", multiple=True, metavar="RULE=ACTION", help="Such as email=drop; repeatable.")
@click.option("--link", is_flag=True, help="Leave the file where it is, instead of copying it into the agent's folder.")
@click.option(
    "-s", "--stack", default="training", show_default=True, envvar="GITUNE_STACK", help="Its settings are checked with."
)
@yes_option
@json_option
def command(
    agent: str,
    source: str | None,
    question: str | None,
    answer: str | None,
    system: str | None,
    scorer: str | None,
    cases: int | None,
    examples: int | None,
    validation: float | None,
    providers: tuple[str, ...],
    alias: str | None,
    description: str | None,
    licence: str | None,
    rules: tuple[str, ...],
    link: bool,
    stack: str,
    yes: bool,
    as_json: bool,
) -> None:
    """Make AGENT from a file of examples: its columns, scorer and split proposed, a benchmark cut off.

    All is checked before anything is written; then the folder agents/AGENT is there as a whole. Trains nothing.
    """
    from dataclasses import replace

    from gitune.errors import UserError
    from gitune.new_agent.columns import propose_shape
    from gitune.new_agent.make import Wishes, check_link, check_wishes, propose, read_examples, write_agent
    from gitune.new_agent.reading import read_table
    from gitune.project import Project

    project = Project.open(stack)
    project = replace(project, stack=project.stack.model_copy(update={"provider": None}))  # each candidate is checked
    wishes = Wishes(
        agent, alias, description, licence, scorer, cases, examples, validation, providers, _severities(rules), link
    )
    check_wishes(wishes, project)
    asking = asks(yes or as_json)
    if source is None and asking:
        source = asking("File of examples (CSV, TSV, JSON lines, JSON, Parquet)?", "")
    if not source:
        raise UserError("no examples to make an agent of", hint="--from FILE: a question and its answer on each row")
    table = read_table(source, project.root)
    shape = propose_shape(table, question, answer, system)
    if asking and shape.columns:
        question = question or asking("Column of the question?", shape.columns["user"])
        answer = answer or asking("Column of the answer?", shape.columns["assistant"])
        system = system or asking("System message (empty: none)?", shape.columns.get("system", "")) or None
        shape = propose_shape(table, question, answer, system)
    if link:
        check_link(table, project.root, system, shape)
    read = read_examples(table, shape, system)
    proposal = propose(wishes, table, shape, read)
    if asking:
        proposal = propose(_asked(asking, proposal), table, shape, read)
        if asking(f"Write agents/{agent}?", "yes").casefold() not in ("yes", "y"):
            click.echo("nothing was written", err=True)
            return
    warned = write_agent(proposal, project)
    if as_json:
        click.echo(json.dumps(_facts(proposal, warned), indent=2, ensure_ascii=False))
    else:
        _show(proposal, warned)


_MANY = 1_000
_ROLES = {"user": "question", "assistant": "answer"}


def _severities(rules: tuple[str, ...]) -> dict[RuleId, Severity]:
    found: dict[RuleId, Severity] = {}
    for rule in rules:
        name, _, severity = rule.partition("=")
        if name not in get_args(RuleId) or severity not in get_args(Severity):
            known = f"RULE: {', '.join(get_args(RuleId))}; ACTION: {', '.join(get_args(Severity))}"
            raise click.BadParameter(f"'{rule}' is not RULE=ACTION ({known})", param_hint="--rule")
        found[cast("RuleId", name)] = cast("Severity", severity)
    return found


def _asked(asking: Ask, proposal: Proposal) -> Wishes:
    """Scorer and cases as the user wants them, unless flags said so. Raises UserError."""
    from dataclasses import replace

    from gitune.errors import UserError

    wishes, scoring, cut = proposal.wishes, proposal.scoring, proposal.cut
    scorer = wishes.scorer or asking(f"Scorer ({scoring.reason})?", scoring.scorer)
    if wishes.cases is not None:
        return replace(wishes, scorer=scorer)
    cases = asking(f"Questions held back for the benchmark, of {proposal.questions}?", str(len(cut.cases)))
    if not cases.isdecimal() or not int(cases):
        raise UserError(f"'{cases}' is no number of questions", hint="write a whole number, 1 or more")
    return replace(wishes, scorer=scorer, cases=int(cases))


def _facts(proposal: Proposal, warned: Counter[str]) -> dict[str, object]:
    wishes, table, cut = proposal.wishes, proposal.table, proposal.cut
    return {
        "agent": wishes.name,
        "folder": f"agents/{wishes.name}",
        "from": table.file.shown,
        "kind": table.file.kind,
        "rows": len(table.rows),
        "format": proposal.shape.format or "columns",
        "columns": dict(proposal.shape.columns or {}),
        "scorer": proposal.scoring.scorer,
        "scorer_reason": proposal.scoring.reason,
        "questions": proposal.questions,
        "cases": len(cut.cases),
        "training": len(cut.training),
        "repeats": cut.repeats,
        "near_cases": cut.near,
        "dropped": proposal.dropped,
        "validation": proposal.validation,
        "providers": list(wishes.providers),
        "linked": wishes.link,
        "warnings": dict(sorted(warned.items())),
        "next": _following(),
    }


def _following() -> str:
    return f"{program_name()} plan"


def _show(proposal: Proposal, warned: Counter[str]) -> None:
    from gitune.new_agent.cut import FEWEST_CASES

    wishes, cut, columns = proposal.wishes, proposal.cut, proposal.shape.columns
    shape = "; ".join(f"{_ROLES.get(role, role)}: {column}" for role, column in (columns or {}).items())
    left = ((proposal.dropped, "by rules"), (cut.repeats, "repeated"), (cut.near, "near a case"))
    lines = {
        "from": f"{proposal.table.file.shown}: {proposal.table.file.kind}, {len(proposal.table.rows)} rows",
        "shape": shape or proposal.shape.format,
        "scorer": f"{proposal.scoring.scorer}: {proposal.scoring.reason}",
        "benchmark": f"{len(cut.cases)} of {proposal.questions} questions",
        "training": f"{len(cut.training)} examples, {proposal.validation:.0%} of them held back to follow the loss",
        "left out": ", ".join(f"{count} {what}" for count, what in left if count),
        "warnings": ", ".join(f"{count} {rule}" for rule, count in sorted(warned.items())),
    }
    for name, text in lines.items():
        if text:
            click.echo(f"{name:<10} {text}")
    click.echo(f"wrote agents/{wishes.name}: agent.yaml and its benchmark{'' if wishes.link else ' and data'}")
    if warned:
        click.echo(f"what is warned of: {program_name()} dataset show {wishes.name}")
    if len(cut.cases) < FEWEST_CASES:
        click.echo(f"{len(cut.cases)} cases prove little: collect more examples, a gate wants {FEWEST_CASES} cases")
    if "local" in wishes.providers and wishes.examples is None and len(cut.training) > _MANY:
        click.echo(
            f"{len(cut.training)} examples train for long on this machine, some ten minutes for each 1,000 short ones "
            f"without a GPU: dataset.examples: 500 in agent.yaml is a start"
        )
    click.echo(f"next: {_following()}")
