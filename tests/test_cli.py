"""The command line: what it prints, where, and its exit codes."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys

import pytest

from vllm_kv_planner.cli import main
from vllm_kv_planner.version import __version__

GPT2 = ["plan", "gpt2", "--gpu", "H100", "--kv-cache-memory-bytes"]


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = main(arguments)
    out, err = capsys.readouterr()
    return code, out, err


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    code, out, err = run(arguments, capsys)
    assert (code, out) == (2, "")
    assert err.startswith("vllm-kv-planner: error: ") and err.count("\n") == 1
    return err


def test_a_plan_that_fits(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run([*GPT2, "1G"], capsys)
    assert (code, err) == (0, "")
    # 1 GiB / (12 layers x 49,152 bytes a block of 16 tokens)
    assert "1,820" in out
    assert "\nfits" in out
    assert "\033" not in out


def test_a_plan_that_does_not_fit_says_what_would(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run([*GPT2, "10M"], capsys)
    assert code == 1
    # 17 blocks of 589,824 bytes in 10 MiB, one held back: 16 x 16 tokens
    assert "does not fit" in out
    assert "estimated maximum model length is 256" in out


def test_memory_is_predicted_where_it_is_not_given(capsys: pytest.CaptureFixture[str]) -> None:
    model = "meta-llama/Llama-3.1-8B-Instruct"
    code, out, _ = run(["plan", model, "--gpu", "H100", "--format", "json"], capsys)
    memory = json.loads(out)["memory"]
    parts = ("weights", "activation_peak", "cuda_graph", "non_torch", "available_kv_cache")
    assert code == 0
    assert memory["requested_bytes"] == sum(memory[f"{part}_bytes"] for part in parts)
    # engines print "Model loading took 14.9889 GiB" for Llama-3-8B
    assert abs(memory["weights_bytes"] / 2**30 - 14.9889) < 0.01
    assert memory["uncertainty_bytes"] > 0


def test_a_model_that_is_too_large_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(["plan", "deepseek-ai/DeepSeek-V3", "--gpu", "H100", "-tp", "8"], capsys)
    assert code == 1
    assert "no memory is available for the cache blocks" in out


def test_json_is_the_contract(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run([*GPT2, "1G", "--format", "json"], capsys)
    plan = json.loads(out)
    assert code == 0
    assert list(plan) == [
        "schema_version",
        "planner",
        "model",
        "gpu",
        "engine",
        "memory",
        "kv_cache",
        "verdict",
        "limits",
        "changes",
        "host",
        "headroom",
        "fits",
        "notes",
    ]
    assert plan["schema_version"] == 1
    assert plan["planner"] == {
        "name": "standalone",
        "version": __version__,
        "vllm_version": "0.33.0",
    }
    assert list(plan["model"]) == ["id", "architecture", "config_source", "revision", "num_layers"]
    assert plan["kv_cache"]["bytes_per_token"] == 36_864
    assert plan["kv_cache"]["groups"] == [
        {
            "kind": "full_attention",
            "num_layers": 12,
            "block_size": 16,
            "page_size_bytes": 49_152,
            "blocks_per_request": 64,
        }
    ]
    assert (plan["verdict"], plan["limits"], plan["changes"]) == ("fits", [], [])
    assert plan["host"] is None
    # beside the memory that was given, on the GPU that was named
    assert plan["memory"]["requested_bytes"] is None
    assert 240e6 < plan["memory"]["weights_bytes"] < 270e6


def test_markdown_and_csv_say_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    _, markdown, _ = run([*GPT2, "1G", "--format", "markdown"], capsys)
    assert "| GPU blocks | 1,820 | num_gpu_blocks |" in markdown
    _, table, _ = run([*GPT2, "1G", "--format", "csv"], capsys)
    (row,) = csv.DictReader(io.StringIO(table))
    assert row["kv_cache.num_gpu_blocks"] == "1820"
    assert json.loads(row["kv_cache.groups"])[0]["num_layers"] == 12


def test_several_models(capsys: pytest.CaptureFixture[str]) -> None:
    models = ["gpt2", "facebook/opt-125m"]
    _, out, _ = run(["plan", *models, "--kv-cache-memory-bytes", "1G", "--format", "json"], capsys)
    assert [plan["model"]["id"].split("/")[-1] for plan in json.loads(out)] == ["gpt2", "opt-125m"]
    _, table, _ = run(["plan", *models, "--kv-cache-memory-bytes", "1G", "--format", "csv"], capsys)
    assert len(list(csv.DictReader(io.StringIO(table)))) == 2


def test_a_pasted_command_is_the_same_plan(capsys: pytest.CaptureFixture[str]) -> None:
    _, ours, _ = run([*GPT2, "1G", "--max-model-len", "512", "--format", "json"], capsys)
    command = "vllm serve gpt2 --kv_cache_memory_bytes 1G --max-model-len=512 --port 8000"
    _, pasted, _ = run(
        ["plan", "--gpu", "H100", "--format", "json", "--", *command.split()], capsys
    )
    assert json.loads(ours) == json.loads(pasted)


def test_a_hand_made_model(capsys: pytest.CaptureFixture[str]) -> None:
    shape = ["--custom", "--layers", "80", "--kv-heads", "8", "--head-dim", "128"]
    code, out, _ = run(
        ["plan", *shape, "--kv-cache-memory-bytes", "40G", "--format", "json"], capsys
    )
    plan = json.loads(out)
    assert code == 0
    # 2 x 80 x 8 x 128 x 2 bytes
    assert plan["kv_cache"]["bytes_per_token"] == 327_680
    assert plan["model"]["config_source"] == "custom"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["plan", "gpt2", "--max-model-length", "1"], "--max-model-len?"),
        (["plan", "gpt2", "--gpu", "H1000", "--kv-cache-memory-bytes", "1G"], "H100"),
        (["plan", "gpt2", "--kv-cache-memory-bytes", "1GX"], "kv-cache-memory-bytes"),
        (["plan", "gpt2", "--kv-cache-memory-bytes", "1G", "--kv-cache-dtype", "fp7"], "fp8"),
        (["plan", "gpt2", "--kv-cache-memory-bytes", "1G", "-tp", "5"], "divisible"),
        (["plan", "gpt2", "--kv-cache-memory-bytes", "1G", "--max-model-len", "4096"], "1024"),
        (["plan", "gpt2", "--kv-cache-memory-bytes", "1G", "--vllm-version", "0.1"], "0.10"),
        (["plan", "gpt2", "--kv-cache-memory-bytes", "1G", "--layers", "3"], "--custom"),
        (["plan", "--custom", "--layers", "3"], "--kv-heads"),
        (["plan", "gpt2", "--gpu", "auto", "--kv-cache-memory-bytes", "1G"], "--gpu H100"),
        (["plan", "gpt2", "--gpu-memory", "many", "--kv-cache-memory-bytes", "1G"], "many"),
        (["plan"], "no model"),
        (["plan", "./nowhere/config.json", "--kv-cache-memory-bytes", "1G"], "nowhere"),
        (["fly"], "plan"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said in refused(arguments, capsys)


def test_memory_of_the_device_decides_the_batch_defaults(
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = ["--kv-cache-memory-bytes", "1G", "--format", "json"]
    _, out, _ = run(["plan", "gpt2", "--gpu-memory", "24GiB", *flags], capsys)
    engine = json.loads(out)["engine"]
    # under 70 GiB vLLM's server takes 2048 tokens and 256 requests a step
    assert (engine["max_num_batched_tokens"], engine["max_num_seqs"]) == (2048, 256)


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"], capsys)[:2] == (0, f"vllm-kv-planner {__version__}\n")
    code, out, _ = run(["--help"], capsys)
    assert code == 0 and "plan" in out
    with pytest.raises(SystemExit) as left:
        main(["plan", "--help"])
    assert left.value.code == 0
    assert "--kv-cache-memory-bytes" in capsys.readouterr().out


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = f"{sys.executable} -m vllm_kv_planner {' '.join(GPT2)} 1G | head -n 1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert done.stdout == "Engine\n"


@pytest.mark.parametrize("command", ["plan", "paging", "fit", "workload"])
def test_engine_flags_do_not_get_lost_before_the_dashes(command, capsys):
    assert main([command, "-tp", "2", "--", "vllm", "serve", "gpt2"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "--tensor-parallel-size before --" in captured.err


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("fit gpt2 --users 20", "did you mean --concurrency?"),
        ("plan gpt2 --users 20", "did you mean --max-num-seqs?"),
        ("plan gpt2 --output x.json", "--format json > FILE"),
        ("sweep gpt2 --outputs x.csv", "did you mean --output?"),
        ("plan gpt2 --seq-len 2048", "did you mean --max-model-len?"),
        ("fit gpt2 --seq-len 2048", "did you mean --context?"),
        ("plan gpt2 --kv-dtype fp8", "did you mean --kv-cache-dtype?"),
        ("workload gpt2 --qps 5", "did you mean --rate?"),
        ("plan gpt2 --qps 5", "workload has --rate"),
        ("plan gpt2 --batch-size 8", "did you mean --max-num-seqs?"),
        ("paging gpt2 --batch_size 8", "did you mean --scenario?"),
        ("compare gpt2 --json", "did you mean --format json?"),
        ("plan gpt2 --swap-spaces 4", "unknown flag --swap-spaces"),
        ("plan --gpu L4 --foo-bar=3 -- vllm serve gpt2", "unknown flag --foo-bar"),
        (
            "plan --gpu L4 -- vllm serve gpt2 --foo-bar=3",
            "--foo-bar, which vllm serve 0.33 refuses",
        ),
        ("launch --max-model-len 4096 -- vllm serve gpt2", "stands in the command behind --"),
        ("explain log.txt --modell gpt2", "did you mean --model?"),
        ("plan gpt2 --gpu=--", "--gpu: expected a value"),
        ("plan gpt2 --max-model-len=--", "--max-model-len: expected a value"),
        ("plan gpt2 -tp=--", "-tp: expected a value"),
        ("plan gpt2 --gpu=", "--gpu: the value is empty"),
        ("fit gpt2 --gpu=", "--gpu: the value is empty"),
        ("sweep gpt2 --gpu=", "--gpu: the value is empty"),
        ("plan gpt2 --gpu-memory 81559", "say the unit"),
        ("plan gpt2 --gpu= --gpu-memory=", "the value is empty"),
    ],
)
def test_flags_that_the_command_does_not_have(line, said, capsys):
    """Never planned without them: one line on stderr names the flag and what is meant."""
    assert main(line.split()) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert said in captured.err


@pytest.mark.parametrize(("size", "gib"), [("24", 24), ("23.5", 23.5), ("24GiB", 24), ("24G", 24)])
def test_a_memory_without_unit_is_gib(size, gib, capsys):
    assert main(["plan", "gpt2", "--gpu", "L4", "--gpu-memory", size, "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["gpu"]["total_memory_bytes"] == gib * (1 << 30)
