"""``vllm-kv-planner fit``: what it prints, in every format, and its exit codes."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest

from tests.examples import output_of
from vllm_kv_planner.capacity.fit.fit import fit
from vllm_kv_planner.cli import main

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
ASKED = ["fit", LLAMA, "--gpu", "L4,H100", "--context", "32K", "--concurrency", "20"]


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(list(arguments))
    out, err = capsys.readouterr()
    return code, out, err


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("vllm-kv-planner: error: ") and err.count("\n") == 1
    return err


def test_a_table_and_its_commands(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, *ASKED, "--kv-cache-dtype", "auto,fp8")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert "20 requests of 32,768 tokens at once, up to 8 GPUs" in lines[0]
    table = lines[2 : lines.index("", 2)]
    assert max(map(len, table)) <= 120
    assert table[1].split()[:4] == ["1", "1", "x", "H100-SXM-80GB"]
    commands = [line for line in lines if line.startswith("vllm serve ")]
    assert f"vllm serve {LLAMA} --max-model-len 32768 --kv-cache-dtype fp8" in commands
    assert "fewer are not enough: " in out
    assert "\033" not in out


def test_wide_tables_stay_narrow(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--variant", "Qwen/Qwen2.5-Coder-32B-Instruct-AWQ", "--price", "H100=2.5,L40S=1"]
    code, out, _ = run(
        capsys, "fit", "meta-llama/Llama-3.1-70B-Instruct", "--context", "8K", *arguments
    )
    assert code == 0
    assert (
        max(len(line) for line in out.splitlines() if not line.startswith(("vllm", "note: ")))
        <= 140
    )
    assert "price" in out and "Qwen2.5-Coder-32B-Instruct-AWQ" in out


def test_nothing_does_it(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, *ASKED[:3], "L4", *ASKED[4:], "--max-gpus", "2")
    assert code == 1
    assert "no set-up fits" in out
    assert "nearest: 2 x L4-24GB" in out
    assert re.search(r"--max-model-len \d+: fits: ", out)
    assert "does not fit on\n  L4-24GB: 2 GPUs: KV cache for " in out


def test_json_is_the_whole_answer(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, *ASKED, "--format", "json", "--top", "2")
    answer = json.loads(out)
    assert code == 0
    assert list(answer) == [
        "schema_version",
        "models",
        "gpus",
        "max_model_len",
        "concurrency",
        "max_gpus",
        "max_nodes",
        "offers",
        "tried",
        "misses",
        "nearest",
        "suggestions",
        "notes",
    ]
    assert len(answer["offers"]) == 2
    assert answer["offers"][0]["command"].startswith("vllm serve ")
    assert "request" not in answer["offers"][0]


def test_csv_has_every_figure(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, *ASKED, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert rows
    for row in rows:
        assert int(row["num_gpus"]) * 2**30 < int(row["total_memory_bytes"])
        assert int(row["sure_requests"]) >= 20


def test_markdown(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, *ASKED, "--format", "markdown")
    assert out.startswith(f"**{LLAMA}: ")
    assert "| # | GPUs |" in out and "```sh\n# 1\nvllm serve" in out
    assert "\n- " in out


@pytest.mark.parametrize("form", ["text", "markdown", "csv", "json"])
@pytest.mark.parametrize("question", ["max-model-len", "min-utilization", "min-gpus", "suggest"])
def test_questions(capsys: pytest.CaptureFixture[str], question: str, form: str) -> None:
    gpus = "L4" if question == "suggest" else "L4,H100"
    code, out, err = run(
        capsys,
        *["fit", LLAMA, "--gpu", gpus, "--question", question, "--format", form],
        *(["--context", "8K"] if question != "max-model-len" else []),
    )
    assert (code, err) == (0, "")
    assert "L4-24GB" in out or form == "csv"
    if form == "json":
        json.loads(out)
    elif form == "csv":
        assert len(list(csv.reader(io.StringIO(out)))) >= 3
    elif question != "suggest":
        assert "vllm serve" in out


def test_questions_without_an_answer(capsys: pytest.CaptureFixture[str]) -> None:
    seventy = "meta-llama/Llama-3.1-70B-Instruct"
    for question in ("max-model-len", "min-utilization", "min-gpus"):
        code, out, _ = run(
            capsys, "fit", seventy, "--gpu", "L4", "--question", question, "--max-gpus", "1"
        )
        assert code == 1
        assert "vllm serve" not in out
    code, out, _ = run(capsys, "fit", seventy, "--gpu", "L4", "--question", "suggest")
    assert code == 1
    assert "does not fit" in out


def test_a_pasted_command_keeps_its_flags(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(
        capsys,
        *["fit", "--gpu", "L4", "--context", "8K", "--"],
        *["vllm", "serve", LLAMA, "--enforce-eager", "-tp", "2", "--port", "8000"],
    )
    assert code == 0
    (command,) = [line for line in out.splitlines() if line.startswith("vllm serve")]
    assert "--enforce-eager" in command and "--tensor-parallel-size 2" in command
    assert "--max-model-len 8192" in command
    assert "left out of the commands: --port" in out


def test_flags_at_their_default_are_fixed_too(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, *ASKED, "-tp", "1", "-pp", "1", "--format", "json")
    offers = json.loads(out)["offers"]
    assert offers
    assert {each["tensor_parallel_size"] for each in offers} == {1}
    assert {each["pipeline_parallel_size"] for each in offers} == {1}
    _, out, _ = run(capsys, *ASKED, "--port", "8000")
    assert "left out of the commands: --port" in out


def test_a_hand_made_model(capsys: pytest.CaptureFixture[str]) -> None:
    custom = ["--custom", "--layers", "32", "--kv-heads", "8", "--head-dim", "128"]
    custom += ["--kv-cache-memory-bytes", "10G"]
    code, out, _ = run(capsys, "fit", *custom, "--gpu", "L4", "--concurrency", "4")
    assert code == 0
    assert "vllm serve MODEL --max-model-len 8192" in out


def test_a_device_of_another_size(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "fit", "gpt2", "--gpu", "L4", "--gpu-memory", "10GiB")
    assert code == 0
    assert "1 x L4-24GB@10.0GiB" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "no model named"),
        (["gpt2", "gpt2-xl"], "one MODEL; others that would do: --variant"),
        (["gpt2", "--gpu", "H1000"], "unknown GPU 'H1000'"),
        (["gpt2", "--gpu", "L4,T4", "--gpu-memory", "8GiB"], "name one --gpu"),
        (["gpt2", "--concurrency", "1e3"], "--concurrency: '1e3' is not a whole number"),
        (["gpt2", "--concurrency", "0"], "--concurrency: 0 is not a whole number from 1"),
        (["gpt2", "--context", "1.5K"], "--context: '1.5K'"),
        (["gpt2", "--context", "2K"], "greater than the derived max_model_len"),
        (["gpt2", "--context", "512", "--max-model-len", "256"], "the same: give one"),
        (["gpt2", "--max-gpus", "x"], "--max-gpus: invalid int value: 'x'"),
        (["gpt2", "--max-nodes", "-1"], "--max-nodes: -1"),
        (["gpt2", "--gpu-counts", "1,x"], "--gpu-counts '1,x': expected numbers"),
        (["gpt2", "--gpu-counts", "0"], "--gpu-counts: 0 is not a whole number from 1"),
        (["gpt2", "--gpu-counts", ","], "--gpu-counts: [] is not a list"),
        (["gpt2", "--kv-cache-dtype", "fp9"], "fp9"),
        (["gpt2", "--price", "H100"], "expected GPU=PRICE"),
        (["gpt2", "--price", "H100=x"], "expected GPU=PRICE"),
        (["gpt2", "--price", "H100=nan"], "is not a number above 0"),
        (["gpt2", "--price", "H100=1", "--gpu", "L4"], "--price: none for L4-24GB"),
        (["gpt2", "--question", "why"], "--question: invalid choice: 'why'"),
        (["gpt2", "--question", "suggest", "--gpu", "L4,T4"], "name one --gpu"),
        (
            ["gpt2", "--question", "max-model-len", "--kv-cache-dtype", "auto,fp8"],
            "name one --kv-cache-dtype",
        ),
        (["gpt2", "--topp", "3"], "unknown flag --topp; did you mean --top"),
        (["gpt2", "--gpu", "L4", "--", "vllm", "serve", "gpt2"], "before --"),
        (["--gpu", "L4", "--", "python", "x.py"], "no vLLM server in the command"),
    ],
)
def test_nonsense(capsys: pytest.CaptureFixture[str], arguments: list[str], words: str) -> None:
    assert words in refused(capsys, "fit", *arguments)


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["fit", "--help"])
    assert left.value.code == 0
    assert "--question" in capsys.readouterr().out


def test_notebooks_show_a_short_table() -> None:
    found = fit(LLAMA, gpu=["L4", "H100"], context=32768, concurrency=20)
    shown = found._repr_html_()
    assert shown.partition("<details>")[0].count("<tr>") == 1 + len(found.offers)
    assert "<pre># 1\nvllm serve" in shown
    assert "no set-up fits" in fit(LLAMA, gpu="T4", max_gpus=1)._repr_html_()
    assert "<b>Qwen" not in fit("gpt2", gpu="L4")._repr_html_()


def test_a_data_frame() -> None:
    pytest.importorskip("pandas")
    frame = fit(LLAMA, gpu="H100", context=8192).to_pandas()
    assert list(frame["gpu"]) == ["H100-SXM-80GB"]
    assert frame["command"][0].startswith("vllm serve ")


def test_the_notebook_example() -> None:
    printed = output_of("fit_in_a_notebook.py")
    assert "vllm serve meta-llama/Llama-3.1-8B-Instruct --max-model-len 32768" in printed
    assert "fits: True" in printed
    assert "largest max_model_len" in printed
    assert "--kv-cache-dtype fp8: fits" in printed
