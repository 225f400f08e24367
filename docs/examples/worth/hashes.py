"""Hashes records from a generator, in a loop."""

import hashlib


def records():
    """The input; it could as well be endless, or larger than memory."""
    for number in range(40_000):
        yield f"record {number} " * 50


def digest(record):
    """SHA-256 of a record, hashed 200 times over."""
    data = record.encode()
    for _ in range(200):
        data = hashlib.sha256(data).digest()
    return data.hex()


def main():
    together = hashlib.sha256()
    for record in records():
        together.update(digest(record).encode())
    print(f"together {together.hexdigest()}")


if __name__ == "__main__":
    main()
