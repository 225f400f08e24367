"""Asks a cluster for its nodes, again and again, and says when its scheduler is lost."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Collection, Iterable

from allcores.adapters.cluster.base import Cluster, SchedulerLost
from allcores.adapters.cluster.delays import ask_delays
from allcores.adapters.cluster.link import Link
from allcores.adapters.cluster.silence import Silence
from allcores.backends.base import start_thread
from allcores.errors import BrokenPool
from allcores.system.clock import monotonic_ns

#: Between two looks at which nodes there are, seconds; the second while one is wanted.
LOOK_S, LOOK_SOON_S = 1.0, 0.25


class SchedulerWatch:
    """See the module. Methods are for the thread that `post` hands its functions to.

    An answer may never come, so the nodes are asked for by a thread of their own; and so is whether the scheduler's
    process is there, once it has been silent for some seconds.

    Args:
        cluster: Asked.
        post: Has a function called by who calls the other methods.
        seen: Told the nodes that there are.
        lost: Told that the cluster is lost, with the end of a sentence.
        links: The nodes in use.
        wanted: Workers that have no node yet.
        delays: After how many ns without a beginning the cluster is asked why, and for how many seconds a node is
            waited for.
    """

    def __init__(
        self,
        cluster: Cluster,
        post: Callable[[Callable[[], None]], None],
        seen: Callable[[dict[str, int]], None],
        lost: Callable[[str], None],
        links: Callable[[], Iterable[Link]],
        wanted: Collection[int],
        delays: tuple[int, float],
    ) -> None:
        self._cluster = cluster
        self._post = post
        self._seen = seen
        self._lost = lost
        self._links = links
        self._wanted = wanted
        self._delays = delays
        self._silence = Silence(monotonic_ns())
        self._soon = threading.Event()
        self._closing = False
        self._watcher: threading.Thread | None = None
        #: looks whether the scheduler's process is there
        self._looker: threading.Thread | None = None

    def start(self, name: str) -> None:
        """Begin to ask.

        Args:
            name: Of the pool.

        Raises:
            BrokenPool: No thread can be had.
        """
        self._watcher = threading.Thread(target=self._watch, name=f"allcores-{name}-nodes", daemon=True)
        try:
            start_thread(self._watcher)
        except BrokenPool:
            self._watcher = None
            raise

    def look_soon(self) -> None:
        """Ask for the nodes now."""
        self._soon.set()

    def excuse(self, late_ns: int, now: int) -> None:
        """This program did not run for so long."""
        self._silence.excuse(late_ns, now)

    def check(self, now: int) -> None:
        """There is work: see whether the scheduler is lost."""
        text = self._silence.lost(now, is_there=True)
        if text is not None:
            self._lost(text)
        elif self._silence.wants_to_know(now) and (self._looker is None or not self._looker.is_alive()):
            looker = threading.Thread(target=self._look, name="allcores-scheduler-there", daemon=True)
            with contextlib.suppress(RuntimeError):  # none can be had now, perhaps at the next look
                looker.start()
                self._looker = looker

    def _look(self) -> None:
        is_there = self._cluster.is_there()
        self._post(lambda: self._told(is_there))

    def _told(self, is_there: bool) -> None:
        now = monotonic_ns()
        if is_there:
            self._silence.is_there(now)
        elif self._silence.wants_to_know(now) and (text := self._silence.lost(now, is_there=False)) is not None:
            self._lost(text)

    def _watch(self) -> None:
        while not self._closing:
            try:
                nodes = self._cluster.nodes()
            except SchedulerLost as error:
                self._post(lambda text=str(error): self._lost(text))  # type: ignore[misc]
                return
            except Exception as error:
                text = str(error) or type(error).__name__
                self._post(lambda text=text: self._silence.failed(text))  # type: ignore[misc]
            else:
                self._post(lambda nodes=nodes: self._heard(nodes))  # type: ignore[misc]
                # What a program makes of warnings may raise; without this thread the cluster would be taken for lost.
                with contextlib.suppress(Exception):
                    ask_delays(self._cluster, list(self._links()), *self._delays, lambda: self._closing)
            self._soon.wait(LOOK_SOON_S if self._wanted else LOOK_S)
            self._soon.clear()

    def _heard(self, nodes: dict[str, int]) -> None:
        self._silence.heard(monotonic_ns())
        self._seen(nodes)

    def end(self) -> None:
        """Ask no more."""
        self._closing = True
        self._soon.set()

    def join(self, seconds: float) -> None:
        """Wait for its threads, so long at most: they may wait for an answer that never comes."""
        until = monotonic_ns() + int(seconds * 1e9)
        for each in (self._watcher, self._looker):
            if each is not None:
                each.join(max(0.0, (until - monotonic_ns()) / 1e9))
