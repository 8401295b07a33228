"""Admission: one test for every way an update can be wrong, and what Flower would have done."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.common.constant import ErrorCode
from flwr.serverapp.strategy import FedAvg
from hypothesis import given
from hypothesis import strategies as st
from tests.fakes.made_runs import CONTRACT, STATE, made_update, reply

from presspool.common.base.errors import AdmissionError, QuorumError
from presspool.common.models.adapters import digest
from presspool.common.wire.flower import become_server, stamp
from presspool.common.wire.run_grid import LEFT_OUT
from presspool.common.wire.update import ENCODINGS, FAILURES, AdapterUpdate, pack_update
from presspool.server.rounds.admission import UPDATE_REFUSALS, Expected, admit, check

ONES = {name: np.ones_like(array) for name, array in STATE.items()}


def expected(**changes: Any) -> Expected:
    """Round 1 of two outlets."""
    fields: dict[str, Any] = {
        "outlets": frozenset({"north", "south"}),
        "cohort": frozenset({"north", "south"}),
        "round": 1,
        "contract": CONTRACT,
        "base": digest(STATE),
        "shapes": {name: a.shape for name, a in STATE.items()},
        "norm_cap": 10.0,
        "quorum": 1,
    }
    return Expected(**fields | changes)


def refusal(said: AdapterUpdate | RecordDict | Error, **changes: Any) -> AdmissionError:
    """Why a reply is refused."""
    with pytest.raises(AdmissionError) as caught:
        check(reply(said), expected(**changes), frozenset())
    return caught.value


def with_array(name: str, array: Array) -> RecordDict:
    """A good update, but for one array as it travels."""
    content = pack_update(made_update("north"))
    content.array_records["adapter"][name] = array
    return content


def with_field(name: str, value: Any) -> RecordDict:
    """A good update, but for one field as it travels."""
    content = pack_update(made_update("north"))
    content.config_records["update"][name] = value
    return content


def without(record: str) -> RecordDict:
    """A good update that lacks one record."""
    content = pack_update(made_update("north"))
    del content[record]
    return content


def test_a_good_update_is_admitted_as_it_was_sent() -> None:
    outlet, update = check(reply(made_update("north")), expected(), frozenset())
    assert outlet == update.outlet == "north"
    assert all(np.array_equal(update.delta[name], ONES[name]) for name in ONES)
    assert all(array.dtype == np.float32 for array in update.delta.values())


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("unknown-outlet", {"outlet": "east"}),
        ("unknown-outlet", {"outlet": ""}),
        ("unknown-outlet", {"outlet": "NORTH"}),
        ("wrong-contract", {"contract": "sha256:" + "d" * 64}),
        ("wrong-contract", {"contract": CONTRACT.upper()}),
        ("wrong-round", {"round": 0}),
        ("wrong-round", {"round": 2}),
        ("wrong-base", {"base": digest(ONES)}),
        ("wrong-names", {"delta": {"a": ONES["a"]}}),
        ("wrong-names", {"delta": {**ONES, "c": np.ones(1, np.float32)}}),
        ("wrong-names", {"delta": {"a": ONES["a"], "B": ONES["b"]}}),
        ("wrong-names", {"delta": {}}),
    ],
)
def test_what_does_not_belong_to_the_round_is_refused(code: str, changes: dict[str, Any]) -> None:
    assert refusal(made_update(**{"outlet": "north"} | changes)).code == code


# numpy would broadcast every one of these but the last two, which have as many elements.
@pytest.mark.parametrize("shape", [(), (1,), (1, 1), (2, 1), (3,), (1, 3), (1, 2, 3), (3, 2), (6,)])
def test_a_wrong_shape_is_refused_even_if_numpy_would_broadcast_it(shape: tuple[int, ...]) -> None:
    delta = {**ONES, "a": np.ones(shape, np.float32)}
    assert refusal(made_update("north", delta=delta)).code == "wrong-shape"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["a", "b"])
def test_one_value_that_is_not_finite_is_enough(value: float, name: str) -> None:
    delta = {key: array.copy() for key, array in ONES.items()}
    delta[name].flat[-1] = value
    assert refusal(made_update("north", delta=delta)).code == "not-finite"


def test_the_norm_is_held_over_all_arrays_together() -> None:
    update = made_update("north")  # ten ones: norm √10
    assert check(reply(update), expected(norm_cap=3.1623), frozenset())[0] == "north"
    assert refusal(update, norm_cap=3.1622).code == "norm-above-cap"


def test_a_norm_beyond_float32_is_refused_and_not_lost_in_an_overflow() -> None:
    largest = {name: np.full_like(a, np.finfo(np.float32).max) for name, a in STATE.items()}
    assert refusal(made_update("north", delta=largest), norm_cap=1e39).code == "norm-above-cap"


FLOAT32 = np.ones((2, 3), "<f4").tobytes()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(
            with_array(
                "a", Array("float64", (2, 3), ENCODINGS["float32"], np.ones((2, 3)).tobytes())
            ),
            id="wrong dtype",
        ),
        pytest.param(
            with_array("a", Array("int32", (2, 3), ENCODINGS["float32"], FLOAT32)), id="integers"
        ),
        pytest.param(with_array("a", Array(np.ones((2, 3), np.float32))), id="numpy's own file"),
        pytest.param(
            with_array("a", Array("float32", (2, 3), ENCODINGS["float32"], b"")), id="no data"
        ),
        pytest.param(
            with_array("a", Array("float32", (2, 3), ENCODINGS["float32"], FLOAT32[:-1])),
            id="cut off",
        ),
        pytest.param(
            with_array("a", Array("float32", (2, 3), ENCODINGS["float32"], FLOAT32 * 2)),
            id="too much data",
        ),
        pytest.param(
            with_array("a", Array("float32", (-2, -3), ENCODINGS["float32"], FLOAT32)),
            id="negative shape",
        ),
        pytest.param(
            with_array("a", Array("float32", (2**80, 0), ENCODINGS["float32"], b"")),
            id="enormous shape",
        ),
        pytest.param(
            with_array("a", Array("float32", (1,) * 80, ENCODINGS["float32"], b"\0" * 4)),
            id="80 dimensions",
        ),
        pytest.param(
            with_array("a", Array("float32", (True, 6), ENCODINGS["float32"], FLOAT32)),
            id="a boolean shape",
        ),
        pytest.param(with_field("round", 1.0), id="a round that is no integer"),
        pytest.param(with_field("round", "1"), id="a round that is text"),
        pytest.param(with_field("outlet", b"north"), id="an outlet that is bytes"),
        pytest.param(with_field("outlet", ["north"]), id="an outlet that is a list"),
        pytest.param(with_field("readers", 17), id="a field too many"),
        pytest.param(without("adapter"), id="no arrays"),
        pytest.param(without("update"), id="no fields"),
        pytest.param(RecordDict(), id="nothing"),
        pytest.param(
            RecordDict({**pack_update(made_update("north")), "more": ArrayRecord()}),
            id="two array records",
        ),
        pytest.param(
            RecordDict({**pack_update(made_update("north")), "loss": MetricRecord({"x": 0.1})}),
            id="a metric, which nobody charged",
        ),
    ],
)
def test_what_is_not_an_update_is_malformed(content: RecordDict) -> None:
    found = refusal(content)
    assert (found.code, found.where) == ("malformed", "node 2")


@given(
    shape=st.lists(st.integers(-(2**70), 2**70) | st.booleans(), max_size=4),
    data=st.binary(max_size=32),
    dtype=st.sampled_from(["float32", "float64", "object", ""]),
)
def test_no_array_a_node_can_send_does_more_than_be_refused(
    shape: list[int], data: bytes, dtype: str
) -> None:
    content = with_array("a", Array(dtype, tuple(shape), ENCODINGS["float32"], data))
    admitted = admit([reply(content), reply(made_update("south"), node=3)], expected())
    if list(admitted.updates) != ["south"]:  # the six numbers happened to be good
        assert shape == [2, 3]


@pytest.mark.parametrize(("number", "word"), FAILURES.items())
def test_an_outlets_failure_is_refused_with_its_own_word(number: int, word: str) -> None:
    found = refusal(Error(code=number, reason=word))
    assert (found.code, found.where) == (word, "node 2")


@pytest.mark.parametrize(
    "error",
    [
        Error(code=ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason="ValueError: r17 said 'vote'"),
        Error(code=ErrorCode.LOAD_CLIENT_APP_EXCEPTION, reason="no such module"),
        Error(code=ErrorCode.NODE_UNAVAILABLE),
        Error(code=-1, reason="internal-error"),
        Error(code=77, reason="internal-error"),
    ],
)
def test_flowers_own_error_numbers_are_not_taken_for_an_outlets_words(error: Error) -> None:
    assert error.code in (1, 2, 5, -1, 77)  # 1 to 5 mean something else in FAILURES
    found = refusal(error)
    assert found.code == "failed"
    assert "r17" not in str(found)


def test_the_second_update_of_an_outlet_is_refused_and_the_first_counts() -> None:
    second = made_update("north", delta={name: 2 * array for name, array in ONES.items()})
    admitted = admit([reply(made_update("north")), reply(second, node=3)], expected())
    assert admitted.refused == {"north": "duplicate"}
    assert np.array_equal(admitted.updates["north"].delta["a"], ONES["a"])


def test_a_refused_update_does_not_block_a_good_one_of_the_same_outlet() -> None:
    bad = made_update("north", round=7)
    admitted = admit([reply(bad), reply(made_update("north"), node=3)], expected())
    assert list(admitted.updates) == ["north"]
    assert admitted.refused == {"north": "wrong-round"}


def test_a_round_with_its_quorum_goes_on_and_records_who_was_refused() -> None:
    spoilt = made_update("south", delta={**ONES, "a": np.full((2, 3), np.nan, np.float32)})
    admitted = admit([reply(spoilt, node=3), reply(made_update("north"))], expected())
    assert list(admitted.updates) == ["north"]
    assert admitted.refused == {"south": "not-finite"}


def test_who_answers_in_the_name_of_another_is_refused_and_the_other_s_own_answer_counts() -> None:
    nodes = {2: "north", 3: "south"}
    forged = made_update("south", delta={name: 9 * array for name, array in ONES.items()})
    replies = [reply(forged, node=2), reply(made_update("south"), node=3)]
    admitted = admit(replies, expected(nodes=nodes, norm_cap=100.0))
    assert admitted.refused == {"north": "wrong-outlet"}
    assert np.array_equal(admitted.updates["south"].delta["a"], ONES["a"])


def test_an_outlet_of_another_cohort_is_refused_whoever_knows_its_node() -> None:
    said = [reply(made_update("south"), node=3), reply(made_update("north"))]
    for nodes in ({2: "north", 3: "south"}, {}):
        admitted = admit(said, expected(cohort=frozenset({"north"}), nodes=nodes))
        assert admitted.refused == {"south": "not-in-cohort"}
        assert list(admitted.updates) == ["north"]


def test_a_node_that_is_no_outlet_s_speaks_for_nobody_where_outlets_have_nodes() -> None:
    stranger = reply(made_update("south"), node=9)
    admitted = admit([stranger, reply(made_update("north"))], expected(nodes={2: "north"}))
    assert admitted.refused == {"node 9": "unknown-outlet"}
    assert list(admitted.updates) == ["north"]


@pytest.mark.parametrize(("number", "word"), LEFT_OUT.items())
def test_an_answer_of_somebody_who_takes_no_part_is_refused_with_the_grid_s_word(
    number: int, word: str
) -> None:
    found = refusal(Error(code=number, reason=word), nodes={2: "north"})
    assert (found.code, found.where) == (word, "north")


def test_updates_come_sorted_by_outlet_whoever_answered_first() -> None:
    replies = [reply(made_update("south"), node=3), reply(made_update("north"))]
    for order in (replies, replies[::-1]):
        assert list(admit(order, expected()).updates) == ["north", "south"]


def test_a_lost_quorum_says_who_was_refused_and_why() -> None:
    failed = Error(code=3, reason=FAILURES[3])
    replies = [reply(made_update("north", round=9)), reply(failed, node=3)]
    with pytest.raises(QuorumError) as caught:
        admit(replies, expected(quorum=2))
    text = str(caught.value)
    assert "round 1 has too few admitted updates" in text
    assert "at least 2" in text
    assert "north: wrong-round" in text
    assert "node 3: engine-refused" in text
    assert caught.value.exit_code == 1


def test_a_round_without_any_answer_fails() -> None:
    with pytest.raises(QuorumError, match="no outlet answered"):
        admit([], expected())


def test_an_answer_to_another_phase_is_refused() -> None:
    assert refusal(pack_update(made_update("north", phase=2))).code == "wrong-phase"


def test_a_phase_that_does_not_train_takes_words_and_no_array() -> None:
    hello = expected(phase=2, shapes={})
    said = reply(made_update("north", phase=2, delta={}, said=b"hello"))
    found = admit([said, reply(made_update("south", phase=2), node=3)], hello)
    assert found.updates["north"].said == b"hello"
    assert found.refused == {"south": "wrong-names"}


def test_every_refusal_has_its_test() -> None:
    """The words above, once more: a new one needs a test of its own."""
    assert set(UPDATE_REFUSALS) == {
        "malformed",
        "unknown-outlet",
        "not-in-cohort",
        "wrong-outlet",
        "duplicate",
        "wrong-contract",
        "wrong-round",
        "wrong-phase",
        "wrong-base",
        "wrong-names",
        "wrong-shape",
        "not-finite",
        "norm-above-cap",
    }


# --- Why not Flower's own averaging: what flwr 1.41 and 1.42 do with the same replies. If one of
# these fails after moving the pin, Flower has changed its mind, and so may we. --------------------


def flower_reply(arrays: dict[str, Any], *, node: int) -> Message:
    """A reply as Flower's FedAvg expects it."""
    record = ArrayRecord({name: Array(np.asarray(array)) for name, array in arrays.items()})
    return reply(
        RecordDict({"arrays": record, "metrics": MetricRecord({"num-examples": 1})}), node=node
    )


