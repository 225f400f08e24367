"""By what an input is known again, when a search that was ended goes on."""

from __future__ import annotations

import hashlib
from typing import Any

from allcores.advisor.measuring.sample import Sample
from allcores.transport import pickling

#: items by whose bytes an input is known again, and bytes of them
KNOWN_BY, KNOWN_BYTES = 16, 1 << 20


def known_by(sample: Sample) -> dict[str, Any]:
    """Its length, and some of its items where these can be pickled.

    Of an input that was read in part the first ones: how far that came is another time another place.
    """
    digest = hashlib.blake2b(digest_size=16)
    for _, item in sample.look(KNOWN_BY) if sample.whole else sample.beginning(KNOWN_BY):
        try:
            digest.update(pickling.dumps(item)[:KNOWN_BYTES])
        except Exception:
            digest.update(type(item).__qualname__.encode())
    return {"total": sample.total, "digest": digest.hexdigest()}
