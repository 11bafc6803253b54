"""``explain``: a start planned again from its log, part by part."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.start_logs import CPU, LLAMA, REFUSED, V019, V029, V066
from vllm_kv_planner.cli import main
from vllm_kv_planner.explain.compare import Explanation, compare
from vllm_kv_planner.explain.measured import measured
from vllm_kv_planner.explain.predict import Given, predict
from vllm_kv_planner.gpu.catalogue import find_gpu
from vllm_kv_planner.logs.parse import clean_lines, parse_lines

GIB = 1 << 30
H100 = Given(gpu=find_gpu("H100"))


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def explained(text: str, given: Given = H100) -> Explanation:
    log = parse_lines(clean_lines(text), where="test.log")
    return compare(log, predict(log, given), ())


def reasons(explanation: Explanation) -> dict[str, str]:
    return {part.name: part.reason for part in explanation.parts}


def test_a_start_that_went_as_predicted() -> None:
    found = explained(V019)
    parts = {part.name: part for part in found.parts}
    for name in ("weights", "activation peak", "outside PyTorch", "requested memory"):
        assert parts[name].agrees, name
    assert parts["KV cache memory"].agrees and parts["maximum concurrency"].agrees
    assert parts["CUDA graphs, captured"].predicted is None
    assert found.notes == ()


def test_what_differs_is_named_and_summed_up() -> None:
    # 1 GiB more outside PyTorch, 1 GiB less for the cache
    changed = V019.replace("0.25 GiB for non-torch", "1.25 GiB for non-torch")
    changed = changed.replace("increase memory: 0.25GiB", "increase memory: 1.25GiB")
    changed = changed.replace("58.1 GiB", "57.1 GiB").replace("475,936", "467,744")
    changed = changed.replace("58.10x", "57.10x")
    found = reasons(explained(changed))
    assert found["outside PyTorch"].startswith("beyond its margin")
    assert "from outside PyTorch -1.00 GiB" in found["KV cache memory"]
    assert found["activation peak"] == "agrees"
    assert found["GPU KV cache size"].startswith("follows from the KV memory")


def test_blocks_that_do_not_follow_from_the_memory() -> None:
    found = reasons(explained(V019.replace("475,936", "237,968")))
    assert "divides it in another way" in found["GPU KV cache size"]


def test_other_processes_on_the_gpu() -> None:
    found = reasons(explained(V019.replace("78.68", "60.00")))
    assert "other processes hold about 18.68 GiB" in found["free at start"]


def test_an_info_log_has_the_rest_in_one() -> None:
    lines = [line for line in V019.splitlines() if "DEBUG" not in line]
    text = "\n".join(line for line in lines if "for weight" not in line)
    found = {part.name: part for part in explained(text).parts}
    together = found["activation, outside PyTorch, graphs"]
    # 0.95 x 79.19 - 14.99 - 58.10, nothing deducted for graphs at 0.19
    assert together.actual is not None and together.actual / GIB == pytest.approx(2.14, abs=0.01)
    assert together.agrees
    assert found["free at start"].actual is None


def test_parts_of_027_and_later() -> None:
    log = parse_lines(clean_lines(V029), where="test.log")
    found = measured(log, requested=None, deducts_graphs=True)
    # the printed peak of 3.9 GiB holds the estimate of 1.01; consumed is weights and the rest
    assert found.activation == log.size("activation") - log.size("graph_estimate")  # type: ignore[operator]
    assert found.beside == pytest.approx(2.3 * GIB, abs=0.006 * GIB)
    assert found.rest == pytest.approx((72.85 - 30.6 - 36.05) * GIB, abs=0.006 * GIB)
    parts = {part.name: part for part in explained(V029).parts}
    assert parts["KV cache memory"].within_band


def test_an_engine_of_v0_still_has_weights_and_blocks() -> None:
    found = explained(V066)
    parts = {part.name: part for part in found.parts}
    assert parts["weights"].agrees
    assert parts["activation peak"].predicted is None
    assert parts["GPU blocks"].reason.startswith("follows from the KV memory")
    assert any("memory rules are known from 0.10" in note for note in found.notes)


def test_a_refusal_is_told() -> None:
    found = explained(REFUSED)
    assert any("did not start: To serve at least one request" in note for note in found.notes)
    assert "one request needed 16.00 GiB and 3.96 GiB was left" in found.notes


def test_a_slice_of_a_gpu_is_planned_with_its_own_memory() -> None:
    # half of the GPU: 39.59 GiB, of which 0.95 are 37.61
    text = V019.replace("/79.19", "/39.59").replace("75.23", "37.61").replace("(78.68", "(39.08")
    found = explained(text)
    assert any("--gpu-memory 39.59GiB" in note for note in found.notes)
    assert next(p for p in found.parts if p.name == "requested memory").agrees


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = main(arguments)
    out, err = capsys.readouterr()
    return code, out, err


def written(tmp_path: Path, text: str, name: str = "vllm.log") -> str:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(["explain", written(tmp_path, V019), "--gpu", "H100"], capsys)
    assert (code, err) == (0, "")
    assert "predicted" in out and "actual" in out and "\033" not in out
    assert f"model    {LLAMA}" in out


def test_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logs = [written(tmp_path, V019), written(tmp_path, V066, "old.log")]
    _, out, _ = run(["explain", *logs, "--gpu", "H100", "--format", "json"], capsys)
    found: dict[str, Any] = json.loads(out)
    assert [start["vllm_version"] for start in found["starts"]] == ["0.19.0", "0.6.6.post1"]
    (kv,) = [p for p in found["starts"][0]["parts"] if p["name"] == "KV cache memory"]
    assert kv["actual"] == round(58.1 * GIB)
    assert kv["difference"] == kv["actual"] - kv["predicted"]
    assert found["starts"][0]["flags"]["gpu_memory_utilization"] == 0.95


def test_what_the_log_does_not_say_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, V019)
    code, out, _ = run(["explain", path], capsys)
    assert code == 0 and "--gpu NAME" in out and "79.19 GiB" in out and "58.10 GiB" in out
    named = written(tmp_path, V019.replace("Using FLASH", "device_name=NVIDIA_H100_80GB_HBM3 "))
    _, out, _ = run(["explain", named], capsys)
    assert "NVIDIA H100 80GB HBM3" in out and "not predicted:" not in out
    bare = written(tmp_path, "Model loading took 14.99 GiB\nAvailable KV cache memory: 58.1 GiB")
    flags = ["--gpu", "H100", "--model", LLAMA, "--vllm-version", "0.19.0"]
    _, out, _ = run(["explain", bare, *flags], capsys)
    assert "not predicted:" not in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["explain"], "LOG"),
        (["explain", "no-such.log"], "no-such.log"),
        (["explain", "README.md"], "start-up log"),
        (["explain", "LOG", "--gpu", "H1000"], "H100"),
        (["explain", "LOG", "--calibration", "nowhere.json"], "nowhere.json"),
        (["calibrate", "LOG", "--no-calibration"], "--no-calibration"),
        (["calibrate", "LOG"], "--gpu NAME"),
    ],
)
def test_wrong_input(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, V019)
    code, out, err = run([path if word == "LOG" else word for word in arguments], capsys)
    assert (code, out) == (2, "")
    assert said in err and err.count("\n") == 1


def test_hostile_lines_do_no_harm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd = (
        "INFO version 0.19.0 \x1b]0;title\x07\u202e\nnon-default args: {'model': '\\x1b[31m', "
        "'max_model_len': -5, 'tensor_parallel_size': 'x', 'max_num_seqs': " + "9" * 4000 + "}\n"
        "Available KV cache memory: 99999999999 GiB\nModel loading took 1 GiB\n"
        "Initializing a V1 LLM engine (v0.19.0) with config: model='gpt2', " + "(" * 90000
    )
    code, out, err = run(["explain", written(tmp_path, odd), "--gpu", "H100"], capsys)
    assert (code, err) == (0, "")
    assert "\x1b" not in out and "\u202e" not in out
    assert "not predicted" in out


def test_an_engine_on_the_cpu_is_shown_and_asks_for_no_gpu(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, kept = tmp_path / "cpu.log", tmp_path / "c.json"
    log.write_text(CPU, encoding="utf-8")
    for gpu in ([], ["--gpu", "H100"]):
        assert main(["explain", str(log), *gpu]) == 0
        out, err = capsys.readouterr()
        assert err == "" and "--gpu NAME" not in out
        assert "the log is of vLLM's CPU build" in out and "none: vLLM's CPU build" in out
        assert "CPU KV cache size" in out and "174,720" in out and "GPU KV" not in out
        assert main(["calibrate", str(log), *gpu, "--calibration", str(kept)]) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == 1 and "CPU build" in err
    assert not kept.exists()


ENDED = (
    V019
    + """\