def fed_avg(replies: Iterable[Message]) -> dict[str, Any]:
    """What FedAvg makes of a round."""
    arrays, _ = FedAvg(fraction_evaluate=0.0).aggregate_train(1, replies)
    return {} if arrays is None else {name: array.numpy() for name, array in arrays.items()}


def test_flower_averages_nan_into_every_outlets_model() -> None:
    good, bad = {"a": np.ones(3)}, {"a": np.full(3, np.nan)}
    averaged = fed_avg([flower_reply(good, node=2), flower_reply(bad, node=3)])
    assert np.isnan(averaged["a"]).all()


def test_flower_broadcasts_an_update_of_another_shape() -> None:
    good, small = {"a": np.zeros((2, 3))}, {"a": np.ones(1)}
    averaged = fed_avg([flower_reply(good, node=2), flower_reply(small, node=3)])
    assert np.array_equal(averaged["a"], np.full((2, 3), 0.5))


def test_flower_lets_one_client_weigh_whatever_it_says() -> None:
    honest = flower_reply({"a": np.zeros(3)}, node=2)
    loud = flower_reply({"a": np.ones(3)}, node=3)
    loud.content.metric_records["metrics"]["num-examples"] = 10**9
    assert fed_avg([honest, loud])["a"].min() > 0.999


class ReplyingGrid:
    """As much of a Grid as `Strategy.start` uses: every node gives the same kind of answer."""

    def __init__(self, said: Error) -> None:
        self._said = said

    def get_node_ids(self) -> list[int]:
        return [2, 3]

    def send_and_receive(self, messages: Iterable[Message], **_: float | None) -> list[Message]:
        sent = [stamp(message, f"sent-{number}") for number, message in enumerate(messages)]
        return [Message(self._said, reply_to=message) for message in sent]


def test_flower_goes_on_after_a_round_in_which_every_client_failed() -> None:
    become_server(run_id=1)
    grid: Any = ReplyingGrid(Error(code=2, reason="out of memory"))
    start = ArrayRecord({"a": Array(np.ones(3, np.float32))})
    result = FedAvg(fraction_evaluate=0.0).start(
        grid, start, num_rounds=3, train_config=ConfigRecord(), evaluate_config=ConfigRecord()
    )
    # No error, and nothing in the result says that three rounds have trained nothing; the arrays
    # stay empty, though there was a model to begin with.
    assert not result.train_metrics_clientapp
    assert list(result.arrays) == []
