"""What is put off until the end of a chunk, which runs before the chunk's last results leave.

So what a task keeps beside its results (entries of a cache) is there when the program has them.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

#: To be called once, at the end of the chunk. Who runs chunks looks whether there is anything: others pay nothing.
waiting: list[Callable[[], object]] = []


def run() -> None:
    """Call what waits. None of it raises; what it puts off once more is called at the next end."""
    for _ in range(len(waiting)):
        try:
            end = waiting.pop(0)
        except IndexError:  # another thread took it
            return
        end()
