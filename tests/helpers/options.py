"""All commands, and their options."""

from collections.abc import Iterator

import click

from servomex.cli import servomex_group


def options() -> list[click.Option]:
    """The options of all commands."""
    return [
        item for command in commands(servomex_group) for item in command.params if isinstance(item, click.Option)
    ]


def commands(group: click.Group, *wanted: str) -> Iterator[click.Command]:
    """Give the commands of a group, or those that are wanted, and those of its groups among them."""
    context = click.Context(group)
    for name in wanted or group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield from commands(command) if isinstance(command, click.Group) else [command]
