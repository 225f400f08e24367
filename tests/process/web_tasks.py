"""Tasks for tests of the console: their signatures have every kind of field."""

from __future__ import annotations

import dataclasses
import enum

from allcores.jobs import UploadedFile, task


class Size(enum.Enum):
    SMALL = "small"
    LARGE = "large"


@dataclasses.dataclass
class Crop:
    left: int
    top: int = 0


@task(retries=2, tags=["numbers"])
def square(n: int) -> int:
    """The square of a number."""
    return n * n


@task
def kinds(
    count: int,
    share: float,
    text: str,
    size: Size = Size.SMALL,
    names: list[str] = [],  # noqa: B006 (it is never changed)
    crop: Crop | None = None,
    keep: bool = False,
) -> str:
    """One argument of each kind."""
    return text


@task
def defaults(
    text: str = "some",
    careful: bool = True,
    sure: bool | None = True,
    most: int | None = 5,
    note: str | None = None,
    pin: str | None = "0000",
) -> None:
    """Arguments that need not be given; None says something else than that."""


@task
def pictures(files: list[UploadedFile], cover: UploadedFile | None = None) -> int:
    """Uploaded files."""
    return len(files)


@task
def secretive(api_token: str, options: dict[str, str]) -> None:
    """It is given secrets."""


@task
def anything(value: object = None) -> object:
    """Any JSON."""
    return value


@task
def busy() -> None:
    """Without an end."""
    while True:
        pass


@task(schedule="0 3 * * *", timezone="UTC")
def nightly(days: int = 30) -> None:
    """Made by itself."""


@task(timeout=90)
def limited(n: int) -> int:
    """It has a deadline of its own."""
    return n
