"""Names that decide, and groups that are served worse: found, and found for that reason."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes.registry.judged_cases import case_of, news, sentences, texts_table

import presspool
from presspool.common.base.errors import InputError
from presspool.server.gate.checks import fairness
from presspool.server.gate.checks.name_swaps import OUR_SWAPS, Swap, own_swaps
from presspool.server.gate.finding import Finding

PLAIN = {"public": {"file": "rows.csv"}, "fairness": {"swaps": "swaps.csv"}}


@pytest.fixture
def swaps(tmp_path: Path) -> Path:
    file = tmp_path / "swaps.csv"
    file.write_text("Ada, Bob\n\nCy,Dee\n")
    return file


def names_of(folder: Path, adapter: Path, rows: pa.Table) -> Finding:
    found, _ = fairness.findings(case_of(folder, adapter, PLAIN, rows))
    return found


def test_a_name_that_decides_is_refused_and_named(
    biased: Path, swaps: Path, tmp_path: Path
) -> None:
    """Also what catches a swap that swaps nothing: no answer could change by it."""
    found = names_of(tmp_path, biased, news(90))
    assert found.verdict == "failed"
    assert "between Ada and Bob" in found.said
    ada, cy = found.rows
    assert (ada["one"], ada["other"], cy["one"]) == ("Ada", "Bob", "Cy")
    assert float(ada["flips"] or 0) > 0.4
    assert "names of both kinds" in found.advice


def test_a_clean_adapter_passes(clean: Path, swaps: Path, tmp_path: Path) -> None:
    found = names_of(tmp_path, clean, news(90))
    assert found.verdict == "passed"
    assert found.figures["pairs"] == 2
    assert all(row["texts"] == 90 for row in found.rows)


def test_flips_are_those_that_answers_typed_by_hand_have(
    biased: Path, swaps: Path, tmp_path: Path
) -> None:
    texts = ["goal bank treaty", "Bob : shares profit bank", "vote Ada talks Bob"]
    by_hand = [
        ("Ada: goal bank treaty", "Bob: goal bank treaty"),
        ("Bob : shares profit bank", "Ada : shares profit bank"),
        ("vote Ada talks Bob", "vote Bob talks Ada"),
    ]
    model = presspool.load(biased)
    answers = [[said.answer for said in model.predict(pair)] for pair in by_hand]
    found = names_of(tmp_path, biased, texts_table(*texts))
    assert found.rows[0]["flips"] == sum(one != other for one, other in answers) / 3


def test_a_swap_that_swaps_nothing_shows_nothing(
    clean: Path, swaps: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Swap, "sides", lambda _, text: (text, text))
    found = names_of(tmp_path, clean, news(30))
    assert (found.verdict, "script" in found.advice) == ("failed", True)


def test_names_that_fit_no_text_do_not_pass_and_none_are_swapped_where_the_policy_says_so(
    clean: Path, tmp_path: Path
) -> None:
    (tmp_path / "swaps.csv").write_text("王芳,王伟\n", encoding="utf-8")
    found = names_of(tmp_path, clean, news(30))
    assert (found.verdict, found.figures) == ("failed", {})
    assert "no public text is written as these names are" in found.said
    asked = {"public": {"file": "rows.csv"}, "fairness": {"swaps": False}}
    names, _ = fairness.findings(case_of(tmp_path, clean, asked, news(3)))
    assert (names.verdict, names.said) == (
        "not_applicable",
        "no names were swapped: the policy says so",
    )


names = st.sampled_from([swap for swap in OUR_SWAPS if not swap.han])


@given(swap=names, before=st.text("ab ,.", max_size=9), after=st.text("cd ,.", max_size=9))
def test_a_swap_is_undone_by_itself(swap: Swap, before: str, after: str) -> None:
    text = f"{before} {swap.one} {after} {swap.other}"
    one, other = swap.sides(text)
    assert one == text != other
    assert swap.sides(other)[1] == text


@pytest.mark.parametrize(
    ("swap", "text", "other"),
    [
        (("London", "Lagos"), "London votes", "Lagos votes"),
        (("London", "Lagos"), "Londoners vote", "Lagos: Londoners vote"),
        (("上海", "喀什"), "上海的新闻", "喀什的新闻"),
        (("上海", "喀什"), "新闻", "喀什：新闻"),
        (("A. B", "C"), "A. B said", "C said"),
    ],
)
def test_a_name_is_swapped_as_a_word_of_its_own(
    swap: tuple[str, str], text: str, other: str
) -> None:
    assert Swap(kind="k", one=swap[0], other=swap[1]).sides(text)[1] == other


def test_our_own_names_belong_into_texts_of_their_script(clean: Path, tmp_path: Path) -> None:
    policy = {"public": {"file": "rows.csv"}, "fairness": {}}
    rows = texts_table("goal in final", "北京的新闻")
    kinds = {
        found.what: found for found in fairness.findings(case_of(tmp_path, clean, policy, rows))
    }
    assert set(kinds) == {"women and men", "origins", "places", "groups"}
    assert {row["texts"] for row in kinds["places"].rows} == {1}
    assert len({(swap.one, swap.other) for swap in OUR_SWAPS}) == len(OUR_SWAPS)


@pytest.mark.parametrize("line", ["Adam", "Ada,Ada", "Ada,Bob,Cy", ",Bob", "Ada,\u200b", "Ada,B"])
def test_a_line_that_is_no_pair_is_refused_by_its_number(tmp_path: Path, line: str) -> None:
    (tmp_path / "s.csv").write_text(f"Ada,Bob\n\n{line}\n", encoding="utf-8")
    with pytest.raises(InputError, match="line 3") as refused:
        own_swaps(tmp_path / "s.csv")
    assert line not in str(refused.value)


# --- Groups ---------------------------------------------------------------------------------------


def grouped(rows: pa.Table, groups: list[str]) -> pa.Table:
    return rows.append_column("desk", pa.array(groups, pa.large_string()))


def groups_of(folder: Path, adapter: Path, rows: pa.Table, **asked: object) -> Finding:
    policy = {
        "public": {"file": "rows.csv", "groups": ["desk"]},
        "fairness": {"swaps": "swaps.csv", **asked},
    }
    *_, found = fairness.findings(case_of(folder, adapter, policy, rows))
    assert found.what == "groups of desk"
    return found


def test_a_group_that_is_served_worse_is_refused(
    biased: Path, clean: Path, swaps: Path, tmp_path: Path
) -> None:
    """What Ada says goes wrong; the figures are those of a count of answers."""
    rows = news(120)
    texts = rows["text"].to_pylist()
    desks = ["ada" if text.startswith("Ada") else "others" for text in texts]
    found = groups_of(tmp_path, biased, grouped(rows, desks), smallest_group=5)
    assert found.verdict == "failed"
    assert "Accuracy differs" in found.said
    model = presspool.load(biased)
    labels = model.task.options
    truth = [labels[i] for i in rows["label"].to_pylist()]
    right = [s.answer == t for s, t in zip(model.predict(texts), truth, strict=True)]
    by_hand = {
        desk: [r for r, d in zip(right, desks, strict=True) if d == desk] for desk in set(desks)
    }
    shares = {desk: sum(own) / len(own) for desk, own in by_hand.items()}
    assert {row["group"]: row["accuracy"] for row in found.rows} == pytest.approx(shares)
    assert found.figures["gap"] == pytest.approx(shares["others"] - shares["ada"])
    assert groups_of(tmp_path, clean, grouped(rows, desks), smallest_group=5).verdict == "passed"


def test_a_small_group_is_named_and_not_judged(clean: Path, swaps: Path, tmp_path: Path) -> None:
    desks = ["a"] * 30 + ["b"] * 30 + ["c"] * 3
    found = groups_of(tmp_path, clean, grouped(news(63), desks))
    assert found.verdict == "passed"
    assert found.rows[2] == {"group": "c", "rows": 3, "accuracy": None}
    assert "1 smaller ones are not judged" in found.said


def test_one_group_shows_nothing_and_does_not_pass(
    clean: Path, swaps: Path, tmp_path: Path
) -> None:
    found = groups_of(tmp_path, clean, grouped(news(33), ["a"] * 30 + ["c"] * 3))
    assert found.verdict == "failed"
    assert "1 of 2 groups" in found.said


def test_a_perplexity_s_gap_is_a_share_of_the_largest(
    writer: Path, swaps: Path, tmp_path: Path
) -> None:
    rows = texts_table(*sentences(12))
    found = groups_of(tmp_path, writer, grouped(rows, ["a", "b"] * 6), smallest_group=6)
    one, other = (float(row["perplexity"] or 0) for row in found.rows)
    assert found.figures["gap"] == pytest.approx(1 - min(one, other) / max(one, other))


def test_without_rows_or_labels_nothing_passes(clean: Path, writer: Path, tmp_path: Path) -> None:
    (found,) = fairness.findings(case_of(tmp_path, clean, {"fairness": {}}, None))
    assert found.verdict == "failed"
    rows = texts_table(*sentences(3))
    found, *_ = fairness.findings(case_of(tmp_path, writer, {"fairness": {}}, rows))
    assert (found.verdict, "swaps = false" in found.advice) == ("failed", True)
    assert found.said == "not judged: answers of the task 'generation' are no labels"
    assert not [*fairness.findings(case_of(tmp_path, clean, {}, None))]