(APIServer pid=7) INFO 11-20 10:01:00 [api.py:10] Application startup complete.
(EngineCore pid=55) INFO 11-20 10:05:00 [loggers.py:9] Avg prompt throughput: 9.1 tokens/s
(EngineCore pid=55) ERROR 11-20 10:06:00 [core.py:9]   File "gpu_model_runner.py", line 5, in \
_get_prompt_logprobs_dict
(EngineCore pid=55) ERROR 11-20 10:06:00 [core.py:9] torch.OutOfMemoryError: CUDA out of memory. \
Tried to allocate 3.91 GiB. GPU 0 has a total capacity of 79.19 GiB of which 812.50 MiB is free.
"""
)


def test_an_engine_that_ran_out_of_memory_under_load() -> None:
    found = explained(ENDED)
    assert found.log.started and found.log.refusal is None
    ended = found.log.ended
    assert ended is not None and ended.during == "prompt logprobs"
    assert (ended.wanted, ended.left) == (3.91, pytest.approx(812.5 / 1024))
    told = " ".join(found.notes)
    assert "asked for 3.91 GiB with 0.79 free" in told
    assert "it was prompt logprobs" in told and "--max-num-batched-tokens" in told
    assert found.to_dict()["ended"]["during"] == "prompt logprobs"


def test_an_engine_that_has_not_started_gave_up() -> None:
    lines = ENDED.replace("Application startup complete", "").replace("Avg prompt throughput", "")
    log = explained(lines).log
    assert log.ended is None and log.refusal is not None and not log.started


def test_what_is_left_is_compared() -> None:
    """78.68 GiB free, 75.23 requested, 0.81 of graphs that 0.19 does not deduct."""
    part = next(part for part in explained(V019).parts if part.name == "left on the GPU")
    assert part.actual == pytest.approx((78.68 - 75.23 - 0.81) * GIB, abs=0.02 * GIB)
    assert part.within_band


def test_without_a_function_in_the_traceback_every_risk_is_named() -> None:
    told = " ".join(explained(ENDED.replace("_get_prompt_logprobs_dict", "forward")).notes)
    assert "it may have been prompt logprobs" in told and "memory in pieces" in told
