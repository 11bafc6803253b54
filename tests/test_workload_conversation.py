"""The child's side of a workload, where vLLM is not needed: turns, batches, made-up tokens."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vllm_kv_planner.vllm_adapter.internals.made_up_requests import segment_tokens
from vllm_kv_planner.vllm_adapter.workload import step_record
from vllm_kv_planner.vllm_adapter.workload_server import Conversation, Stopped


def conversation(*replies: dict[str, Any]) -> tuple[Conversation, list[dict[str, Any]]]:
    sent: list[dict[str, Any]] = []
    lines = "".join(json.dumps(reply) + "\n" for reply in replies)
    return Conversation(io.StringIO(lines), sent.append), sent


def test_rows_are_asked_for_when_they_are_needed() -> None:
    first = {"requests": [[0.0, 10, 5, [["a", 4]]], [1.5, 7, 1, []]], "last": False}
    talk, sent = conversation(first, {"requests": [[2.0, 3, 3, []]], "last": True})
    rows = talk.trace()
    assert sent == []
    assert next(rows) == (0.0, 10, 5, [["a", 4]])
    assert next(rows) == (1.5, 7, 1, [])
    assert len(sent) == 1
    assert [row.arrival for row in rows] == [2.0]
    assert [message["turn"]["wants"] for message in sent] == [True, True]
    assert not any(message["turn"]["ended"] for message in sent)


def test_records_go_with_the_next_turn_and_in_batches() -> None:
    talk, sent = conversation({"requests": [], "last": True}, {}, {})
    record = [0, 0, dict.fromkeys(range(5000), 1), [], [], [], [], 5000, 0, 9]
    talk.put([0, 0, {1: 5}, [1], [], [], [0], 1, 0, 1])
    assert list(talk.trace()) == []
    assert len(sent[0]["turn"]["records"]) == 1
    for _ in range(4):
        talk.put(record)
    assert [len(message["turn"]["records"]) for message in sent] == [1, 4]
    assert not sent[1]["turn"]["wants"]
    talk.put(record)
    assert talk.rest() == [record]


@pytest.mark.parametrize("replies", [[{"stop": True}], []], ids=["told to", "the parent is gone"])
def test_it_stops(replies: list[dict[str, Any]]) -> None:
    talk, _ = conversation(*replies)
    with pytest.raises(Stopped):
        next(talk.trace())


def test_a_record_crosses_the_pipe() -> None:
    row = json.loads(json.dumps([3, 7, {4: 100, 11: 1}, [4], [9], [11], [32], 2, 5, 8]))
    step = step_record(row)
    assert (step.step, step.scheduled) == (3, {4: 100, 11: 1})
    assert (step.admitted, step.preempted, step.finished) == ((4,), (9,), (11,))
    assert (step.cached_tokens, step.running, step.waiting, step.used_blocks) == ((32,), 2, 5, 8)


@given(
    one=st.one_of(st.integers(), st.text(max_size=9)),
    other=st.one_of(st.integers(), st.text(max_size=9)),
    lengths=st.tuples(st.integers(1, 300), st.integers(1, 300)),
)
def test_tokens_are_shared_where_the_segment_is(
    one: int | str, other: int | str, lengths: tuple[int, int]
) -> None:
    mine, theirs = (list(segment_tokens(one, length)) for length in lengths)
    assert mine[: min(lengths)] == theirs[: min(lengths)]
    assert len(mine) == lengths[0]
    assert all(token % 2 == 0 and 0 <= token < 1 << 62 for token in mine)  # own tokens are odd
    if repr(one) != repr(other):
        assert not set(mine) & set(segment_tokens(other, lengths[1]))
