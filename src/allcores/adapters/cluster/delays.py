"""Why nodes do not begin, as their cluster knows it: told while a pool waits for them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable

from allcores.adapters.cluster.base import Cluster
from allcores.adapters.cluster.link import Link
from allcores.system import caller
from allcores.system.clock import monotonic_ns


def ask_delays(
    cluster: Cluster, links: Iterable[Link], delay_ns: int, answer_s: float, is_closing: Callable[[], bool]
) -> None:
    """Have told why nodes that were asked for their first answer some time ago do not begin.

    Args:
        cluster: Knows it.
        links: The nodes.
        delay_ns: So long nobody asks.
        answer_s: So long the pool waits for a node.
        is_closing: Nobody wants to know any more.
    """
    now = monotonic_ns()
    for link in links:
        waits = link.asked_ns is not None and now - link.asked_ns > delay_ns
        if not waits or link.is_ready or link.is_gone or link.delay is not None or is_closing():
            continue
        try:
            link.delay = cluster.delay(link.node)
        except Exception:  # whether it is lost, the next look at its nodes says
            continue
        if link.delay is not None:
            # Where warnings are errors, this one must not end the thread.
            with contextlib.suppress(Warning):
                caller.warn(
                    f"Node {link.node} of the {cluster.title} cluster at {cluster.address} has not begun with this "
                    f"pool: {link.delay}. The pool waits for it, {answer_s:g} s at most."
                )
