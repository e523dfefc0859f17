"""The command line `relayctl`: the table of commands, error messages, exit status.

Modules: one file per command, in `config/`, `people/`, `running/`, `audit/` and `net/`; at the root `doctor` (with
`health_checks`), `backup`, `host_key`, `completion`. Shared by commands: `output` (JSON and tables) and `audit_event`
(audit rows of commands). A command's module is imported only when it is called, so `relayctl --help` loads click only.
"""

import importlib
import os
import sys
from dataclasses import dataclass

import click

from relay import __version__
from relay.errors import RelayError
from relay.site import locate

# name: (module, attribute, line of `relayctl --help`); a test compares the line with the command's own
COMMANDS: dict[str, tuple[str, str, str]] = {
    "init": ("config.init", "init", "Make a new site."),
    "serve": ("running.serve", "serve", "Run the relay."),
    "check": ("config.check", "check", "Check the site's files and expectations."),
    "upgrade": ("running.upgrade", "upgrade", "Move the running relay to this version, keeping every connection."),
    "reload": ("config.reload", "reload", "Apply the site's files to the running relay."),
    "add-key": ("people.add_key", "add_key", "Let a person in with a public key."),
    "import-keys": ("people.import_keys", "import_keys", "Split an authorized_keys file into persons."),
    "list-keys": ("people.list_keys", "list_keys", "List the keys and who owns them."),
    "revoke-key": ("people.revoke_key", "revoke_key", "Revoke a person's keys, or one key, for ever."),
    "explain": ("config.explain", "explain", "Say whether a person may reach a target, and why."),
    "connections": ("running.connections", "connections", "Show open connections and their traffic."),
    "kill": ("running.kill", "kill", "End a connection, a forward, or all of a person or key."),
    "bans": ("running.bans", "bans", "List penalised sources and frozen keys."),
    "unban": ("running.bans", "unban", "Lift penalties of sources, and unfreeze keys."),
    "audit": ("audit.commands", "audit", "Review who reached what."),
    "net": ("net.commands", "net", "Plan, set up, watch and verify the network."),
    "client-config": ("people.client_config", "client_config", "Print a person's ssh configuration."),
    "host-key": ("host_key", "host_key", "List, add and retire the relay's host keys."),
    "backup": ("backup", "backup", "Save the site and its state to one file."),
    "restore": ("backup", "restore", "Bring a backup back."),
    "doctor": ("doctor", "doctor", "Find out why it does not work."),
    "completion": ("completion", "completion", "Print the shell's completion script."),
    "schema": ("config.schema", "schema", "Print the JSON Schema of the site's files."),
}


@dataclass(slots=True)
class Context:
    """The options of the group. Nothing is read before a command calls `site`."""

    site_option: str | None = None

    def site(self, *, announce: bool = False, narrowing: bool = False) -> locate.Site:
        """The site to use; `announce` prints it first, for commands that change something.

        `narrowing` is for commands that only remove permissions, and skips the check of modes.
        """
        site = locate.find(self.site_option, os.environ, narrowing=narrowing)
        if announce:
            click.echo(f"site {site.path}", err=True)
        return site


class LazyGroup(click.Group):
    """A group that imports a command's module only when that command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return the command, None for an unknown name."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command = getattr(importlib.import_module(f"relay.cli.{module}"), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, _, line) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with the nearest command in the error for an unknown one."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            ctx.fail(f"no command {args[0]!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
        return super().resolve_command(ctx, args)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--site", "site_option", metavar="DIR", help="The site's directory (else $RELAY_SITE, else /etc/relay).")
@click.version_option(__version__, prog_name="relayctl")
@click.pass_context
def group(ctx: click.Context, site_option: str | None) -> None:
    """Run and look after an SSH jump relay.

    \b
    Exit status: 0 success or yes; 1 failure or no; 2 usage error; 3 the relay is not running; 70 internal error.
    """
    ctx.obj = Context(site_option)
    if os.environ.get("NO_COLOR"):  # no-color.org; click itself looks at the terminal only
        ctx.color = False


def main() -> None:
    """The entry point `relayctl`: a RelayError becomes two lines on stderr and an exit status."""
    try:
        status = group.main(standalone_mode=False)
    except click.exceptions.Abort:  # Ctrl-C, or a prompt without an answer
        click.echo("relayctl: interrupted", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except RelayError as error:
        click.echo(f"relayctl: {error.what}", err=True)
        if error.hint:
            click.echo(f"  {error.hint}", err=True)
        sys.exit(error.exit_status)
    except BrokenPipeError:
        # the reader of the output exited (head, less): not an error, and no traceback
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:  # a bug: keep the traceback for the report
        import traceback

        traceback.print_exc()
        click.echo(f"relayctl: internal error: {type(error).__name__}; please report it with the lines above", err=True)
        sys.exit(70)
    sys.exit(status if isinstance(status, int) else 0)
