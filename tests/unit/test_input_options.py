"""cli/input_options.py: what commands take as the format of an input is what there is."""

from __future__ import annotations

from typing import get_args

import click
import pytest

from allcores.cli import advise, run
from allcores.sources.open import Format


@pytest.mark.parametrize("command", [run.command, advise.command])
def test_every_format_can_be_named(command: click.Command) -> None:
    (option,) = [each for each in command.params if each.name == "format"]
    assert isinstance(option.type, click.Choice)
    assert tuple(option.type.choices) == get_args(Format)
