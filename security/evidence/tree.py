"""Merkle tree hashes and proofs, RFC 6962 section 2.1 and RFC 9162 section 2.1: pure functions, no storage.

::

    MTH({})       = SHA-256()
    MTH({d})      = SHA-256(0x00 ‖ d)
    MTH(D[0:n])   = SHA-256(0x01 ‖ MTH(D[0:k]) ‖ MTH(D[k:n]))    k: the largest power of two below n

The two prefixes keep a leaf from passing for a node (second preimage). Writers of proofs ask a :data:`ReadNode` for the
root of a complete subtree: ``read(level, index)`` covers the leaves ``index << level`` up to ``(index + 1) << level``.
Verifiers take nothing on trust: index beyond size, hashes that are not 32 bytes, too few or too many hashes, and a
proof from the empty tree (which would prove nothing) are all False.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence

ReadNode = Callable[[int, int], bytes]

HASH_LENGTH = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()


def leaf_hash(entry: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


class Frontier:
    """The roots of the complete subtrees along the right edge: all that is needed to append and to know the root.

    One hash per bit of the size, so 20 for a million leaves. Not safe under threads; :meth:`copy` is cheap.
    """

    __slots__ = ("_hashes", "size")

    def __init__(self, size: int = 0, hashes: Iterable[bytes] = ()) -> None:
        """``hashes`` are the subtree roots from left (largest) to right, as :func:`frontier_nodes` names them."""
        self.size = size
        self._hashes = list(hashes)
        if len(self._hashes) != size.bit_count():
            raise ValueError("a frontier has one hash per bit of its size")

    def copy(self) -> Frontier:
        return Frontier(self.size, self._hashes)

    def append(self, leaf: bytes) -> None:
        """Add a leaf hash: as many joins as the size has trailing one bits, one on average."""
        size = self.size
        while size & 1:
            leaf = node_hash(self._hashes.pop(), leaf)
            size >>= 1
        self._hashes.append(leaf)
        self.size += 1

    def root(self) -> bytes:
        if not self._hashes:
            return EMPTY_ROOT
        root = self._hashes[-1]
        for left in reversed(self._hashes[:-1]):
            root = node_hash(left, root)
        return root


def frontier_nodes(size: int) -> list[tuple[int, int]]:
    """(level, index) of the complete subtrees that make up a tree of this size, left to right."""
    nodes, start = [], 0
    for level in range(size.bit_length() - 1, -1, -1):
        if size >> level & 1:
            nodes.append((level, start >> level))
            start += 1 << level
    return nodes


def root_of(leaves: Sequence[bytes]) -> bytes:
    """The root over leaf hashes held in memory."""
    frontier = Frontier()
    for leaf in leaves:
        frontier.append(leaf)
    return frontier.root()


def subtree_of_power(leaves: Sequence[bytes]) -> bytes:
    """The root over 2^k hashes, level by level."""
    hashes = list(leaves)
    while len(hashes) > 1:
        hashes = [node_hash(hashes[i], hashes[i + 1]) for i in range(0, len(hashes), 2)]
    return hashes[0]


# --- proofs, written -------------------------------------------------------------------------------------------------


def range_root(start: int, end: int, read: ReadNode) -> bytes:
    """MTH(D[start:end]), where ``start`` is a multiple of the smallest power of two that is not below the length."""
    length = end - start
    if length & (length - 1) == 0:
        level = length.bit_length() - 1
        return read(level, start >> level)
    middle = start + _split(length)
    return node_hash(range_root(start, middle, read), range_root(middle, end, read))


def inclusion_proof(index: int, size: int, read: ReadNode) -> list[bytes]:
    """The audit path of leaf ``index`` in the tree of ``size`` (RFC 6962, 2.1.1), from the leaf upwards.

    Raises ValueError when there is no such leaf.
    """
    if not 0 <= index < size:
        raise ValueError("no such leaf in a tree of this size")
    path: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(range_root(middle, end, read))
            end = middle
        else:
            path.append(range_root(start, middle, read))
            start = middle
    path.reverse()
    return path


def consistency_proof(old: int, new: int, read: ReadNode) -> list[bytes]:
    """That the tree of size ``old`` is the beginning of the tree of size ``new`` (RFC 6962, 2.1.2).

    Raises ValueError unless 0 < old <= new.
    """
    if not 0 < old <= new:
        raise ValueError("a consistency proof leads from a tree that is not empty to one not smaller")
    path: list[bytes] = []
    start, end, known = 0, new, True
    while old != end:
        middle = start + _split(end - start)
        if old <= middle:
            path.append(range_root(middle, end, read))
            end = middle
        else:
            path.append(range_root(start, middle, read))
            start, known = middle, False
    if not known:
        path.append(range_root(start, end, read))
    path.reverse()
    return path


# --- proofs, verified ------------------------------------------------------------------------------------------------


def inclusion_holds(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """RFC 9162, 2.1.3.2. Never raises; False for anything out of order."""
    if not 0 <= index < size or not _all_hashes((leaf, root, *proof)):
        return False
    node, last, current = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return False
        if node & 1 or node == last:
            current = node_hash(sibling, current)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            current = node_hash(current, sibling)
        node, last = node >> 1, last >> 1
    return last == 0 and current == root


def consistency_holds(old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """RFC 9162, 2.1.4.2. Never raises; False from the empty tree, since that would prove nothing."""
    if not 0 < old <= new or not _all_hashes((old_root, new_root, *proof)):
        return False
    if old == new:
        return not proof and old_root == new_root
    path = list(proof)
    if old & (old - 1) == 0:
        path.insert(0, old_root)
    if not path:
        return False
    node, last = old - 1, new - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    from_old = from_new = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if node & 1 or node == last:
            from_old, from_new = node_hash(sibling, from_old), node_hash(sibling, from_new)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            from_new = node_hash(from_new, sibling)
        node, last = node >> 1, last >> 1
    return last == 0 and from_old == old_root and from_new == new_root


def _split(length: int) -> int:
    """The largest power of two below ``length`` (which is at least 2)."""
    return 1 << (length - 1).bit_length() - 1


def _all_hashes(hashes: Iterable[bytes]) -> bool:
    return all(len(value) == HASH_LENGTH for value in hashes)
