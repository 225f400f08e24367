"""Numbers that options of commands take: what is none is refused in one sentence, by each of them."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest

from allcores.cli.main import group
from allcores.cli.output import Seconds, parse_size
from allcores.errors import UsageError

#: options that are checked where Python's are, which refuses the same (see test_limits)
CHECKED_BELOW = {"--timeout"}


def options(command: click.Command, path: str = "") -> Iterator[tuple[str, click.Option]]:
    context = click.Context(command)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from options(below, f"{path} {name}")
    for param in command.params:
        if isinstance(param, click.Option):
            yield f"{path} {param.opts[-1]}", param


FLOATS = {name: option for name, option in options(group) if isinstance(option.type, click.types.FloatParamType)}


@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e999"])
def test_what_is_no_number_of_seconds_is_refused(name: str, value: str) -> None:
    option = FLOATS[name]
    if option.opts[-1] in CHECKED_BELOW and not isinstance(option.type, click.FloatRange):
        return
    assert isinstance(option.type, Seconds)
    with pytest.raises(click.BadParameter):
        option.type.convert(value, option, None)


@pytest.mark.parametrize("name", [name for name in FLOATS if name.split()[-1] in ("--window", "--interval")])
def test_more_seconds_than_can_be_counted_are_refused(name: str) -> None:
    """They were an OverflowError of the database, or of the clock."""
    option = FLOATS[name]
    with pytest.raises(click.BadParameter, match="range"):
        option.type.convert("1e300", option, None)


def test_seconds() -> None:
    assert Seconds(min=0).convert("1.5", None, None) == 1.5
    assert {"work", "top", "wait"} <= {name.split()[-2] for name in FLOATS}


@pytest.mark.parametrize("text", ["9" * 400, "9" * 400 + "T", "0", "nan", "inf", "-1", "1 X"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no size"):
        parse_size(text)


def test_sizes() -> None:
    assert [parse_size(text) for text in ("1", "1.5 GiB", "800kb", ".5k")] == [1, 3 << 29, 800 << 10, 512]
