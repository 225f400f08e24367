"""The article's three programs run as they are, and their results are right."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
SOURCES = Path(__file__).parents[2] / "src"


#: those of the docs, which the others replace: with the standard library alone
PLAIN = Path(__file__).parents[2] / "docs" / "examples"


def run_example(name: str, folder: Path) -> str:
    """What `python examples/NAME` prints, run from another folder, with warnings as errors; plain_X: of the docs."""
    path = (PLAIN if name.startswith("plain_") else EXAMPLES) / name
    done = subprocess.run(
        [sys.executable, "-W", "error", str(path)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(SOURCES), "TMPDIR": str(folder)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def count_primes(limit: int) -> int:
    """By the sieve of Eratosthenes: another way than the example's."""
    prime = bytearray([1]) * limit
    prime[:2] = b"\0\0"
    for number in range(2, int(limit**0.5) + 1):
        if prime[number]:
            prime[number * number :: number] = bytes(len(range(number * number, limit, number)))
    return sum(prime)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["primes.py", "plain_primes.py"])
def test_primes(name: str, tmp_path: Path) -> None:
    """Each limit's count is right and stands in the order of the limits."""
    limits = [100_000, 120_000, 140_000, 160_000]
    expected = "".join(f"{count_primes(limit)} primes below {limit}\n" for limit in limits)
    assert run_example(name, tmp_path) == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", ["stream_hashes.py", "plain_stream_hashes.py"])
def test_stream_hashes(name: str, tmp_path: Path) -> None:
    """All 10,000 records arrive in order: the hash of the hashes is the one of a plain loop."""
    together = hashlib.sha256()
    for number in range(10_000):
        data = (f"record {number} " * 50).encode()
        for _ in range(20):
            data = hashlib.sha256(data).digest()
        together.update(data.hex().encode())
    expected = f"10000 records hashed; together {together.hexdigest()}\n"
    assert run_example(name, tmp_path) == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param("model.py", marks=pytest.mark.quick), "plain_model.py"])
def test_model(name: str, tmp_path: Path) -> None:
    """The 10 MB model is loaded at most once per worker; nothing stays in the temporary folder."""
    first, second = run_example(name, tmp_path).splitlines()
    # weight number i is i, and prediction x adds up the weights x % 1000 + 1000 * k for k below 1250
    total = 2 * sum(1250 * x + 1000 * sum(range(1250)) for x in range(1000))
    assert first == f"2000 predictions, sum {total}"
    size, loads, workers = (int(word) for word in second.split() if word.isdigit())
    assert size == 10_000_000
    assert 1 <= loads <= workers
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_shared_model(tmp_path: Path) -> None:
    """Five workers crash, and the model is loaded once all the same."""
    size = 12_500_000
    numbers = [number for number in range(500) if number % 100 != 99]
    assert run_example("shared_model.py", tmp_path).splitlines() == [
        f"495 answers, sum {len(numbers) * (size - 1)}; 5 workers were lost",
        f"{size * 8} bytes, loaded 1 time",
    ]


@pytest.mark.parametrize("name", ["primes.py", "stream_hashes.py", "model.py", "shared_model.py"])
def test_examples_are_short_and_need_no_guard(name: str) -> None:
    """At most 40 lines, and no `if __name__ == "__main__"`."""
    text = (EXAMPLES / name).read_text()
    assert len(text.splitlines()) <= 40
    assert "__name__" not in text
