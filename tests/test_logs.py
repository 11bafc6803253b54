"""Start-up logs read into figures: every wording, and what is no log."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from tests.start_logs import LLAMA, REFUSED, V019, V029, V066
from tests.work import bytes_in, lines_in
from vllm_kv_planner.cli import main
from vllm_kv_planner.errors import InputError
from vllm_kv_planner.logs import parse as reading
from vllm_kv_planner.logs.arguments import ABSENT, named_values, read_arguments
from vllm_kv_planner.logs.parse import MAX_LINE, clean_lines, parse_lines, parse_log
from vllm_kv_planner.logs.patterns import MATTERS
from vllm_kv_planner.logs.start_log import StartLog

GIB = 1 << 30


def parsed(text: str) -> StartLog:
    return parse_lines(clean_lines(text), where="test.log")


def test_the_engine_of_a_log() -> None:
    log = parsed(V019)
    assert (log.version, log.model, log.backend) == ("0.19.0", LLAMA, "FLASH_ATTN")
    assert log.arguments == {
        "model": LLAMA,
        "max_model_len": 8192,
        "gpu_memory_utilization": 0.95,
        "enable_prefix_caching": False,
    }
    assert log.settled["dtype"] == "bfloat16"
    assert log.settled["model"] == LLAMA
    assert log.is_server and log.started and log.runner == "V1"


def test_the_figures_of_v1() -> None:
    log = parsed(V019)
    values = {name: log.value(name) for name in log.measures}
    assert values == {
        **{"load": 14.99, "graph_estimate": 0.75, "free": 78.68, "utilization": 0.95},
        **{"requested": 75.23, "total_non_kv": 17.13, "torch_peak": 1.89, "non_torch": 0.25},
        **{"weights": 14.99, "kv": 58.1, "tokens": 475936, "length": 8192},
        **{"concurrency": 58.1, "graphs": 0.81, "total": 79.19, "activation": 1.89},
    }


def test_the_figures_of_v0() -> None:
    log = parsed(V066)
    assert (log.version, log.model, log.backend) == ("0.6.6.post1", LLAMA, "FLASH_ATTN")
    assert log.arguments["gpu_memory_utilization"] == 0.9
    assert log.arguments["max_model_len"] == 8192
    values = {name: log.value(name) for name in log.measures}
    assert values == {
        **{"load": 14.9888, "total": 79.1, "utilization": 0.9, "requested": 71.19},
        **{"weights": 14.99, "non_torch": 0.09, "activation": 1.26, "kv": 54.85},
        **{"blocks": 28081, "concurrency": 54.85, "length": 8192, "graphs": 0.22},
    }


def test_ranks_prefixes_colours_and_the_logo() -> None:
    log = parsed(V029)
    assert (log.version, log.model, log.runner) == ("0.29.0", "Qwen/Qwen3-32B", "V2")
    assert log.measures["load"] == {"Worker_TP0": 30.59, "Worker_TP1": 30.6}
    # the rank with the least left decides
    assert (log.value("kv"), log.value("load"), log.value("consumed")) == (36.05, 30.6, 32.9)
    assert log.value("concurrency") == 9.01


@pytest.mark.parametrize(
    ("line", "measures"),
    [
        (
            "Memory profiling results: total_gpu_memory=79.10GiB initial_memory_usage=15.51GiB "
            "peak_torch_memory=16.25GiB memory_usage_post_profile=15.62GiB "
            "non_torch_memory=0.60GiB kv_cache_size=54.34GiB gpu_memory_utilization=0.90",
            {"total": 79.1, "non_torch": 0.6, "kv": 54.34, "utilization": 0.9},
        ),
        ("executor_base.py:110] # cuda blocks: 27743, # CPU blocks: 2048", {"blocks": 27743}),
        (
            "Memory profiling takes 3.10 seconds. Total non KV cache memory: 36.8GiB; torch peak "
            "memory increase: 3.0GiB; total consumed (from mem_get_info): 32.9GiB; weights memory: "
            "30.6GiB.",
            {"total_non_kv": 36.8, "torch_peak": 3.0, "consumed": 32.9, "weights": 30.6},
        ),
        (
            "worker init memory snapshot: torch_peak=0.0GiB, torch_allocated=0.0GiB, "
            "free_memory=78.68GiB, total_memory=79.19GiB, cuda_memory=0.51GiB",
            {"free": 78.68, "total": 79.19},
        ),
        (
            "Initial free memory 22.1 GiB, reserved 4.0 GiB memory for KV Cache as specified by "
            "kv_cache_memory_bytes config and skipped memory profiling.",
            {"free": 22.1, "kv": 4.0},
        ),
        (
            "CUDA graph pool memory: 0.35 GiB (actual), 0.81 GiB (estimated), difference: 0.46 GiB",
            {"graphs": 0.35, "graph_estimate": 0.81},
        ),
        ("Current kv cache memory in use is 61337993011 bytes.", {"kv_bytes": 61337993011}),
        ("Available KV cache memory: -1.25 GiB", {"kv": -1.25}),
        (
            "Chunked prefill is enabled with max_num_batched_tokens=2048.",
            {"tokens_a_step": 2048},
        ),
        (
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 786.00 MiB. GPU 0 has a "
            "total capacity of 79.19 GiB of which 54.00 MiB is free.",
            {"total": 79.19},
        ),
    ],
)
def test_every_wording(line: str, measures: dict[str, float]) -> None:
    log = parsed(f"(EngineCore_DP0 pid=9) INFO 01-02 03:04:05 [x.py:1] {line}")
    assert {name: log.value(name) for name in log.measures} == measures


@pytest.mark.parametrize(
    "line",
    [
        "ValueError: No available memory for the cache blocks. Try increasing",
        "ValueError: Free memory on device (20.1/23.64 GiB) on startup is less than desired GPU "
        "memory utilization (0.9, 21.28 GiB). Decrease GPU memory",
        "ValueError: Free memory on device cuda:0 (20.1/23.64 GiB) on startup is less than desired "
        "GPU memory utilization (0.9, 21.28 GiB).",
        "ValueError: The model's max seq len (131072) is larger than the maximum number of tokens "
        "that can be stored in KV cache (26000).",
        "RuntimeError: CUDA out of memory occurred when warming up sampler with 256 dummy requests",
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 786.00 MiB.",
    ],
)
def test_refusals(line: str) -> None:
    log = parsed(f"ERROR [core.py:700] {line}\n")
    assert log.refusal is not None and not log.started
    assert log.refusal in line


def test_what_a_refusal_says() -> None:
    log = parsed(REFUSED)
    assert (log.value("needed"), log.value("kv"), log.value("longest")) == (16.0, 3.96, 32432)
    assert log.value("length") == 131072


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("fused_moe.py: configs/E=128,N=768,device_name=NVIDIA_H200.json", "NVIDIA H200"),
        ("| N/A  NVIDIA L40S  On | 00000000:01:00.0 Off |", "NVIDIA L40S"),
        ("GPU 0: NVIDIA GeForce RTX 4090 (UUID: GPU-1)", "NVIDIA GeForce RTX 4090"),
        ("GPU 0: NVIDIA A100-SXM4-80GB (UUID: GPU-1)", "NVIDIA A100-SXM4-80GB"),
        ("NVIDIA Driver 570, CUDA 12.8", None),
    ],
)
def test_the_gpu_where_a_line_names_it(line: str, name: str | None) -> None:
    assert parsed(f"{line}\nAvailable KV cache memory: 1.0 GiB").gpu == name


def test_of_several_starts_the_last_counts() -> None:
    again = V019.replace("58.1 GiB", "41.0 GiB").replace("took 14.99", "took 15.01")
    assert parsed(V019 + again).value("load") == 15.01
    # a restart that has said nothing yet does not hide the one before
    assert parsed(V019 + "INFO vLLM API server version 0.19.0\n").value("load") == 14.99


def test_values_of_an_odd_line() -> None:
    found = named_values("{'a': {'model': 'x', 'n': <f at 0x1>}, \"b\": [1, 2], 'c': 'it\\'s, {'}")
    assert (found["a"], found["b"], found["c"]) == (ABSENT, [1, 2], "it's, {")
    assert read_arguments(
        "{'hf_overrides': '{\"a\": 1}', 'kv_cache_dtype_skip_layers': ['1']}"
    ) == {
        "hf_overrides": {"a": 1},
        "kv_cache_dtype_skip_layers": ("1",),
    }
    for broken in ("", "{", "{'a': ", "Namespace(", "((((", "{'a': '", "}" * 50, "a" * 5000):
        assert ABSENT in [*named_values(broken).values(), ABSENT]


def test_lines_are_bounded_and_progress_bars_end() -> None:
    long, bar = clean_lines("x" * (MAX_LINE * 2) + "\nLoading 1%\rLoading 100%\r\n")[:2]
    assert (len(long), bar) == (MAX_LINE, "Loading 100%")


def test_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "vllm.log"
    path.write_bytes(V019.encode("utf-16"))
    assert parse_log(str(path)).value("kv") == 58.1
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(V066.encode())))
    assert parse_log("-").value("kv") == 54.85
    path.write_bytes(b"\0\1\2" * 1000)
    for wrong, said in ((path, "binary"), (tmp_path, "regular"), (tmp_path / "no", "cannot be")):
        with pytest.raises(InputError, match=said):
            parse_log(str(wrong))
    with pytest.raises(InputError, match="file name"):
        parse_log("a\0b")
    path.write_text("nothing of vLLM's\n")
    with pytest.raises(InputError, match="start-up log"):
        parse_log(str(path))


MEASURED = "Available KV cache memory: 1.0 GiB\n"
PER_LINE = {
    "empty lines": "\n",
    "one line": "x",
    "spaces": " ",
    "colours": "x\x1b[m",
    "titles": "\x1b]x",
    "returns": "x\r",
    "words that matter, in one line": " ".join(word.decode() for word in MATTERS),
    "words that matter, each in a line": "".join(f"{word.decode()}\n" for word in MATTERS),
    "banners": "API server version 0.1\n",
    "figures of one line": "total_gpu_memory=1GiB",
    "lists of arguments": "args: Namespace(" + "[]," * 30_000 + ")\n",
    "arguments of a thousand parts": "args: {'hf_overrides': [" + "1," * 9000 + "]}\n",
    "open brackets": "args: model=" + "(" * 19_000 + "\n",
    "open quotes": "with config: model='" + "\\x" * 40_000 + "\n",
}


@pytest.mark.parametrize("kind", PER_LINE)
def test_a_long_log_costs_little(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quarter of each limit, and of what reading up to it may cost."""
    monkeypatch.setattr(reading, "MAX_KEPT_BYTES", reading.MAX_KEPT_BYTES // 4)
    monkeypatch.setattr(reading, "MAX_KEPT_LINES", reading.MAX_KEPT_LINES // 4)
    path = tmp_path / "vllm.log"
    unit = PER_LINE[kind]
    path.write_text(unit * ((8 << 20) // len(unit) + 1))

    def read() -> None:
        with pytest.raises(InputError) as caught:
            parse_log(str(path))
        assert "\n" not in str(caught.value)

    # 8 MiB are 250,000 lines of a real log: most are never looked at one by one
    assert lines_in(read, of="vllm_kv_planner") < 1_500_000
    assert bytes_in(read) < 20_000_000


def test_figures_are_found_in_long_logs(tmp_path: Path) -> None:
    """Behind colours, in lines that cross the blocks read, after a bar, in UTF-16."""
    path = tmp_path / "vllm.log"
    bar = "".join(f"Loading {i}%\r" for i in range(200_000))
    for before in ("x\n" * 1_500_000, bar, "é" * 1_000_000 + "\n", "x" * (1 << 20) + "\r"):
        for text in (MEASURED, "Available \x1b[32mKV\x1b[0m cache memory: 1.0 GiB"):
            path.write_text(before + text, newline="")
            assert parse_log(str(path)).measures == {"kv": {"": 1.0}}
    path.write_bytes(("x\n" * 1_500_000 + MEASURED).encode("utf-16"))
    assert parse_log(str(path)).measures == {"kv": {"": 1.0}}


def test_of_a_log_too_long_the_beginning_is_read_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "vllm.log"
    path.write_text(V019 + "x\n" * 1_000_000)
    assert parse_log(str(path)).notes == ()
    monkeypatch.setattr(reading, "MAX_BYTES", 1 << 20)
    said = "longer than 1 MiB, of which the rest is not read"
    for command in ("explain", "calibrate"):
        store = ["--calibration", str(tmp_path / "records.json")] * (command == "calibrate")
        assert main([command, str(path), "--gpu", "H100", *store]) == 0
        assert f"{path}: {said}" in capsys.readouterr().out
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(path.read_bytes())))
    (note,) = parse_log("-").notes
    assert note == f"standard input: {said}"
    path.write_text("x\n" * 1_000_000 + V019)  # nothing of it is read
    with pytest.raises(InputError, match="no line of it tells of memory"):
        parse_log(str(path))


def test_the_last_of_several_starts_counts(tmp_path: Path) -> None:
    path = tmp_path / "vllm.log"
    second = MEASURED.replace("1.0", "2.0")
    banner = "API server version 0.19.0\n"
    path.write_text(f"{banner}{MEASURED}{banner}{second}{banner}")
    assert parse_log(str(path)).measures == {"kv": {"": 2.0}}


def test_more_than_any_start_says(tmp_path: Path) -> None:
    path = tmp_path / "vllm.log"
    path.write_text(MEASURED * 20_001)
    with pytest.raises(InputError, match=r"holds more than 20,000 lines .* give the log of one"):
        parse_log(str(path))
