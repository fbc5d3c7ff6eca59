"""gitune up"""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click

from gitune.allow_spec import Rule
from gitune.commands import json_option, program_name, stack_option


@click.command("up")
@stack_option
@click.option("--retry", is_flag=True, help="Start jobs that failed once more.")
@click.option(
    "--poll",
    "poll_seconds",
    type=click.FloatRange(min=0.1, max=3600),
    help="Longest pause between two questions to the providers, in seconds.  [default: 15; 1 where all is local]",
)
@click.option(
    "--force",
    multiple=True,
    type=click.Choice(get_args(Rule)),
    metavar="RULE",
    help="A rule that is not to refuse this time; may be given several times.",
)
@click.option(
    "--plan",
    "saved",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Plan again first, and do nothing unless it is this saved plan.",
)
@json_option
def command(
    stack: str,
    retry: bool,
    poll_seconds: float | None,
    force: tuple[str, ...],
    saved: Path | None,
    as_json: bool,
) -> int:
    """Train, benchmark, gate and deploy what the agents declare.

    Does only what is not done yet, waits for it, and may be stopped at any moment: call it again and it goes on. Exits
    with 0 when every agent is settled.
    """
    from gitune.notices import project_notices
    from gitune.project import Project
    from gitune.report.terminal import TerminalReporter, print_outcomes
    from gitune.saved_plan import read_approved
    from gitune.up import outcome_json, run_up

    if saved and retry:
        raise click.UsageError("no plan holds what --retry does: not with --plan", click.get_current_context())
    project = Project.open(stack)
    approved = read_approved(saved) if saved else None
    with TerminalReporter() as reporter:
        reporter.notices(project_notices(project))
        outcomes = run_up(
            project, reporter, retry_failed=retry, poll_seconds=poll_seconds, force=force, approved=approved
        )
    if as_json:
        click.echo(outcome_json(outcomes))
    else:
        print_outcomes(outcomes, program_name())
    return 0 if all(outcome.settled for outcome in outcomes) else 1
