"""A reader's own repeats: against exact Jaccard similarities, and never across readers."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from presspool.client.data.care import own_repeats
from presspool.client.data.care.own_repeats import NEAR, SHINGLE, OwnRepeats, similarity, sketch
from presspool.client.identity.care_table import Duplicates

WORDS = [
    "the",
    "council",
    "voted",
    "on",
    "gold",
    "prices",
    "after",
    "a",
    "late",
    "goal",
    "in",
    "the",
    "cup",
    "final",
    "of",
    "the",
    "year",
]
Records = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from(["x y z", "x y  Z", "longer text", "金牌"])),
    max_size=12,
)


def shingles(text: str) -> set[str]:
    even = " ".join(text.casefold().split())
    return {even[i : i + SHINGLE] for i in range(max(1, len(even) - SHINGLE + 1))}


def jaccard(one: str, other: str) -> float:
    a, b = shingles(one), shingles(other)
    return len(a & b) / len(a | b)


def made(rng: random.Random, words: int) -> str:
    return " ".join(rng.choice(WORDS) + str(rng.randrange(40)) for _ in range(words))


def test_sketches_estimate_the_exact_similarity() -> None:
    rng, off = random.Random(7), []
    for _ in range(200):
        text = made(rng, 40).split()
        other = [word if rng.random() > 0.15 else made(rng, 1) for word in text]
        one, two = " ".join(text), " ".join(other)
        off.append(similarity(sketch(one), sketch(two)) - jaccard(one, two))
    assert max(map(abs, off)) < 0.25  # four standard errors of 1/16
    assert abs(sum(off)) / len(off) < 0.02


@given(st.text(max_size=30), st.text(max_size=30))
def test_short_texts_are_compared_exactly(one: str, other: str) -> None:
    assert similarity(sketch(one), sketch(other)) == jaccard(one, other)


@settings(max_examples=200)
@given(Records, st.sampled_from(["exact", "near"]))
def test_a_reader_s_records_are_judged_as_if_nobody_else_were_there(
    records: list[tuple[str, str]], how: Duplicates
) -> None:
    together = OwnRepeats(how)
    found = [together.repeats(reader, text) for reader, text in records]
    for mine in "abc":
        alone = OwnRepeats(how)
        assert [alone.repeats(r, t) for r, t in records if r == mine] == [
            hit for hit, (r, _) in zip(found, records, strict=True) if r == mine
        ]


def test_near_takes_what_exact_leaves() -> None:
    one, other = (
        "Council votes on the new stadium tonight",
        "Council  votes on the NEW stadium tonight!",
    )
    assert jaccard(one, other) >= NEAR
    for how, expected in (("exact", False), ("near", True)):
        own = OwnRepeats(how)  # type: ignore[arg-type]
        assert [own.repeats("ann", one), own.repeats("ann", other)] == [False, expected]


def test_another_label_is_another_record() -> None:
    own = OwnRepeats("near")
    assert not own.repeats("ann", "Gold", "sport")
    assert not own.repeats("ann", "Gold", "money")
    assert own.repeats("ann", "Gold", "money")


def test_a_reader_s_work_is_bounded() -> None:
    own, rng = OwnRepeats("near"), random.Random(1)
    for _ in range(own_repeats.MOST_KEPT + 20):
        own.repeats("ann", made(rng, 12))
    assert len(own._sketches["ann", ""]) == own_repeats.MOST_KEPT
    assert len(sketch("a b c " * 500_000)) <= own_repeats.SKETCH
