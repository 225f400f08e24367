"""Hashes 10,000 records from a generator, with the standard library alone."""

import hashlib
import multiprocessing


def records():
    """The input; it must be finite and fit in memory, for imap reads all of it ahead."""
    for number in range(10_000):
        yield f"record {number} " * 50


def digest(record):
    """SHA-256 of a record, hashed 20 times over."""
    data = record.encode()
    for _ in range(20):
        data = hashlib.sha256(data).digest()
    return data.hex()


if __name__ == "__main__":
    count = 0
    together = hashlib.sha256()
    with multiprocessing.Pool() as pool:
        for text in pool.imap(digest, records(), chunksize=64):
            count += 1
            together.update(text.encode())
    print(f"{count} records hashed; together {together.hexdigest()}")
