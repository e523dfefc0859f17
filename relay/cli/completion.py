"""`relayctl completion`: shell completion scripts."""

import click

_SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
def completion(shell: str) -> None:
    """Print the shell's completion script.

    \b
    Example:
      relayctl completion bash > /etc/bash_completion.d/relayctl
      relayctl completion zsh > ~/.zfunc/_relayctl
      relayctl completion fish > ~/.config/fish/completions/relayctl.fish
    """
    from click.shell_completion import get_completion_class

    from relay.cli import group

    kind = get_completion_class(shell)
    assert kind is not None
    # not source(): that runs bash to check its version, which the script does not depend on
    maker = kind(group, {}, "relayctl", "_RELAYCTL_COMPLETE")
    click.echo(maker.source_template % maker.source_vars())
