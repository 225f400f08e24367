"""The model of a driver with many nodes (`benchmarks/scale`): its laws, and that its page is what it says."""

from __future__ import annotations

import heapq
import random
import re
import statistics
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
from benchmarks.scale import answers
from benchmarks.scale.costs import CHECKED, MEASURED, Costs
from benchmarks.scale.measure import fit
from benchmarks.scale.model import Cluster, Result, Run, as_it_is, of_items, of_seconds
from benchmarks.scale.plots import LETTER, WIDTH, Axis, Line, chart
from benchmarks.scale.times import FEW, Times

ROOT = Path(__file__).parents[2]
MS = Costs(driver_message_s=1e-3)


def play(items: int, cluster: Cluster, costs: Costs = MS, *, seconds: float = 0.0, sigma: float = 1.0) -> Result:
    rule = of_seconds(seconds) if seconds else as_it_is
    return Run(items, Times(0.1, sigma), cluster, costs, rule).play()


@pytest.mark.parametrize("lost", [0, 60, 1000])
@pytest.mark.parametrize("seconds", [0, 2])
def test_every_item_is_settled_once_whatever_is_lost(lost: int, seconds: int) -> None:
    result = play(30_000, Cluster(20, 8, lost=lost, notice_s=3, back_s=5), seconds=seconds)
    assert result.settled == 30_000
    assert bool(result.again) == bool(result.nodes_lost) == bool(lost)


def test_the_more_is_lost_the_more_runs_again_and_the_longer_it_takes() -> None:
    found = [play(100_000, Cluster(20, 8, lost=lost, notice_s=3, back_s=5), seconds=2) for lost in (0, 30, 300)]
    assert found[0].again < found[1].again < found[2].again
    assert found[0].seconds < found[1].seconds < found[2].seconds


def test_without_a_node_the_run_does_not_go_on_for_ever() -> None:
    with pytest.raises(RuntimeError, match="no node is left"):
        play(10**6, Cluster(3, 1, lost=3600, back_s=None))


def test_the_same_seed_is_the_same_run() -> None:
    cluster = Cluster(10, 4, lost=50)
    assert play(20_000, cluster) == play(20_000, cluster)


@pytest.mark.parametrize("bound", [7, 100, 5_000])
def test_what_is_in_flight_is_bounded(bound: int) -> None:
    result = play(3_000, Cluster(10, 8, in_flight=bound), seconds=5)
    assert result.most_out <= bound
    assert result.settled == 3_000


def test_a_driver_that_messages_cost_nothing_with_one_node_is_a_pool() -> None:
    result = play(100_000, Cluster(1, 8), Costs(), seconds=10, sigma=0)
    assert result.seconds == pytest.approx(100_000 * 0.1 / 8, rel=0.01)
    assert result.cores_used == pytest.approx(1, abs=0.01)


def scaled(costs: Costs, part: float) -> Costs:
    """With messages at a part of their cost."""
    driver, scheduler = costs.driver_message_s * part, costs.scheduler_message_s * part
    return replace(costs, driver_message_s=driver, scheduler_message_s=scheduler)


@pytest.mark.parametrize("which", ["driver_message_s", "scheduler_message_s"])
def test_what_saturates_gives_way_as_messages_become_dearer(which: str) -> None:
    """Twice the cost is half the pace, as soon as one of the two has no time left."""
    dear = {"driver_message_s": Costs(driver_message_s=1.0), "scheduler_message_s": Costs(scheduler_message_s=1.0)}
    pace = [
        Run(50_000, Times(0.1, 0), Cluster(200, 8), scaled(dear[which], cost), of_items(5)).play().items_per_s
        for cost in (0.01, 0.02, 0.04)
    ]
    assert pace[1] == pytest.approx(pace[0] / 2, rel=0.05)
    assert pace[2] == pytest.approx(pace[0] / 4, rel=0.05)


def test_more_nodes_are_of_use_until_the_driver_is_busy() -> None:
    found = [
        play(4_000 * nodes, Cluster(nodes, 8, in_flight=10**7, report_s=0.25), seconds=1) for nodes in (5, 20, 320)
    ]
    assert found[1].items_per_s == pytest.approx(4 * found[0].items_per_s, rel=0.1)
    assert found[2].items_per_s < 10 * found[1].items_per_s
    assert found[2].driver_used > 0.9 > found[1].driver_used


def test_larger_chunks_are_fewer_messages() -> None:
    found = [play(200_000, Cluster(20, 8, in_flight=10**7, report_s=s / 2), seconds=s) for s in (1, 4, 16)]
    assert found[0].messages > 2 * found[1].messages > 4 * found[2].messages
    assert found[0].largest < found[1].largest < found[2].largest


