"""A whole Merkle tree in memory: for logs of which somebody else keeps the entries.

The outlet's own ledger keeps its tree in its database. The coordinator holds the trees of the
consortium log and of its members' ledgers, and an outlet that of the consortium log, so that
proofs between any two sizes can be made.

Example:
    >>> tree = Tree(map(merkle.leaf_hash, [b"cohort", b"round 1"]))
    >>> len(tree), tree.root() == tree.root(2), len(tree.prove_consistency(1, 2))
    (2, True, 1)
"""

from __future__ import annotations

from collections.abc import Iterable

from presspool.common.transparency import merkle


class Tree:
    """A growing tree; belongs to whoever holds its lock.

    Args:
        leaves: leaf hashes to begin with.
    """

    def __init__(self, leaves: Iterable[bytes] = ()) -> None:
        self._nodes: dict[tuple[int, int], bytes] = {}
        self._size = 0
        self.extend(leaves)

    def __len__(self) -> int:
        return self._size

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Add leaf hashes."""
        for leaf in leaves:
            self._nodes.update(merkle.new_nodes(self._size, leaf, self._read))
            self._size += 1

    def shrink(self, size: int) -> None:
        """Take back all but the first `size` leaves."""
        for index in range(size, self._size):
            level, end = 0, index + 1
            del self._nodes[level, index]
            while end % 2 == 0:  # a subtree that this leaf made whole
                level, end = level + 1, end // 2
                del self._nodes[level, end - 1]
        self._size = size

    def leaf(self, index: int) -> bytes:
        """The hash of an entry; raises `KeyError` where there is none."""
        return self._nodes[0, index]

    def root(self, size: int | None = None) -> bytes:
        """The root of the first `size` leaves, or of all."""
        return merkle.root(self._size if size is None else size, self._read)

    def prove_inclusion(self, index: int, size: int) -> tuple[bytes, ...]:
        """RFC 6962 proof that leaf `index` is among the first `size`."""
        return merkle.inclusion_proof(index, size, self._read)

    def prove_consistency(self, old: int, new: int) -> tuple[bytes, ...]:
        """RFC 6962 proof that the first `new` leaves begin with the first `old`."""
        return merkle.consistency_proof(old, new, self._read)

    def _read(self, level: int, position: int) -> bytes:
        return self._nodes[level, position]
