"""Stage `duplicates`: messages that say what an earlier one has said, exactly or nearly.

    takes   text_norm   string
    gives   dup_of      string   id of the first message of the group that it belongs to; None for the first
            dup_kind    string   "exact": the same but for case and white space; "near": similar

Two messages are near if their sets of `shingle` characters in a row have a Jaccard similarity of `threshold` or more.
MinHash with bands (LSH) finds the pairs to look at, and the sets themselves say whether they are near, so a group has
no member by chance. Groups are joined by union-find whose root is the smallest position. Of more than `MOST_COMPARED`
that share a band (a million of one template) those with the smallest digests are compared with all of them, and the
others not among each other, so a group may be in two parts; which ones does not depend on who came first. So the
groups depend neither on the number of workers nor on the order of the input, which only says who is first.

Workers make the sketches; the program sees them in order, and compares them when all are there. A stream (`imap`) says
what is known when a message comes: a later one may still join two groups. It takes 2 to 3 kB of memory for each
distinct message.
"""

from __future__ import annotations

import binascii
import hashlib
import zlib
from array import array
from bisect import insort
from collections.abc import Iterator
from typing import Any

from allcores.errors import UsageError
from allcores.nlp.libraries import library
from allcores.nlp.records import Field, Record
from allcores.nlp.stage import Stage, check_whole

SEED = 20_240_517
#: hash functions of a sketch
PERMUTATIONS = 100
#: threshold from which on -> hash functions in a band. A pair right at the threshold is missed once in 80 times at
#: most, and at 0.8 once in 3,000; more of them would find fewer pairs, fewer would have more to compare.
ROWS = {0.75: 5, 0.65: 4, 0.5: 3, 0.0: 2}
#: messages of a band that the others are compared with; more would make a million copies of one template take for ever
MOST_COMPARED = 200
#: shingles of a long text that are kept: those with the smallest hashes, a fair sample of them
MOST_SHINGLES = 20_000


class Sketcher:
    """What the stage loads."""

    def __init__(self, threshold: float, shingle: int, near: bool) -> None:
        _check(threshold, shingle)
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


def _check(threshold: float, shingle: int) -> None:
    if not 0.0 < threshold <= 1.0:
        raise UsageError(f"stage 'duplicates': threshold={threshold} must be above 0, and 1 at most")
    check_whole("duplicates", "shingle", shingle, 1)


def sketch(sketcher: Sketcher, record: Record) -> dict[str, Any]:
    """See the module."""
    return sketcher.sketch(record)


def _packed(numbers: list[int]) -> str:
    # Not base 85, which Python does in Python: it took a third of all that the program does with a message.
    return binascii.b2a_base64(array("I", numbers).tobytes(), newline=False).decode()


class Groups:
    """Sees the sketches in order, and knows who belongs together. See `InOrder`."""

    def __init__(self, threshold: float, shingle: int, near: bool) -> None:
        _check(threshold, shingle)
        self.threshold = threshold
        #: bytes of a band
        self._size = 4 * next(rows for least, rows in ROWS.items() if threshold >= least)
        self._exact: dict[str, int] = {}
        self._same_as: dict[int, int] = {}  # position of an exact duplicate -> that of the first
        self._parents: dict[int, int] = {}  # union-find of near ones
        self._ids: dict[int, str] = {}
        self._digests: dict[int, str] = {}
        #: those that are seen, and not yet compared -> the bands that they share with others
        self._waiting: dict[int, list[list[int]]] = {}
        #: for each band, its content as a number -> the position that has it, or several: those of the smallest digests
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
        self._digests[position] = digest
        self._shingles[position] = binascii.a2b_base64(record["_shingles"])
        self._waiting[position] = shared = []
        rank = self._digests.__getitem__
        for band, content in self._places(binascii.a2b_base64(packed)):
            there = band.setdefault(content, position)
            if isinstance(there, list):
                insort(there, position, key=rank)
                del there[MOST_COMPARED:]
                shared.append(there)
            elif there != position:
                band[content] = pair = sorted((there, position), key=rank)
                shared.append(pair)
                if there in self._waiting:
                    self._waiting[there].append(pair)

    def _settle(self) -> None:
        """Compare those that were seen since the last time, and join the near ones."""
        for position, shared in self._waiting.items():
            mine: frozenset[int] | None = None
            for other in self._candidates(position, shared):
                if self._root(other) != self._root(position):
                    mine = mine or frozenset(array("I", self._shingles[position]))
                    if self._are_near(mine, self._shingles[other]):
                        self._join(other, position)
        self._waiting.clear()

    def _candidates(self, position: int, shared: list[list[int]]) -> set[int]:
        """What one is to be compared with, for they share a band."""
        found: set[int] = set()
        for there in shared:
            # Of two that are both kept, the later one is compared with the earlier.
            kept = len(there) < MOST_COMPARED or self._digests[position] <= self._digests[there[-1]]
            found.update([other for other in there if other < position] if kept else there)
        return found

    def _places(self, signature: bytes) -> Iterator[tuple[dict[int, int | list[int]], int]]:
        """Each band, and what the signature has there."""
        size = self._size
        for number, start in enumerate(range(0, len(signature) - size + 1, size)):
            if number == len(self._bands):
                self._bands.append({})
            yield self._bands[number], int.from_bytes(signature[start : start + size], "little")

    def fill(self, position: int, record: Record) -> None:
        """See `InOrder`."""
        if self._waiting:
            self._settle()
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
