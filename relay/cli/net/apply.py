"""`relayctl net apply`: the relay host's part of the plan, shown first, then applied, or undone on request."""

import contextlib
import signal
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from relay.cli import Context

if TYPE_CHECKING:
    from relay.net.plan.machine import Machine


@click.command()
@click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")
@click.option("--undo", is_flag=True, help="Take back all that was applied here.")
@click.option("--method", type=click.Choice(["1", "2"]), default="1", help="2: members of the overlay are routed too.")
@click.option("--force", is_flag=True, help="Replace files that were changed since relayctl wrote them.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def apply(ctx: Context, *, dry_run: bool, undo: bool, method: str, force: bool, yes: bool) -> None:
    """Do the relay host's part of the plan here.

    Shows what would change in files, nft rules, routes and settings, asks, does it, and checks that the kernel is as
    planned; if not, everything is restored. Only what is ours is touched: files that it wrote, the nft table relay_net
    and routes of protocol 114. A run that was cut off is repaired by the next one. For root.

    \b
    Example:
      sudo relayctl net apply --dry-run
      sudo relayctl net apply
      sudo relayctl net apply --undo
    """
    from relay.net.apply import journal, preview, transaction

    preview.require_root()
    if not (dry_run or yes or sys.stdin.isatty()):
        raise click.UsageError("there is no terminal to ask on; say --yes, or only look with --dry-run")
    machine = transaction.EMPTY_MACHINE if undo else _machine(ctx, int(method))
    for warning in machine.warnings:
        click.echo(f"{click.style('warning', fg='yellow')}: {warning}", err=True)
    with journal.locked() as lock, _hang_up_interrupts():
        if dry_run and journal.read_journal() is not None:
            click.echo("an earlier run was cut off: the next one goes back first to what was before it", err=True)
        elif not dry_run:
            transaction.recover(_report)
        found = preview.preview_changes(machine, force=force)
        _show(preview.diff_lines(found))
        for line in found.waiting:
            click.echo(f"comes when its interface does: {line}", err=True)
        if found.is_empty:
            click.echo(preview.nothing_to_undo(found) if undo else "nothing to do: all is as the plan says")
        elif dry_run:
            _summarise(preview.summary(found))
            click.echo("nothing was changed: --dry-run", err=True)
        else:
            if not yes:
                _summarise(preview.summary(found))
                if not click.confirm("take all of this back" if undo else "do all of this", err=True):
                    click.echo("nothing was changed", err=True)
                    raise SystemExit(1)
            transaction.apply_changes(found, _report, lock)
            click.echo(
                "everything was taken back" if undo else "done; relayctl net verify walks the way into each zone"
            )


def _machine(ctx: Context, method: int) -> "Machine":
    """The relay host's share of the site's plan, with what clashes on this very machine among its warnings."""
    from dataclasses import replace

    from relay.cli.net import plan_input
    from relay.net.kernel import route_guard
    from relay.net.plan import conflicts
    from relay.net.plan.relay_host import relay_machine

    plan, _ = plan_input.read_plan(ctx.site(announce=True))
    machine = relay_machine(plan, method=method)
    seen = conflicts.with_routes(plan, route_guard.routes())
    return replace(machine, warnings=tuple(dict.fromkeys([*machine.warnings, *seen])))


def _report(line: str) -> None:
    click.echo(line)


def _summarise(lines: list[str]) -> None:
    click.echo("\nin short:" if lines else "\nin short: it is put on record, nothing else", err=True)
    for line in lines:
        click.echo(f"  {line}", err=True)


def _show(difference: list[str]) -> None:
    """A unified diff, in the colours of git where there is a terminal."""
    colours = {"+": "green", "-": "red", "@": "cyan"}
    for line in difference:
        heading = line.startswith(("--- ", "+++ "))
        click.echo(click.style(line, bold=True) if heading else click.style(line, fg=colours.get(line[:1])))


@contextlib.contextmanager
def _hang_up_interrupts() -> Iterator[None]:
    """Treat a lost terminal and SIGTERM as Ctrl-C: a change that cuts off its own administrator is rolled back."""
    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, signal.default_int_handler) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
