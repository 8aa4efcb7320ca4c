"""A hash table of binary codes: all within a radius, or the nearest k, exactly."""

import io
import itertools
import math
import zipfile
from pathlib import Path

import numpy as np

from keras_gen.errors import InputError
from keras_gen.hashing.codes import checked_packed, distances, to_words, unpack
from keras_gen.training.run import write_atomically

NARROWEST, WIDEST = 8, 20
"""Bits of a table's address: 2**20 buckets take 4 MB."""

LOOKUP, BUCKET = 15_000, 8
"""What a look into the tables costs, and each bucket and candidate, in codes of a scan (measured)."""


class HashIndex:
    """Codes of a database, found again by Hamming distance.

    Multi-index hashing (Norouzi, Punjani & Fleet 2012, arXiv:1307.2982): the code is cut into m parts of
    about log2(n) bits, each the address in a table of its own. Codes within r of a query are within r // m
    of it in some part, so that few buckets hold them all. Short codes have one part: the plain hash table
    of Salakhutdinov & Hinton 2009, probed throughout the Hamming ball. Where the buckets to look into,
    or what is in them, would cost more than looking at every code, every code is looked at (an xor and a
    count of bits a word); all ways give the same answer.

    Args:
        packed: Codes (n, ceil(bits / 8)), uint8, as `pack` makes them.
        bits: Of a code.

    Raises:
        InputError: No codes, or others than these.
    """

    def __init__(self, packed: np.ndarray, bits: int):
        self.packed = np.ascontiguousarray(checked_packed(packed, bits))
        self.bits = bits
        if not len(self):
            raise InputError("Expected at least one code to build an index of. Received: none.")
        self._words = to_words(self.packed)
        widest = min(WIDEST, max(NARROWEST, round(math.log2(len(self)))))
        parts = -(-bits // widest)
        edges = [round(i * bits / parts) for i in range(parts + 1)]
        unpacked = unpack(self.packed, bits)
        self._tables = [_Table(unpacked[:, a:b], bits - b) for a, b in itertools.pairwise(edges)]

    def __len__(self) -> int:
        return len(self.packed)

    # --- queries -------------------------------------------------------------------------------

    def within(self, code: np.ndarray, radius: int) -> tuple[np.ndarray, np.ndarray]:
        """All codes at most `radius` bits from a packed one (bytes,).

        Returns:
            Their indices and their distances, nearest first, of equally near ones the lower index.
        """
        if radius < 0:
            raise InputError(f"Expected a radius of 0 or more. Received: {radius}.")
        code = self._checked_query(code)
        found, _ = self._probed(code, radius, len(self))
        return self._ranked(code, radius, found)

    def nearest(self, code: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The `k` codes nearest to a packed one (bytes,): as `within`, the first k of all.

        Raises:
            InputError: k is not within 1 to the number of codes.
        """
        if not 1 <= k <= len(self):
            raise InputError(f"Expected k within 1 to the {len(self)} codes. Received: {k}.")
        code = self._checked_query(code)
        budget: float = len(self)
        for radius in range(self.bits):
            found, cost = self._probed(code, radius, budget)
            if found is None:
                break
            indices, away = self._ranked(code, radius, found)
            if len(indices) >= k:
                return indices[:k], away[:k]
            budget -= cost
        away = distances(self._words, to_words(code)[0])
        # the radius that k are within: counting is faster than sorting
        radius = int(np.searchsorted(np.cumsum(np.bincount(away, minlength=self.bits + 1)), k))
        indices, away = self._ranked(code, radius, None, away)
        return indices[:k], away[:k]

    def _checked_query(self, code: np.ndarray) -> np.ndarray:
        return checked_packed(np.asarray(code)[None], self.bits)

    def _ranked(self, code, radius: int, among: np.ndarray | None, away: np.ndarray | None = None):
        """Those within `radius` (of the ascending indices `among`) and how far, sorted."""
        if away is None:
            words = self._words if among is None else self._words[among]
            away = distances(words, to_words(code)[0])
        near = np.flatnonzero(away <= radius)
        away = away[near]
        order = np.argsort(away, kind="stable")
        indices = near if among is None else among[near]
        return indices[order], away[order].astype("int64")

    def _probed(self, code: np.ndarray, radius: int, budget: float) -> tuple[np.ndarray | None, float]:
        """Indices, ascending, among which are all within `radius`, and what it cost to find them.

        None if that is more than the budget, in codes of a scan.
        """
        parts = len(self._tables)
        # of r = each * parts + left flips some part has at most `each` among the first left + 1, or
        # each - 1 among the others (proposition 2 of the paper)
        each, left = divmod(radius, parts)
        radii = [each if i <= left else each - 1 for i in range(parts)]
        buckets = sum(t.buckets_within(r) for t, r in zip(self._tables, radii, strict=True))
        cost = LOOKUP * parts + BUCKET * buckets
        if cost > budget:
            return None, cost
        number = int.from_bytes(code.tobytes(), "big") >> -self.bits % 8
        probes = [t.probe(number, r) for t, r in zip(self._tables, radii, strict=True)]
        cost += BUCKET * sum(int(sizes.sum()) for _, sizes in probes)
        if cost > budget:
            return None, cost
        found = [t.gathered(*probe) for t, probe in zip(self._tables, probes, strict=True)]
        return (np.sort(found[0]) if parts == 1 else np.unique(np.concatenate(found))), cost

    # --- files ---------------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Write the codes, from which the tables are built anew in no time."""
        buffer = io.BytesIO()
        np.savez(buffer, packed=self.packed, bits=np.int64(self.bits))
        write_atomically(Path(path), buffer.getvalue())

    @classmethod
    def load(cls, path: str | Path) -> "HashIndex":
        """What `save` wrote.

        Raises:
            InputError: It cannot be read.
        """
        try:
            with np.load(path, allow_pickle=False) as content:
                return cls(content["packed"], int(content["bits"]))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(
                f"Expected an index that HashIndex.save wrote. Received: {path} ({type(error).__name__}). "
                "Build it anew."
            ) from None


class _Table:
    """Buckets of equal keys: `order[starts[key] : starts[key + 1]]` are the indices of `key`.

    Args:
        bits: The part of every code that is the key, (n, width).
        behind: Bits of a code that come after its key.
    """

    def __init__(self, bits: np.ndarray, behind: int):
        self.width, self.behind = bits.shape[1], behind
        keys = bits @ (1 << np.arange(self.width)[::-1]).astype("int32")
        self.order = np.argsort(keys, kind="stable").astype("int32")
        counts = np.bincount(keys, minlength=2**self.width)
        self.starts = np.concatenate([[0], np.cumsum(counts)]).astype("int32")
        self._masks: dict[int, np.ndarray] = {}

    def buckets_within(self, radius: int) -> int:
        return sum(math.comb(self.width, r) for r in range(min(radius, self.width) + 1))

    def probe(self, code: int, radius: int) -> tuple[np.ndarray, np.ndarray]:
        """Where the buckets within `radius` of a code's key start, and how many they hold."""
        keys = self._flips(radius) ^ (code >> self.behind & (1 << self.width) - 1)
        starts = self.starts[keys]
        return starts, self.starts[keys + 1] - starts

    def gathered(self, starts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """The indices in buckets that `probe` found."""
        offsets = np.cumsum(sizes) - sizes
        return self.order[np.repeat(starts - offsets, sizes) + np.arange(sizes.sum())]

    def _flips(self, radius: int) -> np.ndarray:
        """All keys of at most `radius` ones."""
        if radius not in self._masks:
            ones = 1 << np.arange(self.width)
            masks = [
                sum((ones[i] for i in chosen), 0)
                for r in range(min(radius, self.width) + 1)
                for chosen in itertools.combinations(range(self.width), r)
            ]
            self._masks[radius] = np.array(masks, "int64")
        return self._masks[radius]
