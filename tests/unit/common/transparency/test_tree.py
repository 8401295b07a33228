"""The growing tree: its proofs hold under its roots, at every size that it ever had."""

from __future__ import annotations

import pytest

from presspool.common.base.errors import EvidenceError
from presspool.common.transparency import merkle
from presspool.common.transparency.consortium_entries import LONGEST_ENTRY, parse_entry
from presspool.common.transparency.tree import Tree

LEAVES = [merkle.leaf_hash(bytes([number])) for number in range(13)]


def test_every_leaf_is_proven_under_every_root_that_holds_it() -> None:
    tree = Tree(LEAVES)
    for size in range(1, len(tree) + 1):
        for index in range(size):
            proof = tree.prove_inclusion(index, size)
            root = tree.root(size)
            merkle.verify_inclusion(proof, index=index, size=size, leaf=tree.leaf(index), root=root)
            with pytest.raises(EvidenceError):
                merkle.verify_inclusion(proof, index=index, size=size, leaf=bytes(32), root=root)


def test_every_size_begins_with_every_earlier_one() -> None:
    tree, grown = Tree(LEAVES), Tree()
    for size, leaf in enumerate(LEAVES, start=1):
        grown.extend([leaf])
        assert grown.root() == tree.root(size)
        for old in range(1, size + 1):
            merkle.verify_consistency(
                tree.prove_consistency(old, size),
                old=old,
                new=size,
                old_root=tree.root(old),
                new_root=tree.root(size),
            )


def test_a_leaf_that_is_not_there_is_an_error() -> None:
    with pytest.raises(KeyError):
        Tree(LEAVES).leaf(len(LEAVES))


def test_an_entry_beyond_the_cap_is_not_even_parsed() -> None:
    with pytest.raises(EvidenceError, match="not an entry"):
        parse_entry(b" " * (LONGEST_ENTRY + 1))


def test_what_was_added_can_be_taken_back() -> None:
    leaves = [merkle.leaf_hash(bytes([number])) for number in range(37)]
    for kept in range(len(leaves)):
        tree, fresh = Tree(leaves), Tree(leaves[:kept])
        tree.shrink(kept)
        assert (len(tree), tree.root()) == (kept, fresh.root())
        tree.extend(leaves[kept:])
        assert tree.root() == Tree(leaves).root()
