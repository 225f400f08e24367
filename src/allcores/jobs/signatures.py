"""What the requests of webhooks are signed with, and how a receiver sees that one comes from where it says.

As Stripe and others do: HMAC-SHA256 of the time, a dot and the body, so that what was once heard cannot be sent again
later.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import time

from allcores.errors import UsageError
from allcores.system import own_files
from allcores.system.partial_files import create_private
from allcores.system.tracebacks import hiding

HEADER = "Allcores-Signature"
#: in the store's folder: what signs, unless $ALLCORES_WEBHOOK_SECRET does
KEY_FILE = "webhook.key"


def secret_of(store_folder: str | os.PathLike[str]) -> bytes:
    """What requests of this store are signed with; made if there is none.

    Raises:
        UsageError: If the file cannot be trusted or read.
    """
    given = os.environ.get("ALLCORES_WEBHOOK_SECRET")
    if given:
        return given.encode()
    path = os.path.join(os.fspath(store_folder), KEY_FILE)
    try:
        if not os.path.lexists(path):
            create_private(path, secrets.token_hex(32).encode())
        reason = own_files.why_not_trusted(path)
        if reason is not None:
            raise UsageError(f"the key of webhooks in {path} is not used: {reason}")
        with open(path, "rb") as found:
            key = found.read().strip()
        if not key:
            raise UsageError(f"the key of webhooks in {path} is empty: remove the file, and a new one is made")
        return key
    except OSError as error:
        raise UsageError(f"the key of webhooks in {path} cannot be had: {error.strerror}") from None


def signature(secret: bytes, body: bytes, at: int) -> str:
    """The header for a body that is sent at that time."""
    digest = hmac.new(secret, b"%d." % at + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


@hiding
def is_signed(secret: bytes, header: str, body: bytes, *, now: float | None = None, tolerance_s: float = 300.0) -> bool:
    """For receivers: whether a body was signed with the secret, a moment ago.

    Args:
        secret: That of the store.
        header: Of the request, `Allcores-Signature`.
        body: Its bytes, as they came.
        now: The time; None: now.
        tolerance_s: How old a signature may be, in seconds.
    """
    sent = dict(part.partition("=")[::2] for part in header.split(",")).get("t", "")
    if not (sent.isascii() and sent.isdigit() and len(sent) < 15):
        return False
    at = int(sent)
    age_s = (time.time() if now is None else now) - at
    # As bytes: a text that is not ASCII may be sent, too, and cannot be compared.
    given = header.encode("utf-8", "surrogatepass")
    return abs(age_s) <= tolerance_s and hmac.compare_digest(signature(secret, body, at).encode(), given)
