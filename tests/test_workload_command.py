"""``workload``, from the command line to what it says of a run."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.vllm_python import CUDA
from tests.workload_commands import FIVE, as_json, run


def test_five_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(FIVE, capsys)
    assert (code, err) == (0, "")
    first, second = out.splitlines()[:2]
    assert first == "5 of your requests run at once (max_num_seqs 256); limited by KV blocks."
    assert second.startswith("75 % of the requests wait")
    assert second.endswith("; 0 preemptions.")
    assert "KV blocks in use, of 20" in out
    assert "most 5" in out
    assert "\x1b" not in out


def test_json_has_every_figure(capsys: pytest.CaptureFixture[str]) -> None:
    found = as_json(FIVE, capsys)
    assert found["schema_version"] == 1
    assert found["workload"]["prompt_tokens"] == "49"  # type: ignore[index]
    assert found["plan"]["kv_cache"]["num_gpu_blocks"] == 21  # type: ignore[index]
    assert {name: found[name] for name in ("requests", "refused", "cut", "usable_blocks")} == {
        "requests": 20,
        "refused": 0,
        "cut": 0,
        "usable_blocks": 20,
    }
    assert (found["prompt_tokens"], found["output_tokens"]) == (980, 300)
    assert (found["waited"], found["preemptions"], found["scheduler"]) == (15, 0, "standalone")
    assert found["running"]["most"] == 5  # type: ignore[index]
    assert found["running_loaded"]["p5"] == 5  # type: ignore[index]
    assert found["used_blocks"]["most"] == 20  # type: ignore[index]
    assert set(found["limits"]) == {"kv_blocks"}  # type: ignore[call-overload]
    series = found["series"]
    assert isinstance(series, dict)
    assert list(series) == ["step", "used_blocks", "running", "waiting", "preemptions"]
    assert (series["step"][0], series["used_blocks"][0], series["waiting"][0]) == (0, 20, 15)


def test_fewer_slots_than_blocks(capsys: pytest.CaptureFixture[str]) -> None:
    found = as_json([*FIVE, "--max-num-seqs", "3"], capsys)
    assert found["running_loaded"]["most"] == 3  # type: ignore[index]
    assert set(found["limits"]) == {"max_num_seqs"}  # type: ignore[call-overload]


def test_a_closed_loop_of_four_never_waits(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run([*FIVE, "--concurrency", "4"], capsys)
    assert code == 0
    assert out.startswith("4 of your requests run at once (4 clients, max_num_seqs 256); none is")


def test_a_published_engine_ran_70_to_80_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    """Qwen2.5-7B on an A10G, 77,088 KV tokens: 70 to 80 requests of some 1,000 tokens, not 256."""
    found = as_json(
        [
            "workload",
            "Qwen/Qwen2.5-7B-Instruct",
            *("--gpu", "A10G", "--max-model-len", "8192", "--num-gpu-blocks-override", "4819"),
            *("--prompt-tokens", "1000", "--output-tokens", "100", "--requests", "600"),
        ],
        capsys,
    )
    assert found["usable_blocks"] == 77_088 // 16
    assert found["sustained"]["p5"] >= 70  # type: ignore[index]
    assert found["sustained"]["p95"] <= 80  # type: ignore[index]
    assert found["preemptions"] > 0  # type: ignore[operator]


def test_a_shared_prefix_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    found = as_json([*FIVE, "--shared-prefix", "32", "--concurrency", "1"], capsys)
    # each finds the two whole blocks of the prefix, but the first
    assert found["cached_tokens"] == 19 * 32
    assert found["queried_tokens"] == 20 * 81
    assert found["prefix_hit_rate"] == 19 * 32 / (20 * 81)


def test_the_same_seed_is_the_same_run(capsys: pytest.CaptureFixture[str]) -> None:
    drawn = [*FIVE, "--prompt-tokens", "1-100", "--rate", "0.1"]
    assert as_json(drawn, capsys) == as_json(drawn, capsys)
    other = as_json([*drawn, "--seed", "7"], capsys)
    assert as_json(drawn, capsys)["prompt_tokens"] != other["prompt_tokens"]


def test_prompts_that_are_too_long(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run([*FIVE, "--prompt-tokens", "128"], capsys)
    assert code == 1  # asked whether they run together, the answer is no
    assert out.startswith("No request ran: no prompt leaves room")
    found = as_json([*FIVE, "--prompt-tokens", "choice:128,120"], capsys)
    assert found["refused"] + found["cut"] == 20  # type: ignore[operator]


def test_a_pasted_command(capsys: pytest.CaptureFixture[str]) -> None:
    ours = as_json(FIVE, capsys)
    flags = ["workload", *FIVE[FIVE.index("--prompt-tokens") :], "--gpu", "L4", "--format", "json"]
    engine = FIVE[FIVE.index("--max-model-len") : FIVE.index("--prompt-tokens")]
    command = ["vllm", "serve", "gpt2", *engine, "--port", "80"]
    code, out, _ = run([*flags, "--", *command], capsys)
    assert code == 0
    assert json.loads(out) == ours
    # flags of the schedule only, which no plan knows
    _, held, _ = run([*flags, "--", *command, "--watermark", "0.5"], capsys)
    assert json.loads(held)["running"]["most"] < 5
    assert as_json([*FIVE, "--watermark", "0.5"], capsys) == json.loads(held)


def test_a_trace_with_times(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text(
        "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
        "5,ChatGPT,20,10,30,Conversation log\n"
        "5.05,ChatGPT,20,10,30,Conversation log\n"
        "6,ChatGPT,20,0,20,Conversation log\n"
        "9,ChatGPT,20,10,30,Conversation log\n"
    )
    engine = [*FIVE[: FIVE.index("--prompt-tokens")], "--trace", str(trace)]
    code, out, err = run(engine, capsys)
    assert (code, out) == (2, "")
    assert "--step-time" in err
    code, out, _ = run([*engine, "--step-time", "0.1"], capsys)
    assert code == 0
    assert "none is left waiting, and there are never more than 2." in out
    assert "Arrivals: as in the trace" in out
    assert "note: 1 left out: requests without an answer (failed ones)" in out
    code, out, err = run([*engine, "--arrivals", "all", "--trace-model", "GPT-5"], capsys)
    assert (code, out) == (2, "")
    assert "no requests in it; 4 left out: requests to other models" in err


def test_what_does_not_fit_is_planned_and_not_run(capsys: pytest.CaptureFixture[str]) -> None:
    engine = ["workload", "Qwen/Qwen2.5-72B-Instruct", "--gpu", "A10G"]
    lengths = ["--prompt-tokens", "10", "--output-tokens", "10"]
    code, out, _ = run([*engine, *lengths], capsys)
    assert code == 1
    assert "no memory is available for the cache blocks" in out
    code, out, _ = run([*engine, *lengths, "--format", "json"], capsys)
    assert (code, json.loads(out)["fits"]) == (1, False)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["workload", "gpt2", "--gpu", "L4"], "--prompt-tokens and --output-tokens"),
        ([*FIVE, "--prompt-tokens", "many"], "lognormal:mean=1000"),
        ([*FIVE, "--trace", "x.csv"], "brings its own lengths"),
        ([*FIVE, "--rate", "x"], "--rate"),
        ([*FIVE, "--rate", "1", "--concurrency", "1"], "closed loop"),
        ([*FIVE, "--format", "yaml"], "--format"),
        ([*FIVE, "--watermark", "2"], "watermark"),
        ([*FIVE, "--scheduling-policy", "lifo"], "fcfs"),
        ([*FIVE, "--series", "/nonexistent/series.csv"], "folder is not there"),
        ([*FIVE, "--html", "/tmp"], "no file to write to"),
        ([*FIVE, "--gpu", "H1000"], "H100"),
        (["workload", *FIVE[2:]], "no model"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(arguments, capsys)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1


@pytest.mark.skipif(not os.environ.get(CUDA), reason=f"needs vLLM: set {CUDA}")
def test_vllms_own_scheduler_says_the_same(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KV_PLANNER_PYTHON", os.environ[CUDA])
    ours = as_json(FIVE, capsys)
    theirs = as_json([*FIVE, "--planner", "vllm"], capsys)
    assert theirs["scheduler"] == "vllm"
    for name in ("steps", "running", "waiting", "used_blocks", "waited", "preemptions"):
        assert (name, theirs[name]) == (name, ours[name])


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--max-num-queued-reqs", "5"),
        ("--max-num-queued-tokens", "5000"),
        ("--prefix-cache-retention-interval", "16"),
        ("--scheduler-cls", "mine.Scheduler"),
    ],
)
def test_schedules_that_are_not_simulated(
    flag: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run([*FIVE, flag, value], capsys)
    assert (code, out) == (2, "")
    assert f"{flag} " in err and "not simulated" in err
