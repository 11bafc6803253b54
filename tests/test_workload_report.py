"""The sentences and the chart of a workload, from figures put in by hand."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import vllm_kv_planner
from vllm_kv_planner.records import replace
from vllm_kv_planner.report.render import to_csv, to_text
from vllm_kv_planner.workload.figures import chart, headline, resampled, share
from vllm_kv_planner.workload.outcome import SeriesPoint, Spread
from vllm_kv_planner.workload.result import WorkloadResult, to_html


def spread(p5: int, p95: int) -> Spread:
    return Spread(mean=(p5 + p95) / 2, least=0, p5=p5, p50=(p5 + p95) // 2, p95=p95, most=p95 + 3)


def result(**changes: Any) -> WorkloadResult:
    plan = vllm_kv_planner.plan("gpt2", gpu="L4", kv_cache_memory_bytes=1 << 30)
    made: dict[str, Any] = {
        "plan": plan,
        "scheduler": "standalone",
        "requests": 200,
        "refused": 0,
        "cut": 0,
        "steps": 400,
        "step_time": None,
        "concurrency": None,
        "usable_blocks": 100,
        "running": spread(60, 83),
        "sustained": spread(70, 80),
        "running_loaded": spread(75, 80),
        "waiting": spread(0, 50),
        "used_blocks": spread(50, 100),
        "step_tokens": spread(50, 2048),
        "waited": 24,
        "waited_for": {"kv_blocks": 24},
        "wait_steps": spread(0, 30),
        "preemptions": 31,
        "preempted_requests": 22,
        "prompt_tokens": 20_000,
        "output_tokens": 4_000,
        "computed_tokens": 18_000,
        "recomputed_tokens": 2_000,
        "cached_tokens": 8_000,
        "queried_tokens": 20_000,
        "limits": {"kv_blocks": 360, "max_num_seqs": 40, "max_num_batched_tokens": 0},
        "limit": "KV cache",
        "series": (SeriesPoint(0, 50, 70, 9, 0), SeriesPoint(200, 100, 83, 0, 31)),
        "notes": ("something\x1b[31m",),
    }
    return WorkloadResult(**{**made, **changes})


def test_the_answer_is_the_first_sentence() -> None:
    assert headline(result()) == [
        "70 to 80 of your requests run at once (max_num_seqs 256); "
        "limited by KV blocks (90 %), max_num_seqs (10 %).",
        "12 % of the requests wait (half of all up to 15 steps, 95 % of all up to 30 steps, "
        "the longest 33 steps); "
        "31 preemptions, of 22 requests; 11 % of the work is done again.",
        "40 % of the prompts' tokens come from the prefix cache.",
    ]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"limits": {}}, "none is left waiting, and there are never more than 83."),
        ({"sustained": spread(7, 7), "concurrency": 9}, "7 of your requests run at once (9 cl"),
        ({"sustained": spread(1, 1)}, "1 of your requests runs at once (max"),
        ({"limits": {"kv_blocks": 20}}, "; 5.0 % of the steps leave some waiting, for KV blocks."),
        ({"refused": 200}, "No request ran: no prompt"),
        ({"requests": 0}, "No request ran: there was none"),
        ({"waited": 0}, "0 % of the requests wait; 31 preemptions"),
        ({"wait_steps": spread(0, 0)}, "wait (95 % of all up to 0 steps, the longest 3 steps)"),
        ({"step_time": 0.05}, "half of all up to 0.75 s, 95 % of all up to 1.50 s, the longest 1"),
        ({"preemptions": 1}, "; 1 preemption, of"),
        ({"preemptions": 0}, "; 0 preemptions."),
    ],
)
def test_other_answers(changes: dict[str, Any], said: str) -> None:
    assert said in " ".join(headline(result(**{"running": spread(60, 80), **changes})))


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (0, 0, "0 %"),
        (0, 7, "0 %"),
        (7, 7, "100 %"),
        (12, 100, "12 %"),
        (4, 1000, "0.4 %"),
        (999, 1000, "99.9 %"),
        (1, 100_000, "under 0.1 %"),
        (99_999, 100_000, "over 99.9 %"),
    ],
)
def test_shares(part: int, whole: int, text: str) -> None:
    assert share(part, whole) == text


@given(part=st.integers(0, 10**9), rest=st.integers(0, 10**9))
def test_nothing_and_everything_are_said_of_nothing_else(part: int, rest: int) -> None:
    text = share(part, part + rest)
    assert (text == "0 %") == (part == 0)
    assert (text == "100 %") == (part > 0 and rest == 0)


@given(
    widths=st.lists(st.integers(1, 40), min_size=1, max_size=60),
    blocks=st.randoms(use_true_random=False),
    columns=st.integers(1, 64),
)
def test_columns_hold_the_peaks_of_their_steps(
    widths: list[int], blocks: Any, columns: int
) -> None:
    series, by_step = [], []
    for width in widths:
        point = SeriesPoint(
            len(by_step), blocks.randrange(100), blocks.randrange(9), 0, blocks.randrange(3)
        )
        series.append(point)
        by_step += [point] * width
    last = len(by_step)
    columns = min(columns, last)
    found = resampled(series, last, columns)
    for number, column in enumerate(found):
        steps = by_step[last * number // columns : last * (number + 1) // columns]
        assert column.used_blocks == max(each.used_blocks for each in steps)
        assert column.running == max(each.running for each in steps)
    assert sum(each.preemptions for each in found) == sum(each.preemptions for each in series)


def test_the_chart_is_half_full_then_full() -> None:
    lines = chart(result(), width=8)
    assert [line[13:] for line in lines[1:7]] == ["    ████"] * 3 + ["████████"] * 3
    assert lines[1].startswith("      100 % │")
    assert lines[4].startswith("       50 % │")
    assert lines[8].strip() == "0 400 steps"
    assert lines[9].strip() == "running  ▇▇▇▇████  most 83"
    assert lines[10].strip() == "waiting  ████      most 9"
    assert lines[11].strip() == "preempted      █     most 31"


def test_the_chart_in_ascii() -> None:
    drawn = str(result(notes=(), plan=replace(result().plan, notes=())))
    assert drawn.isascii()
    assert f"      100 % |{' ' * 32}{'#' * 32}" in drawn.splitlines()


def test_no_chart_where_nothing_ran() -> None:
    assert chart(result(series=())) == []
    assert "<svg" not in to_html(result(series=()), [])


def test_notes_cannot_steer_the_terminal() -> None:
    text = to_text(result().document(("Requests: \x1b[2J",)), unicode=True)
    assert "\x1b" not in text
    assert "note: something\\x1b[31m" in text
    page = to_html(result(), ["Requests: <b>\x1b"])
    assert "\x1b" not in page
    assert "&lt;b&gt;" in page


def test_the_series_as_csv() -> None:
    assert to_csv(result().series_table()).splitlines() == [
        "step,used_blocks,running,waiting,preemptions,block_use",
        "0,50,70,9,0,0.5000",
        "200,100,83,0,31,1.0000",
    ]


def test_the_answer_as_an_object() -> None:
    found = result()
    plain = found.to_dict()
    assert plain["schema_version"] == 1
    assert plain["prefix_hit_rate"] == 0.4
    assert plain["series"]["step"] == [0, 200]
    values = {row[0]: row[1] for row in found.table().rows}
    assert values["sustained.p5"] == 70
    assert values["limit"] == "KV cache"
    assert "<td>running_loaded.p5</td>" in found._repr_html_()
