"""Which of several supervisors fell silent, by counting: pure, without a clock.

Each counts up its own number in the store, and looks at those of the others each time it has managed to.
"""

from __future__ import annotations

from collections.abc import Mapping


class Silence:
    """See the module.

    Args:
        most: Looks in a row at which a number may stand still.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        #: of each holder: its number, and in how many looks it was the same
        self._seen: dict[str, tuple[int, int]] = {}

    def look(self, beats: Mapping[str, int]) -> dict[str, int]:
        """See where the others are, once after each own count.

        Args:
            beats: Of each holder but the own one its number.

        Returns:
            Those that are silent, each with the number at which it stands.
        """
        seen: dict[str, tuple[int, int]] = {}
        for holder, beat in beats.items():
            before, count = self._seen.get(holder, (beat, -1))
            seen[holder] = (beat, count + 1 if before == beat else 0)
        self._seen = seen
        return {holder: beat for holder, (beat, count) in seen.items() if count >= self._most}
