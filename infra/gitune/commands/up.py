"""gitune up"""

from __future__ import annotations

import json
from contextlib import ExitStack
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
@click.option(
    "--max-wait",
    "max_wait_minutes",
    type=click.FloatRange(min=0),
    help="Stop waiting for providers after so many minutes; their jobs go on.  [default: wait to the end]",
)
@click.option(
    "--stop-after", type=click.Choice(["training"]), help="Train only; the next run benchmarks what is trained."
)
@click.option(
    "--events",
    type=click.Path(dir_okay=False, allow_dash=True),
    metavar="FILE",
    help="Write what happens as it happens, one JSON object a line; - is standard output.",
)
@json_option
def command(
    stack: str,
    retry: bool,
    poll_seconds: float | None,
    max_wait_minutes: float | None,
    stop_after: str | None,
    force: tuple[str, ...],
    saved: Path | None,
    events: str | None,
    as_json: bool,
) -> int:
    """Train, benchmark, gate and deploy what the agents declare.

    Does only what is not done yet, waits for it, and may be stopped at any moment: call it again and it goes on. Exits
    with 0 when every agent is settled; with --max-wait or --stop-after also when the rest is for the next run.
    """
    from gitune.events import Ended, Settled, Several, Sunset
    from gitune.notices import project_notices
    from gitune.project import Project
    from gitune.report.json_lines import JsonLines
    from gitune.report.live import open_view
    from gitune.report.outcomes import print_outcomes
    from gitune.saved_plan import read_approved
    from gitune.up import run_up

    if saved and retry:
        raise click.UsageError("no plan holds what --retry does: not with --plan", click.get_current_context())
    to_stdout = events == "-"
    if to_stdout and as_json:
        raise click.UsageError("--json and --events - both want standard output", click.get_current_context())
    with ExitStack() as held:
        lines = []
        if events:
            file = held.enter_context(click.open_file(events, "w", encoding="utf-8"))
            lines.append(held.enter_context(JsonLines(file)))
        project = Project.open(stack)
        approved = read_approved(saved) if saved else None
        reporter = Several((held.enter_context(open_view(calm=to_stdout)), *lines))
        for notice in project_notices(project):
            reporter.tell(Sunset(notice))
        outcomes = run_up(
            project,
            reporter,
            retry_failed=retry,
            poll_seconds=poll_seconds,
            max_wait_seconds=None if max_wait_minutes is None else max_wait_minutes * 60,
            stop_after_training=stop_after is not None,
            force=force,
            approved=approved,
        )
        fine = [
            outcome.settled
            or (max_wait_minutes is not None and outcome.goes_on)
            or (stop_after is not None and outcome.new_model)
            for outcome in outcomes
        ]
        code = 0 if all(fine) else 1
        for outcome in outcomes:
            reporter.tell(Settled(outcome.as_dict()))
        reporter.tell(Ended(code))
    if as_json:
        click.echo(json.dumps([outcome.as_dict() for outcome in outcomes], indent=2, ensure_ascii=False))
    elif not to_stdout:
        print_outcomes(outcomes, program_name())
    return code
