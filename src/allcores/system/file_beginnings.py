"""How files begin that are no lines of text: what is compressed, and what is another format under the name of text."""

from __future__ import annotations

#: suffix of what is compressed -> its first bytes
COMPRESSED: dict[str, tuple[bytes, ...]] = {
    ".gz": (b"\x1f\x8b\x08",),
    ".bz2": tuple(b"BZh%d1AY&SY" % level for level in range(1, 10)),
    ".xz": (b"\xfd7zXZ\x00",),
    # The second is a frame that is to be skipped, as parallel compressors write it first.
    ".zst": (b"\x28\xb5\x2f\xfd", *(bytes((0x50 + kind, 0x2A, 0x4D, 0x18)) for kind in range(16))),
}
#: suffix -> the program that unpacks it on the way
UNPACKS = {".gz": "zcat", ".bz2": "bzcat", ".xz": "xzcat", ".zst": "zstdcat"}
UTF_16 = (b"\xff\xfe", b"\xfe\xff")
#: of an archive, which spreadsheets (.xlsx) and arrays (.npz) are
ZIP = b"PK\x03\x04"


def compression_by_content(data: bytes) -> str | None:
    """The suffix of what is compressed as `data`, the beginning of a file, says; None if it says no such thing."""
    return next((suffix for suffix, beginnings in COMPRESSED.items() if data.startswith(beginnings)), None)
