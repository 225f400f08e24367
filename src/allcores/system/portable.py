"""Whether what only Linux has is left alone, so that what other systems get runs here: ALLCORES_PORTABLE=1.

No memory without a name, no epoll, no descriptors of processes, no signal from the kernel when the parent ends, nothing
read of processes in /proc; workers are fresh interpreters ("spawn") unless a start method is named. Read once, when
allcores is imported; programs that it starts inherit it.
"""

from __future__ import annotations

import os

PORTABLE = os.environ.get("ALLCORES_PORTABLE", "") not in ("", "0")
