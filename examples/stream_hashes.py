"""Hashes 10,000 records from a generator: streamed, in order, with chunks that size themselves."""

import hashlib
from collections.abc import Iterator

import allcores


def records() -> Iterator[str]:
    """The input; it could as well be endless, or larger than memory."""
    for number in range(10_000):
        yield f"record {number} " * 50


def digest(record: str) -> str:
    """SHA-256 of a record, hashed 20 times over."""
    data = record.encode()
    for _ in range(20):
        data = hashlib.sha256(data).digest()
    return data.hex()


count = 0
together = hashlib.sha256()
with allcores.Pool() as pool:
    for text in pool.imap(digest, records()):
        count += 1
        together.update(text.encode())
print(f"{count} records hashed; together {together.hexdigest()}")
