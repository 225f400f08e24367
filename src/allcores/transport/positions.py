"""The few numbers that parent and worker share: where a worker is, and how far it may go.

Light on purpose: every worker imports it.
"""

from __future__ import annotations

#: "no limit": no mark of a worker is as large
NO_LIMIT = (1 << 64) - 1

PHASE_IDLE, PHASE_SETUP, PHASE_LOADING, PHASE_RUNNING, PHASE_SEALING, PHASE_FUNCTION, PHASE_CONTEXT, PHASE_OUTPUT = (
    range(8)
)
#: between two chunks, unpickling what the next one needs: a function, or the caller's context variables
PREPARING = (PHASE_FUNCTION, PHASE_CONTEXT)
# PHASE_OUTPUT is between two chunks, too: what tasks have printed is being written, which whoever reads it may delay.
#: what those who look at a pool call each
STATES = {
    PHASE_IDLE: "idle",
    PHASE_SETUP: "setup",
    PHASE_LOADING: "loading",
    PHASE_RUNNING: "running",
    PHASE_SEALING: "sealing",
    PHASE_FUNCTION: "loading",
    PHASE_CONTEXT: "loading",
    PHASE_OUTPUT: "idle",
}


#: on the board the position of the item that runs is in the low half of a word, what runs with it in the high one
POSITION_BITS = 32


def together_word(position: int, count: int) -> int:
    """One word for "`count` items from `position` on are in one call"; for a single one it is its position."""
    return position | (count - 1) << POSITION_BITS


def of_together_word(word: int) -> tuple[int, int]:
    """Position and count in such a word."""
    return word & 0xFFFFFFFF, (word >> POSITION_BITS) + 1


def mark(sequence: int, position: int) -> int:
    """One number for "item `position` of chunk `sequence`": later work has a larger mark."""
    return sequence << 32 | position
