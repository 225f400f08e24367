"""Placeholders that can be turned back into what they stand for, by whoever has the key.

A placeholder holds the data themselves, encrypted: `[EMAIL:k3J…]`. The scheme is synthetic initialisation vectors over
one pseudo-random function (keyed BLAKE2b): the vector is the function of type and plain text, the key stream that of
vector and counter. So the same data give the same placeholder under one key, which keeps redacted text searchable and
joinable; they show that two are equal, and about how long they are, and nothing else. A placeholder that was changed is
refused.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterator

from allcores.errors import UsageError

#: bytes of a key at least
KEY_BYTES = 16
_VECTOR_BYTES = 16
_PLACEHOLDER = re.compile(r"\[([A-Z][A-Z0-9_]{1,30}):([A-Za-z0-9_-]{22,})\]")


def check_key(key: bytes) -> bytes:
    """The key, if it is one.

    Raises:
        UsageError: If it is too short, or longer than 64 bytes.
    """
    if not KEY_BYTES <= len(key) <= 64:
        raise UsageError(
            f"a key for personal data has {KEY_BYTES} to 64 bytes, and this one {len(key)}:"
            " make one with python -c 'import secrets; print(secrets.token_hex(32))'"
        )
    return key


def placeholder(key: bytes, kind: str, text: str) -> str:
    """What stands in the place of `text`, which is of that type."""
    plain = text.encode("utf-8", "surrogatepass")  # half of a pair is no text for others, but is in texts
    vector = _vector(key, kind, plain)
    token = base64.urlsafe_b64encode(vector + _crypted(key, vector, plain)).rstrip(b"=").decode()
    return f"[{kind}:{token}]"


def restored(key: bytes, text: str) -> str:
    """`text` with all placeholders turned back.

    Raises:
        UsageError: If one was made with another key, or changed.
    """
    return _PLACEHOLDER.sub(lambda match: _plain(key, match), text)


def lookalikes(key: bytes, text: str) -> Iterator[tuple[int, int]]:
    """Where a text has what `restored` would take for a placeholder and refuse, though it is the text's own."""
    for match in _PLACEHOLDER.finditer(text):
        try:
            _plain(key, match)
        except UsageError:
            yield match.span()


def _plain(key: bytes, match: re.Match[str]) -> str:
    """What a placeholder stands for. Raises UsageError."""
    kind, token = match.groups()
    try:
        data = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    except binascii.Error:
        raise UsageError(f"{match[0][:40]} is no placeholder of personal data, or was changed") from None
    vector, hidden = data[:_VECTOR_BYTES], data[_VECTOR_BYTES:]
    shown = _crypted(key, vector, hidden)
    if not hmac.compare_digest(vector, _vector(key, kind, shown)):
        raise UsageError(f"{match[0][:40]} was made with another key, or changed")
    return shown.decode("utf-8", "surrogatepass")


def _vector(key: bytes, kind: str, plain: bytes) -> bytes:
    return hashlib.blake2b(
        kind.encode() + b"\0" + plain, key=key, digest_size=_VECTOR_BYTES, person=b"allcores pii iv"
    ).digest()


def _crypted(key: bytes, vector: bytes, data: bytes) -> bytes:
    stream = b"".join(_blocks(key, vector, len(data)))
    return bytes(sign ^ mask for sign, mask in zip(data, stream, strict=False))


def _blocks(key: bytes, vector: bytes, length: int) -> Iterator[bytes]:
    for number in range(-(-length // 64)):
        yield hashlib.blake2b(vector + number.to_bytes(8, "big"), key=key, person=b"allcores pii key").digest()
