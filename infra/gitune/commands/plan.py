"""gitune plan"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gitune.commands import json_option, stack_option

if TYPE_CHECKING:
    from gitune.drift import Finding
    from gitune.project import Project
    from gitune.saved_plan import SavedPlan

_WRITTEN = click.Path(dir_okay=False, path_type=Path, allow_dash=True)
_READ = click.Path(dir_okay=False, path_type=Path)


@click.command("plan")
@stack_option
@click.option("--static", is_flag=True, help="From the files alone: ask no provider, read no state, download nothing.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Save the plan, for `gitune up --plan`.")
@click.option(
    "--from",
    "saved",
    type=_READ,
    multiple=True,
    help="Make no plan, but the comment of these saved ones; may be given several times.",
)
@click.option("--markdown", type=_WRITTEN, help="Write the comment for a pull request here; -: standard output.")
@click.option("--summary", type=_WRITTEN, help="Append the same with a chart here, such as to $GITHUB_STEP_SUMMARY.")
@click.option(
    "--commit",
    envvar="GITUNE_COMMIT",
    help="The commit that the files are of, where HEAD is another one.  [default: HEAD]",
)
@click.option("--drift", type=_READ, help="What `gitune drift --json` said, for the comment.")
@json_option
def command(
    stack: str,
    static: bool,
    out: Path | None,
    saved: tuple[Path, ...],
    markdown: Path | None,
    summary: Path | None,
    commit: str | None,
    drift: Path | None,
    as_json: bool,
) -> int:
    """Show what `up` would do, and why. Changes nothing.

    Exits with 1 where a rule refuses it or the files are not right; what was asked for is written all the same.
    """
    from gitune.errors import InvalidInput
    from gitune.project import Project
    from gitune.saved_plan import read_plan, write_plan

    if saved:
        if static or out or as_json or not (markdown or summary):
            message = "--from makes a comment of saved plans: it goes with --markdown, --summary and --drift"
            raise click.UsageError(message, click.get_current_context())
        plans = tuple(map(read_plan, saved))
        _write_comment(plans, drift, markdown, summary)
        return 1 if any(plan.blocked for plan in plans) else 0
    project = Project.open(stack)
    plan = _make(project, static)
    if commit:
        plan = replace(plan, commit=_checked_commit(commit))
    if out:
        write_plan(out, plan)
    _write_comment((plan,), drift, markdown, summary)
    if plan.problems:
        raise InvalidInput(plan.problems)
    if markdown != Path("-"):
        _print(plan, project, as_json)
    return 1 if plan.blocked else 0


def _checked_commit(commit: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{40}([0-9a-f]{24})?", commit):
        raise click.BadParameter("not the full hash of a commit", param_hint="--commit")
    return commit


def _make(project: Project, static: bool) -> SavedPlan:
    from gitune.errors import InvalidInput
    from gitune.notices import project_notices
    from gitune.plan import plan_pass
    from gitune.saved_plan import saved_plan, wrong_plan
    from gitune.static_plan import static_plan

    if static:
        return static_plan(project)
    try:
        return saved_plan(project, plan_pass(project), project_notices(project))
    except InvalidInput as error:
        return wrong_plan(project, error.problems)


def _write_comment(plans: Sequence[SavedPlan], drift: Path | None, markdown: Path | None, summary: Path | None) -> None:
    from gitune.files import write_atomic
    from gitune.report import pull_request

    findings = _findings(drift) if drift else ()
    if markdown == Path("-"):
        click.echo(pull_request.comment(plans, findings), nl=False)
    elif markdown:
        write_atomic(markdown, pull_request.comment(plans, findings))
    if summary:
        with click.open_file(str(summary), "a", encoding="utf-8") as file:
            file.write(pull_request.summary(plans, findings))


def _findings(file: Path) -> tuple[Finding, ...]:
    from gitune.drift import Finding, read_findings

    if file.is_file() and not file.stat().st_size:  # such as of a step that failed
        return (Finding("not-checked", "", "drift", "gitune drift did not come to an end"),)
    return read_findings(file)


def _print(plan: SavedPlan, project: Project, as_json: bool) -> None:
    from gitune.notices import project_notices
    from gitune.report.rules import print_rulings
    from gitune.report.terminal import print_plan

    notices = project_notices(project)
    if as_json:
        items = [one.as_dict() for one in plan.rulings] + [one.as_dict() for one in plan.changes]
        items += [one.as_dict() for one in notices]
        click.echo(json.dumps(items, indent=2, ensure_ascii=False))
    else:
        print_rulings(plan.rulings)
        print_plan(plan.changes, notices)
        for line in plan.unknown:
            click.echo(f"not known: {line}")
    click.echo(f"plan {plan.checksum}", err=True)