def test_costs_of_items_bound_the_pace() -> None:
    result = play(1_000_000, Cluster(50, 64, in_flight=10**7), Costs(driver_item_s=1e-4), seconds=1)
    assert result.items_per_s == pytest.approx(10_000, rel=0.05)


@pytest.mark.parametrize("seconds", [0.01, 0.1, 0.5])
def test_what_items_take_beyond_a_time_is_as_drawn(seconds: float) -> None:
    times, rng = Times(0.1), random.Random(5)
    drawn = [max(0.0, times.draw(rng) - seconds) for _ in range(200_000)]
    assert times.excess(seconds) == pytest.approx(statistics.fmean(drawn), rel=0.05)


def one_by_one(items: int, cores: int, times: Times, rng: random.Random) -> float:
    """When the last item of a chunk ends, each item played."""
    free = [0.0] * cores
    last = 0.0
    for _ in range(items):
        end = heapq.heappop(free) + times.draw(rng)
        heapq.heappush(free, end)
        last = max(last, end)
    return last


@pytest.mark.slow
@pytest.mark.parametrize(("items", "cores"), [(FEW, 4), (100, 4), (640, 16), (5_000, 64)])
@pytest.mark.parametrize("sigma", [0.0, 0.5, 1.0])
def test_a_chunk_ends_when_its_items_do(items: int, cores: int, sigma: float) -> None:
    """The median of chunks that are drawn as a whole is that of chunks whose items are played one by one."""
    times, rng = Times(0.1, sigma), random.Random(3)
    # The more items, the less chunks differ.
    chunks = 150 if items < 5_000 else 30
    played = statistics.median(one_by_one(items, cores, times, rng) for _ in range(chunks))
    drawn = statistics.median(sum(times.chunk(items, cores, rng)) for _ in range(600))
    assert drawn == pytest.approx(played, rel=0.12)


def test_costs_are_found_in_what_maps_used() -> None:
    lines = [[1_000, 1_000], [8_000, 1_000], [200_000, 50], [400_000, 13]]
    used = [2e-7 * items + 2e-3 * messages for items, messages in lines]
    assert fit(lines, used) == pytest.approx([2e-7, 2e-3])
    assert fit(lines, [2e-3 * messages for _, messages in lines]) == pytest.approx([0, 2e-3], abs=1e-9)


@pytest.mark.slow
def test_the_page_says_what_the_model_says() -> None:
    """Of the tables those that are quick to make: all are made by one command from the same two files."""
    page = (ROOT / "docs/design/scale.md").read_text()
    texts = {
        "measured": answers.measured(MEASURED),
        "checked": answers.checked(CHECKED),
        "journals": answers.journals(),
        "resuming": answers.resuming()[0],
    }
    assert answers.filled(page, texts) == page
    # Of the table that takes long, the column of the longest items.
    table = page.partition("| work in a chunk, s |")[2].partition("\n\n")[0]
    column = {cells[1].strip(): cells[4].strip() for cells in (row.split("|") for row in table.splitlines()[2:])}
    assert column == {**column, **{str(length): f"{answers.grown(length, 1.0).cores_used:.0%}" for length in (5, 100)}}
    assert len(column) == 7


@pytest.mark.parametrize("name", ["saturation", "growth", "resuming"])
def test_texts_of_a_picture_do_not_overlap(name: str) -> None:
    picture = (ROOT / f"docs/images/scale-{name}.svg").read_text()
    boxes = []
    for attributes, text in re.findall(r"<text ([^>]*)>([^<]*)</text>", picture):
        if "rotate" in attributes:
            continue
        x, y = (float(re.search(rf'\b{axis}="([\d.]+)"', attributes)[1]) for axis in "xy")  # type: ignore[index]
        width = LETTER * len(text)
        left = x - width * (0.5 if "middle" in attributes else 1.0 if '"end"' in attributes else 0.0)
        boxes.append((left, y - 11, left + width, y + 3, text))
    assert len(boxes) > 10
    for one, other in combinations(boxes, 2):
        apart = one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
        assert apart, (one, other)
    assert all(left >= 0 and right <= WIDTH for left, _, right, _, _ in boxes)


def test_a_long_legend_has_more_rows() -> None:
    axis = Axis("x", (1, 10))
    picture = chart("title", axis, axis, [Line("a rather long name of a line " + each, [(1, 1)]) for each in "abc"])
    assert {"46", "66"} <= set(re.findall(r'y="(\d+)">a rather', picture))
