"""A driver and its nodes, message by message, with the very rule that sizes chunks in `allcores.scheduler`.

    driver ── scheduler of the cluster ──► node: a core of its own for messages, and so many for items
       ▲                                    │
       └──────── scheduler ◄────────────────┘

Each of these is a queue with one server. Items are not played one by one: a chunk has the work that it is for all
cores of its node, and the time that its slowest item goes on behind that, both drawn from what the items' times make of
them. So a run of a thousand million items takes seconds. The same seed gives the same run.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from allcores.adapters.cluster.messages import REPORT_EACH_S, REPORT_S
from allcores.adapters.cluster.node_work import LOOK_S
from allcores.scheduler.node_chunk_size import NodeChunker
from benchmarks.scale.costs import Costs
from benchmarks.scale.times import Times

#: what sizes chunks: the cores of a node in, something like `NodeChunker` out
Rule = Callable[[int], Any]


def as_it_is(cores: int) -> NodeChunker:
    """Chunks size themselves."""
    return NodeChunker(None, cores)


def of_items(items: int) -> Rule:
    """Chunks of so many items each."""
    return lambda cores: NodeChunker(items, cores)


class _Sized:
    """Chunks of so many seconds of a node's work; less at the end, so that no node has much when others have none."""

    def __init__(self, seconds: float, cores: int) -> None:
        self._seconds, self._cores = seconds, cores
        self._items, self._worked_s = 0, 0.0

    def observe(self, count: int, total_ns: int, size_bytes: int) -> None:
        self._items += count
        self._worked_s += total_ns / 1e9

    def size(self, *, workers: int, remaining: int, credit: int) -> int:
        if not self._items:
            return min(credit, self._cores)
        each_s = self._worked_s / self._items / self._cores
        size = min(int(self._seconds / each_s), remaining // (2 * workers))
        return max(1, min(credit, max(size, int(self._seconds / 20 / each_s))))


def of_seconds(seconds: float) -> Rule:
    """Chunks that size themselves to so many seconds of a node's work, whatever bounds them today."""
    return lambda cores: _Sized(seconds, cores)


@dataclass(frozen=True)
class Cluster:
    """Machines below one driver.

    Attributes:
        nodes: How many.
        cores: Of each.
        depth: Chunks that a node has at a time.
        in_flight: Items that are out and not handed to the consumer, at most.
        lost: The part of the nodes that is lost an hour.
        notice_s: Until it is known that a node is lost, seconds.
        back_s: Until another one is in its place, seconds; None: never.
        start_s: Until a node's pool works, seconds.
        report_s: A node tells of what has ended in a chunk that goes on so often, seconds; None: as it is.
    """

    nodes: int
    cores: int
    depth: int = 2
    in_flight: int = 65_536
    lost: float = 0.0
    notice_s: float = 30.0
    back_s: float | None = 120.0
    start_s: float = 0.0
    report_s: float | None = None


@dataclass(frozen=True)
class Result:
    """What became of a run.

    Attributes:
        settled: Items with an outcome.
        again: Items that were given to a node a second time, because theirs was lost.
        chunks: Those that came back.
        messages: There and back: one for each chunk, and those that tell of a part of it.
        cores_used: Part of the time of all cores that went into items, from the first message to the last.
        driver_used: Part of the time in which the driver was busy.
        scheduler_used: The same of the cluster's scheduler.
        most_out: Items that were out at a time, at most.
        largest: Items of the largest chunk.
        nodes_lost: How often a node was.
    """

    seconds: float
    settled: int
    again: int
    chunks: int
    messages: int
    cores_used: float
    driver_used: float
    scheduler_used: float
    most_out: int
    largest: int
    nodes_lost: int

    @property
    def items_per_s(self) -> float:
        """Items with an outcome, a second."""
        return self.settled / self.seconds if self.seconds else 0.0


@dataclass(slots=True)
class _Node:
    number: int
    #: which of the nodes that stood in this place one after the other
    life: int = 0
    alive: bool = True
    #: when its cores have no more work
    free_s: float = 0.0
    #: when its own driver has no more to do
    driver_s: float = 0.0
    #: what it has, by the chunk's number: its items, seconds of one core that they take, and when the first began
    held: dict[int, tuple[int, float, float]] = field(default_factory=dict)
    #: chunks in it that do not count any more: all that is left of them runs
    tails: set[int] = field(default_factory=set)


class Run:
    """One run of a model.

    Args:
        items: How many.
        times: Of an item.
        cluster: What it runs on.
        costs: Of items and messages.
        rule: What sizes chunks.
        seed: Of all that is drawn.
    """

    def __init__(
        self, items: int, times: Times, cluster: Cluster, costs: Costs, rule: Rule = as_it_is, seed: int = 1
    ) -> None:
        self._times, self._cluster, self._costs = times, cluster, costs
        own_s = max(REPORT_S, REPORT_EACH_S * cluster.nodes)
        self._report_s = own_s if cluster.report_s is None else cluster.report_s
        self._rng = random.Random(seed)
        self._chunker = rule(cluster.cores)
        self._items, self._left = items, items
        self._settled = self._again = self._chunks = self._messages = self._out = self._most_out = self._largest = (
            self._lost
        ) = 0
        self._work_s = self._driver_busy_s = self._scheduler_busy_s = 0.0
        #: when each server is free; the scheduler has two, since what comes in and what goes out do not overtake
        self._driver_s = self._in_s = self._out_s = 0.0
        self._events: list[tuple[float, int, str, int, int, int]] = []
        self._numbers = 0
        #: chunks of lost nodes
        self._again_chunks: deque[int] = deque()
        #: places of nodes that wait for items, or for items to come back
        self._waiting: deque[tuple[int, int]] = deque()
        self._nodes = [_Node(number) for number in range(cluster.nodes)]
        self._end_s = 0.0

    def _at(self, when_s: float, what: str, node: int, life: int, chunk: int = 0) -> None:
        self._numbers += 1
        heapq.heappush(self._events, (when_s, self._numbers, what, node, life, chunk))

    def play(self) -> Result:
        """To the last outcome.

        Raises:
            RuntimeError: All nodes are lost, and no others come.
        """
        cluster = self._cluster
        for node in self._nodes:
            self._begin(node, cluster.start_s)
        if cluster.lost:
            self._at(self._next_loss_s(0.0), "lost", 0, 0)
        while self._settled < self._items:
            when_s, _, what, number, life, chunk = heapq.heappop(self._events)
            node = self._nodes[number]
            if what == "done":
                if node.alive and node.life == life:
                    self._done(node, chunk, when_s)
            elif what == "hungry":
                if node.alive and node.life == life:
                    self._hungry(node, when_s)
            elif what == "lost":
                self._lose(when_s)
                self._at(self._next_loss_s(when_s), "lost", 0, 0)
            elif what == "noticed":
                self._again_chunks.append(chunk)
                self._out -= chunk
                self._again += chunk
                self._wake(when_s)
            elif what == "place":
                if node.alive and node.life == life:
                    self._give(node, when_s)
            else:
                node.alive, node.free_s, node.driver_s = True, when_s, when_s
                self._begin(node, when_s)
        seconds = self._end_s
        return Result(
            seconds,
            self._settled,
            self._again,
            self._chunks,
            self._messages,
            min(1.0, self._work_s / (seconds * cluster.nodes * cluster.cores)),
            self._driver_busy_s / seconds,
            self._scheduler_busy_s / seconds,
            self._most_out,
            self._largest,
            self._lost,
        )

    def _begin(self, node: _Node, when_s: float) -> None:
        for _ in range(self._cluster.depth):
            self._at(when_s, "place", node.number, node.life)

    def _next_loss_s(self, now_s: float) -> float:
        return now_s + self._rng.expovariate(self._cluster.lost * self._cluster.nodes / 3600)

    def _give(self, node: _Node, now_s: float) -> None:
        """A node has room for a chunk, or gets none and waits."""
        credit = self._cluster.in_flight - self._out
        if not self._again_chunks and (not self._left or credit <= 0):
            self._waiting.append((node.number, node.life))
            return
        if self._again_chunks:
            items = self._again_chunks.popleft()
        else:
            items = self._chunker.size(workers=self._cluster.nodes, remaining=self._left, credit=credit)
            items = min(items, self._left)
            self._left -= items
        self._out += items
        self._most_out = max(self._most_out, self._out)
        self._largest = max(self._largest, items)
        costs = self._costs
        # The driver packs and sends it; half of what an item and a message cost.
        cost = (costs.driver_message_s + items * costs.driver_item_s) / 2
        self._driver_s = max(self._driver_s, now_s) + cost
        self._driver_busy_s += cost
        self._out_s = max(self._out_s, self._driver_s) + costs.scheduler_message_s
        self._scheduler_busy_s += costs.scheduler_message_s / 2
        arrived_s = self._out_s + costs.latency_s / 2
        own_s = costs.node_message_s + costs.node_chunk_s
        node.driver_s = max(node.driver_s, arrived_s) + own_s + items * costs.node_item_s
        work_s, slowest_s = self._times.chunk(items, self._cluster.cores, self._rng)
        # Cores begin when the chunk was read, and cannot be quicker than what feeds them.
        begun_s = max(node.free_s, arrived_s + own_s)
        node.free_s = max(begun_s + work_s, node.driver_s)
        self._numbers += 1
        chunk = self._numbers
        node.held[chunk] = items, work_s * self._cluster.cores, begun_s
        self._at(node.free_s + slowest_s + costs.latency_s / 2, "done", node.number, node.life, chunk)
        # When each of its cores has its last item but one, the node is looked at.
        hungry_s = max(now_s, node.free_s - self._times.mean_s) + (LOOK_S + costs.latency_s) / 2
        self._at(hungry_s, "hungry", node.number, node.life, chunk)

    def _hungry(self, node: _Node, now_s: float) -> None:
        """A node tells that all that is left of its chunks runs, or soon does: it may have others."""
        fresh = node.held.keys() - node.tails
        if not fresh or node.free_s - now_s > self._times.mean_s:
            return
        costs = self._costs
        self._in_s = max(self._in_s, now_s) + costs.scheduler_message_s
        self._scheduler_busy_s += costs.scheduler_message_s
        node.driver_s += costs.node_message_s
        self._driver_s = max(self._driver_s, self._in_s) + costs.driver_message_s
        self._driver_busy_s += costs.driver_message_s
        self._messages += 1
        node.tails |= fresh
        for _ in fresh:
            self._give(node, now_s)

    def _done(self, node: _Node, chunk: int, now_s: float) -> None:
        costs = self._costs
        items, work_s, begun_s = node.held.pop(chunk)
        self._work_s += work_s
        self._chunker.observe(items, int(work_s * 1e9), items * costs.item_bytes)
        # What told of parts of the chunk is counted here, all together.
        reports = int((now_s - begun_s) / self._report_s)
        self._in_s = max(self._in_s, now_s) + (1 + reports) * costs.scheduler_message_s
        self._scheduler_busy_s += (0.5 + reports) * costs.scheduler_message_s
        node.driver_s += reports * costs.node_message_s
        cost = (costs.driver_message_s + items * costs.driver_item_s) / 2 + reports * costs.driver_message_s
        self._driver_s = max(self._driver_s, self._in_s) + cost
        self._driver_busy_s += cost
        self._out -= items
        self._settled += items
        self._chunks += 1
        self._messages += 1 + reports
        self._end_s = max(self._end_s, self._driver_s)
        if chunk in node.tails:
            node.tails.remove(chunk)
        else:
            self._give(node, now_s)
        self._wake(now_s)

    def _wake(self, now_s: float) -> None:
        """Nodes that wait get what there is now."""
        for _ in range(len(self._waiting)):
            if not self._again_chunks and (not self._left or self._out >= self._cluster.in_flight):
                return
            number, life = self._waiting.popleft()
            node = self._nodes[number]
            if node.alive and node.life == life:
                self._give(node, now_s)

    def _lose(self, now_s: float) -> None:
        """A node that is drawn is gone, with what it holds."""
        node = self._nodes[self._rng.randrange(len(self._nodes))]
        if not node.alive:
            return
        self._lost += 1
        held, node.held, node.tails = node.held, {}, set()
        node.alive, node.life = False, node.life + 1
        for items, _, _ in held.values():
            self._at(now_s + self._cluster.notice_s, "noticed", node.number, node.life, items)
        if self._cluster.back_s is not None:
            self._at(now_s + self._cluster.back_s + self._cluster.start_s, "back", node.number, node.life)
        elif not any(each.alive for each in self._nodes):
            raise RuntimeError("no node is left")
