"""Stage `duplicates`: messages that say what an earlier one has said, exactly or nearly.

    takes   text_norm   string
    gives   dup_of      string   id of the first message of the group that it belongs to; None for the first
            dup_kind    string   "exact": the same but for case and white space; "near": similar

Two messages are near if their sets of `shingle` characters in a row have a Jaccard similarity of `threshold` or more.
MinHash with bands (LSH) finds the pairs to look at, and the sets themselves say whether they are near, so a group has
no member by chance. Groups are joined by union-find whose root is the smallest position. So the groups do not depend on
the number of workers, and not on the order of the input either, which only says who is first: unless more than
`MOST_COMPARED` messages share a band (a million of one template), where the first of them are compared with the others
and these not among each other, so that a group may be in two parts.

Workers make the sketches; the program sees them in order. A stream (`imap`) says what is known when a message comes: a
later one may still join two groups. It takes 2 to 3 kB of memory for each distinct message.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from array import array
from collections.abc import Iterator
from itertools import islice
from typing import Any

from allcores.errors import UsageError
from allcores.nlp.libraries import library
from allcores.nlp.records import Field, Record
from allcores.nlp.stage import Stage

SEED = 20_240_517
#: hash functions of a sketch
PERMUTATIONS = 100
#: threshold from which on -> hash functions in a band. A pair right at the threshold is missed once in 80 times at
#: most, and at 0.8 once in 3,000; more of them would find fewer pairs, fewer would have more to compare.
ROWS = {0.75: 5, 0.65: 4, 0.5: 3, 0.0: 2}
#: messages of a band that a new one is compared with; more would make a million copies of one template take for ever
MOST_COMPARED = 200
#: shingles of a long text that are kept: those with the smallest hashes, a fair sample of them
MOST_SHINGLES = 20_000


class Sketcher:
    """What the stage loads."""

    def __init__(self, threshold: float, shingle: int, near: bool) -> None:
        if not 0.0 < threshold <= 1.0:
            raise UsageError(f"stage 'duplicates': threshold={threshold} must be above 0, and 1 at most")
        if shingle < 1:
            raise UsageError(f"stage 'duplicates': shingle={shingle} must be 1 or more")
        self.shingle = shingle
        self.near = near
        self.minhash: Any = library("rensa", extra="nlp", use="finding near duplicates").RMinHash if near else None

    def sketch(self, record: Record) -> dict[str, Any]:
        """A digest of the text, its bands, and its shingles, for `Groups`."""
        folded = " ".join(record["text_norm"].casefold().split())
        if not folded:
            return {"_digest": None}
        found = {"_digest": hashlib.blake2b(folded.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()}
        if self.near:
            last = max(1, len(folded) - self.shingle + 1)
            parts = {folded[start : start + self.shingle] for start in range(last)}
            minhash = self.minhash(num_perm=PERMUTATIONS, seed=SEED)
            minhash.update(list(parts))
            hashes = sorted({zlib.crc32(part.encode("utf-8", "surrogatepass")) for part in parts})
            found["_bands"] = _packed(minhash.digest())
            found["_shingles"] = _packed(hashes[:MOST_SHINGLES])
        return found


def sketch(sketcher: Sketcher, record: Record) -> dict[str, Any]:
    """See the module."""
    return sketcher.sketch(record)


def _packed(numbers: list[int]) -> str:
    return base64.b85encode(array("I", numbers).tobytes()).decode()


class Groups:
    """Sees the sketches in order, and knows who belongs together. See `InOrder`."""

    def __init__(self, threshold: float, shingle: int, near: bool) -> None:
        self.threshold = threshold
        #: bytes of a band
        self._size = 4 * next(rows for least, rows in ROWS.items() if threshold >= least)
        self._exact: dict[str, int] = {}
        self._same_as: dict[int, int] = {}  # position of an exact duplicate -> that of the first
        self._parents: dict[int, int] = {}  # union-find of near ones
        self._ids: dict[int, str] = {}
        #: for each band, its content as a number -> the position that has it, or several
        self._bands: list[dict[int, int | list[int]]] = []
        self._shingles: dict[int, bytes] = {}

    def see(self, position: int, record: Record) -> None:
        """See `InOrder`."""
        digest = record.get("_digest")
        if digest is None:
            return
        first = self._exact.setdefault(digest, position)
        if first != position:
            self._same_as[position] = first
            return
        self._ids[position] = record["id"]
        if (packed := record.get("_bands")) is None:
            return
        shingles = base64.b85decode(record["_shingles"])
        mine = frozenset(array("I", shingles))
        compared = set[int]()
        for other in self._candidates(position, base64.b85decode(packed)):
            if other not in compared:
                compared.add(other)
                if self._root(other) != self._root(position) and self._are_near(mine, self._shingles[other]):
                    self._join(other, position)
        self._shingles[position] = shingles

    def _candidates(self, position: int, signature: bytes) -> Iterator[int]:
        """Positions that share a band with this one, which is entered, too; some more than once."""
        for number in range(len(signature) // self._size):
            if number == len(self._bands):
                self._bands.append({})
            band = self._bands[number]
            content = int.from_bytes(signature[number * self._size : (number + 1) * self._size], "little")
            there = band.setdefault(content, position)
            if there == position:
                continue
            if isinstance(there, int):
                yield there
                band[content] = [there, position]
            else:
                yield from islice(there, MOST_COMPARED)
                there.append(position)

    def fill(self, position: int, record: Record) -> None:
        """See `InOrder`."""
        for name in ("_digest", "_bands", "_shingles"):
            record.pop(name, None)
        first = self._same_as.get(position, position)
        root = self._root(first)
        if first != position:
            record["dup_of"], record["dup_kind"] = self._ids[root], "exact"
        elif root != position:
            record["dup_of"], record["dup_kind"] = self._ids[root], "near"

    def _are_near(self, mine: frozenset[int], packed: bytes) -> bool:
        few, many = sorted((len(mine), len(packed) // 4))
        if few < self.threshold * many:
            return False
        others = array("I", packed)
        shared = sum(map(mine.__contains__, others))
        return shared >= self.threshold * (len(mine) + len(others) - shared)

    def _root(self, position: int) -> int:
        parents = self._parents
        root = position
        while (parent := parents.get(root, root)) != root:
            root = parent
        while (parent := parents.get(position, root)) != root:
            parents[position], position = root, parent
        return root

    def _join(self, one: int, other: int) -> None:
        first, second = sorted((self._root(one), self._root(other)))
        if first != second:
            self._parents[second] = first


DUPLICATES = Stage(
    "duplicates",
    each=sketch,
    gives=(
        Field("dup_of", "string", "id of the first message of its group of duplicates"),
        Field("dup_kind", "string", "exact or near"),
    ),
    load=Sketcher,
    options={"threshold": 0.8, "shingle": 5, "near": True},
    in_order=Groups,
)
