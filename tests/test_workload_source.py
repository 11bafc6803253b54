"""From flags to one stream of requests: what goes together, and what comes out."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.trace_files import AZURE, BURSTGPT, COLUMNS, writer
from vllm_kv_planner.errors import InputError
from vllm_kv_planner.workload.source import RequestSource
from vllm_kv_planner.workload.types import TraceRequest

Write = Callable[[str | bytes], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    return writer(tmp_path)


FIXED = {"prompt_tokens": "100", "output_tokens": "10"}


@pytest.mark.parametrize(
    ("given_", "said"),
    [
        ({}, "--prompt-tokens and --output-tokens"),
        ({"prompt_tokens": "100"}, "--prompt-tokens and --output-tokens"),
        ({**FIXED, "trace": "x.csv"}, "brings its own lengths"),
        ({**FIXED, "scale": 2.0}, "add --trace"),
        ({**FIXED, "trace_format": "azure"}, "add --trace"),
        ({**FIXED, "all_lengths": True}, "--all-lengths"),
        ({**FIXED, "requests": 0}, "--requests 0"),
        ({**FIXED, "concurrency": 0}, "--concurrency 0"),
        ({**FIXED, "concurrency": 5, "rate": 1.0}, "closed loop"),
        ({**FIXED, "concurrency": 5, "arrivals": "all"}, "closed loop"),
        ({**FIXED, "step_time": 0.0}, "--step-time"),
        ({**FIXED, "step_time": math.nan}, "--step-time"),
        ({**FIXED, "prefixes": 3}, "needs --shared-prefix"),
        ({**FIXED, "shared_prefix": -1}, "--shared-prefix -1"),
        ({**FIXED, "shared_prefix": 5, "prefixes": 0}, "--prefixes 0"),
        ({"trace": "/nonexistent/trace.csv"}, "cannot be read"),
    ],
)
def test_sources_that_make_no_sense(given_: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        RequestSource(**given_).open()  # type: ignore[arg-type]


def test_a_source_says_what_it_is() -> None:
    opened = RequestSource(
        prompt_tokens="100", output_tokens="10", rate=2.0, shared_prefix=1000, prefixes=3
    ).open()
    assert opened.lengths == (
        "prompts of 100 tokens, answers of 10, behind one of 3 shared prefixes of 1,000 tokens"
    )
    assert opened.arrivals == "Poisson, 2 a step"
    assert opened.total == 1000
    assert len(list(opened.requests)) == 1000
    assert opened.notes() == ()


def test_times_in_seconds_need_a_step_time_or_to_be_left_out(write: Write) -> None:
    path = write(AZURE)
    with pytest.raises(InputError, match="--step-time"):
        RequestSource(trace=path).open()
    timed = RequestSource(trace=path, step_time=0.03, scale=2.0).open()
    assert timed.arrivals == "as in the trace, 2 times as fast"
    assert [each.arrival for each in timed.requests] == pytest.approx([0, 2.157, 30], abs=1e-3)
    for flags in ({"arrivals": "all"}, {"concurrency": 2}):
        found = RequestSource(trace=path, **flags).open()  # type: ignore[arg-type]
        assert [each.arrival for each in found.requests] == [0.0, 0.0, 0.0]
    paced = RequestSource(trace=path, rate=0.5, arrivals="constant").open()
    assert [each.arrival for each in paced.requests] == [0.0, 2.0, 4.0]


def test_times_that_do_not_count_are_not_looked_at(write: Write) -> None:
    path = write(COLUMNS + "whenever,2,3\n")
    assert list(RequestSource(trace=path, concurrency=1).open().requests) == [
        TraceRequest(0.0, 2, 3)
    ]


def test_some_requests_of_a_trace(write: Write) -> None:
    opened = RequestSource(trace=write(AZURE), requests=2, arrivals="all").open()
    assert (opened.total, len(list(opened.requests))) == (2, 2)
    with pytest.raises(InputError, match="--scale"):
        RequestSource(trace=write(AZURE), scale=2.0, arrivals="all").open()


def test_what_was_left_out_is_told(write: Write) -> None:
    opened = RequestSource(trace=write(BURSTGPT), concurrency=1).open()
    assert len(list(opened.requests)) == 3
    assert opened.notes() == ("1 left out: requests without an answer (failed ones)",)
