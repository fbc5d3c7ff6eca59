"""The command line. Each command is one file here, imported when it is called, so that --help is fast."""

from __future__ import annotations

import errno
import importlib
import os
import sys
import traceback
from pathlib import Path

import click

from gitune import __version__
from gitune.commands.words import complete_stacks
from gitune.errors import EXIT_BUG, EXIT_INTERRUPTED, EXIT_USER, GituneError, InvalidInput
from gitune.hints import did_you_mean
from gitune.interrupts import leave, leave_at_second_interrupt

COMMANDS: dict[str, str] = {
    "init": "Write a new repository for agents: stacks, program, workflows.",
    "new": "Make an agent from a file of examples.",
    "up": "Train, benchmark, gate and deploy what the agents declare.",
    "plan": "Show what `up` would do, and why. Changes nothing.",
    "benchmark": "Ask a model and a baseline the agent's cases, and show the difference.",
    "compare": "Show where two models differ, case by case, with both answers.",
    "history": "Show every version of the locks: who, when, by which pull request.",
    "show": "Show everything about one version of an agent.",
    "tag": "Write the version tags that the committed locks lack.",
    "rollback": "Write the lock of an earlier version, after asking for its model.",
    "status": "Show where each agent stands.",
    "logs": "Show what an agent's current or last job says.",
    "drift": "Find what providers and routes differ in from what is recorded.",
    "costs": "Show what trainings cost, or would cost elsewhere.",
    "validate": "Check every agent's files. Starts nothing.",
    "dataset": "Build, show, compare and restore what the agents train on.",
    "chat": "Ask an agent through its alias.",
    "serve": "Serve the aliases as models of an OpenAI-compatible API.",
    "verify": "Check where each locked model came from, from lock to evaluation log.",
    "passport": "Print where a model came from: JSON, model card or ML-BOM.",
    "retrain": "Move an agent to another provider by editing its agent.yaml.",
    "adopt": "Record a model that was trained elsewhere as an agent's.",
    "doctor": "Check machine, repository, backend, providers and GitHub.",
    "github": "Comment, propose, record and report on GitHub: what the workflows do.",
    "schema": "Print the JSON Schema of agent.yaml.",
    "pulumi": "Run the Pulumi engine itself, with gitune's settings.",
    "completion": "Print shell completion.",
}


class _LazyGroup(click.Group):
    """Knows the commands' names and one-line helps without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"gitune.commands.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not ctx.resilient_parsing:  # else the shell completes
            hint = did_you_mean(args[0], COMMANDS) or "run: gitune --help"
            raise GituneError(f"no command '{args[0]}'", hint=hint)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="gitune")
def cli() -> None:
    """Fine-tuned agents as code: one folder per agent, trained, gated and deployed by Pulumi."""


stack_option = click.option(
    "-s",
    "--stack",
    default="dev",
    show_default=True,
    envvar="GITUNE_STACK",
    shell_complete=complete_stacks,
    help="The stack: Pulumi.<stack>.yaml says what it declares.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output.")


def program_name() -> str:
    """How the user called gitune, for the commands that we suggest."""
    return os.environ.get("GITUNE_PROGRAM", "gitune")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 the user's to mend, 2 drift, 130 Ctrl-C, 3 our bug."""
    leave_at_second_interrupt()
    code = run(sys.argv[1:] if arguments is None else arguments)
    if code == EXIT_INTERRUPTED:
        leave(code)
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run the command line. Returns the exit code; prints an error as one line and a hint."""
    try:
        return cli.main(arguments, prog_name="gitune", standalone_mode=False) or 0
    except InvalidInput as error:
        for problem in error.problems:
            click.echo(str(problem), err=True)
        return _fail(f"{len(error.problems)} problem(s); nothing was started", None)
    except GituneError as error:
        return _fail(error.message, error.hint)
    except click.UsageError as error:
        return _fail(*_usage(error))
    except click.ClickException as error:
        return _fail(error.format_message(), None)
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted: jobs that run go on, and gitune up goes on from here", err=True)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_USER
    except OSError as error:
        return _fail(f"{error.strerror or error}: {error.filename or ''}".rstrip(": "), _os_hint(error))
    except Exception as error:  # noqa: BLE001 - the last resort: our bug, told as such
        return _crash(error)


def _usage(error: click.UsageError) -> tuple[str, str]:
    """What is wrong with the command line, and what to do."""
    close = getattr(error, "possibilities", None)  # of a command or an option that does not exist
    if close:
        return error.message.rstrip("."), f"did you mean '{close[0]}'?"
    return error.format_message(), f"run: {error.ctx.command_path if error.ctx else 'gitune'} --help"


def _fail(message: str, hint: str | None) -> int:
    click.echo(f"error: {message}", err=True)
    if hint:
        click.echo(f"hint: {hint}", err=True)
    return EXIT_USER


def _os_hint(error: OSError) -> str | None:
    hints = {
        errno.ENOSPC: "free some disk space, then run the same command again: it goes on where it stopped",
        errno.EACCES: "check who owns the file",
        errno.EROFS: "the file system is read-only",
    }
    return hints.get(error.errno or 0)


def _crash(error: Exception) -> int:
    report = Path(".gitune") / "crash.log"
    text = "".join(traceback.format_exception(error))
    try:
        report.parent.mkdir(exist_ok=True)
        report.write_text(text, encoding="utf-8")
        hint = f"please report it with {report}"
    except OSError:
        hint = "please report it"
    click.echo(
        f"error: gitune has a bug: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}", err=True
    )
    click.echo(f"hint: {hint}", err=True)
    return EXIT_BUG
