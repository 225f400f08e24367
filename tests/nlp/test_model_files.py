"""Models that were made once and are kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

numpy = pytest.importorskip("numpy")
pytestmark = pytest.mark.quick


def entry_with(whole: bytes, place: int, number: int) -> bytes:
    """Another number in what the archive says of its file."""
    at = whole.index(b"PK\x01\x02") + place
    return whole[:at] + bytes([number]) + whole[at + 1 :]


#: what may become of a file
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda whole: b"",
    "cut off": lambda whole: whole[: len(whole) // 2],
    "no archive": lambda whole: b"no archive",
    "encrypted": lambda whole: entry_with(whole, 8, 1),
    "another compression": lambda whole: entry_with(whole, 10, 99),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_one_that_is_damaged_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    from allcores.nlp.model_files import kept

    monkeypatch.setenv("ALLCORES_HOME", str(tmp_path))
    made: list[int] = []

    def make() -> dict[str, Any]:
        made.append(1)
        return {"weights": numpy.arange(3)}

    for _ in range(2):
        assert kept("m.npz", make)["weights"].tolist() == [0, 1, 2] and len(made) == 1
    file = tmp_path / "models" / "m.npz"
    file.write_bytes(DAMAGES[damage](file.read_bytes()))
    assert kept("m.npz", make)["weights"].tolist() == [0, 1, 2] and len(made) == 2
    assert kept("m.npz", make)["weights"].tolist() == [0, 1, 2] and len(made) == 2
