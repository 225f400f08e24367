"""What each stage of a pipeline has done and is doing."""

from __future__ import annotations

from collections.abc import Sequence

from allcores.formatting import percent_text, seconds_text
from allcores.system.plain_record import record


@record
class StageStatistics:
    """Of one stage, so far.

    Attributes:
        stage: Its number, as `explain` shows it.
        name: Its name.
        runs_in: Where, in words.
        side: Number of the side that it belongs to; 0: none.
        taken: Records that it was given.
        given: Records that came out of it.
        failed: Records that it has no result for.
        queued: Records that it was given and that have no result yet, those that run included.
        most_queued: The largest number of them at one time.
        seconds: In its functions, of all workers together.
        share: Of the seconds of all stages, 0 to 1; the stage with the largest is what to make faster.
        idle: Seconds in which none of its records was with a worker.
    """

    stage: int
    name: str
    runs_in: str
    side: int
    taken: int
    given: int
    failed: int
    queued: int
    most_queued: int
    seconds: float
    share: float
    idle: float


def table_text(stages: Sequence[StageStatistics]) -> str:
    """Stages as a table, one per line."""
    rows = [("stage", "name", "in", "out", "failed", "seconds", "share", "queue", "idle", "runs in")]
    rows += [
        (
            f"{each.stage}" if not each.side else f"{each.stage} (side {each.side})",
            each.name,
            f"{each.taken:,}",
            f"{each.given:,}",
            f"{each.failed:,}",
            seconds_text(each.seconds),
            percent_text(100 * each.share),
            f"{each.queued:,} of {each.most_queued:,}",
            seconds_text(each.idle),
            each.runs_in,
        )
        for each in stages
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    left = (0, 1, len(widths) - 1)
    return "".join(
        "  ".join(
            text.ljust(width) if column in left else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        + "\n"
        for row in rows
    )
