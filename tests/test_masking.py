"""Secrets: the command that is started gets them, and nothing that is shown repeats them."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest

from tests.launches import FITS, launch, record, with_fake_vllm
from tests.work import calls_in
from vllm_kv_planner.capacity.launch import plan_launch
from vllm_kv_planner.cli import main
from vllm_kv_planner.engine_args.flag_table import all_flags
from vllm_kv_planner.errors import InputError, PlannerError
from vllm_kv_planner.masking import hiding, is_secret, masked_text, masked_words

MARK = "MuStNotAppear7"
OTHER = f"{MARK}b"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return with_fake_vllm(tmp_path)


BEHIND: list[list[str]] = [
    ["--api-key", MARK],
    ["--api-key", MARK, OTHER, f"{MARK}c"],
    [f"--api-key={MARK}"],
    ["--api_key", MARK],
    [f"--api_key={MARK}"],
    ["--hf-token", MARK],
    [f"--hf-token={MARK}"],
    ["--model-loader-extra-config", f'{{"aws_secret_access_key": "{MARK}"}}'],
    ["--otlp-traces-endpoint", f"http://user:{MARK}@collector:4317"],
    ["--middleware", f"http://host/?token={MARK}&x=1"],
    ["--chat-template", f"hf_{MARK}0123456789"],
]
BEHIND += [
    ["--hf-overrides", f'{{"auth": {{"secret": ["{MARK}"]}}, "x": 1}}'],
    ["--hf-overrides", json.dumps({"token": f'{MARK} "é"\n'}, ensure_ascii=False)],
]
UNKNOWN: list[list[str]] = [
    ["--ssl-keyfile-password", MARK],
    [f"--my-secret={MARK}"],
    ["--x-credential", MARK, OTHER],
    ["-H", f"Authorization: Bearer {MARK}"],
    ["--header", f"X-Api-Key: {MARK}"],
]
"""Flags of other versions, or of what stands before vLLM."""
BEFORE: list[list[str]] = [
    [f"HF_TOKEN={MARK}"],
    [f"VLLM_API_KEY={MARK} with a space"],
    ["env", f"AWS_SECRET_ACCESS_KEY={MARK}"],
    ["env", f"MY_PASSWORD={MARK}", f"API_TOKENS={OTHER}"],
    ["env", f"https_proxy=http://me:{MARK}@proxy:3128"],
]


@pytest.mark.parametrize("words", BEHIND, ids=" ".join)
def test_the_command_gets_what_nothing_shows(folder: Path, words: list[str]) -> None:
    done = launch(folder, "--gpu", "L4", "--", *FITS, *words)
    assert done.returncode == 0, done.stderr
    assert record(folder)["argv"] == [*FITS[1:], *words]
    assert MARK not in done.stderr + done.stdout
    last = done.stderr.splitlines()[-1]
    assert last.startswith("$ vllm serve gpt2") and words[0].partition("=")[0] in last


@pytest.mark.parametrize("words", UNKNOWN, ids=" ".join)
def test_flags_nobody_knows(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["launch", "--dry-run"], ["plan"]):
        main([*command, "--gpu", "L4", "--", *FITS, *words])
        out, err = capsys.readouterr()
        assert out + err and MARK not in out + err
    shown = " ".join(masked_words(["sudo", *words, "vllm", "serve", "gpt2"]))
    assert MARK not in shown and words[0].partition("=")[0] in shown


@pytest.mark.parametrize("words", BEFORE, ids=" ".join)
def test_variables_too(folder: Path, words: list[str]) -> None:
    done = launch(folder, "--gpu", "L4", "--", *words, *FITS)
    assert done.returncode == 0, done.stderr
    assert MARK not in done.stderr + done.stdout
    environment = record(folder)["env"]
    assert isinstance(environment, dict)
    name, _, value = words[-1].partition("=")
    assert environment[name] == value


CONTAINER: list[list[str]] = [
    ["-e", f"HF_TOKEN={MARK}"],
    [f"-eHF_TOKEN={MARK}"],
    ["--env", f"HF_TOKEN={MARK}"],
    [f"--env=HF_TOKEN={MARK}"],
    ["-e", f"A_KEY={MARK}", "-e", f"B_SECRET={OTHER}", "--env", f"C_CREDENTIALS={MARK}"],
    ["--build-arg", f"PIP_PASSWORD={MARK}"],
]


@pytest.mark.parametrize("words", CONTAINER, ids=" ".join)
def test_a_container(folder: Path, words: list[str]) -> None:
    program = folder / "bin" / "docker"
    program.write_text((folder / "bin" / "vllm").read_text())
    program.chmod(0o755)
    image = ["vllm/vllm-openai:latest", "--model", "gpt2", "--kv-cache-memory-bytes", "1G"]
    done = launch(folder, "--gpu", "L4", "--", "docker", "run", *words, *image)
    assert done.returncode == 0, done.stderr
    assert record(folder)["argv"] == ["run", *words, *image]
    assert MARK not in done.stderr + done.stdout


ERRORS: list[list[str]] = [
    ["--max-model-len", "many"],
    ["--max-model-lenn", "8K"],
    ["--model", "gpt2"],
    ["--gpu-memory-utilization", "3"],
    ["--quantization=nonsense"],
    ["extra", "argument"],
    [">", "log"],
    ["'"],
]


@pytest.mark.parametrize("command", ["launch", "plan", "fit", "workload"])
def test_no_refusal_repeats_a_secret(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    own = {
        "launch": ["--dry-run"],
        "fit": ["--context", "512"],
        "workload": ["--prompt-tokens", "5", "--output-tokens", "5", "--requests", "2"],
    }.get(command, [])
    for number, secret in enumerate(BEHIND):
        for wrong in (ERRORS[number % len(ERRORS)], ERRORS[(number + 3) % len(ERRORS)]):
            words = ["--gpu", "L4", "--", "vllm", "serve", "gpt2", *wrong, *secret]
            main([command, *own, *words])
            main([command, *own, *words[:5], *secret, *wrong])
            main([command, *own, *words[:3], " ".join([*words[3:6], *secret, *wrong])])
            out, err = capsys.readouterr()
            assert MARK not in out + err, (words, out, err)


def test_json_and_notes(capsys: pytest.CaptureFixture[str]) -> None:
    for secret in BEHIND:
        for form in ("json", "csv", "markdown", "text"):
            words = ["plan", "--gpu", "L4", "--format", form, "--", *FITS, *secret]
            main(words)
            out, err = capsys.readouterr()
            assert out and MARK not in out + err, (words, out)


def test_the_python_api(folder: Path) -> None:
    made = plan_launch([*FITS, "--api-key", MARK], gpu="L4")
    assert made.command.words[-1] == MARK
    assert MARK not in repr(made) + str(made.command) + str(made.plan)
    with pytest.raises(InputError) as refused:
        plan_launch(["vllm", "serve", "gpt2", "--api-key", MARK, "--quantization", MARK], gpu="L4")
    assert MARK not in str(refused.value)


def test_messages() -> None:
    with hiding(["serve", "--api-key", MARK]):
        assert MARK not in str(PlannerError(f"no such thing: {MARK}"))
    for text in (
        f"https://user:{MARK}@host/path: no answer",
        f"Authorization: Basic {MARK}",
        f"api_key='{MARK}', model='x'",
        f"bearer {MARK}",
        f'{{"hf_token": "{MARK}"}}',
        f"hf_{MARK}0123456789",
    ):
        assert MARK not in str(PlannerError(text)), text
    for plain in (
        "--hf-token: expected one argument",
        "unknown key: 'x'",
        "--api-key before --: the model stands in the pasted command",
        "max_num_batched_tokens=8192, tokenizer=x",
        "long_prefill_token_threshold=4 of 8",
    ):
        assert masked_text(plain) == plain


def test_which_flags_of_vllm_hold_secrets() -> None:
    found = {flag.field for flag in all_flags() if any(map(is_secret, flag.spellings))}
    assert found == {"api_key", "hf_token"}


def test_random_commands() -> None:
    """Wherever a secret stands, it is hidden, and the words around it are not."""
    random = Random(7)
    plain = ["--port", "8000", "-v", "a:b", "--max-model-len=8K", "image", "A=b", "--x", "1,2"]
    for _ in range(3000):
        secret = "".join(random.choice("aZ9_%/+.=") for _ in range(12)) + MARK
        name = random.choice(["HF_TOKEN", "x_api_key", "DbPassword", "MY-SECRET", "AUTH"])
        flag = random.choice(["--", "-"]) + name
        form = random.choice(
            [
                [f"--{name}", secret],
                [flag, secret],
                [f"{flag}={secret}"],
                ["-e", f"{name}={secret}"],
                [f"--env={name}={secret}"],
                [f"https://u:{MARK}@h"],
            ]
        )
        before = random.sample(plain, 3)
        shown = masked_words([*before, *form, "--end", "word"])
        assert MARK not in " ".join(shown), (before, form, shown)
        assert shown[: len(before)] == before or before[-1].startswith("-")
        assert shown[-2:] == ["--end", "word"]


def test_a_log_is_not_repeated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tests.start_logs import V019

    log = tmp_path / "a.log"
    text = V019.replace("'***'", f"'{MARK}'").replace(
        "'max_model_len'", f"'hf_token': '{MARK}', 'max_model_len'"
    )
    refused = f"ERROR torch.OutOfMemoryError: CUDA out of memory. api_key='{MARK}' HF_TOKEN={MARK}"
    log.write_text(f"{text}{refused}\n", encoding="utf-8")
    kept = tmp_path / "c.json"
    for words in (
        ["explain", str(log), "--gpu", "H100"],
        ["explain", str(log), "--gpu", "H100", "--format", "json"],
        ["calibrate", str(log), "--gpu", "H100", "--calibration", str(kept)],
    ):
        assert main(words) == 0
        out, err = capsys.readouterr()
        assert MARK not in out + err
    assert MARK not in kept.read_text() and json.loads(kept.read_text())


def test_a_hub_with_a_password_is_named_without(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_ENDPOINT", f"http://user:{MARK}@127.0.0.1:9")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    assert main(["plan", "nobody/nothing", "--gpu", "L4"]) == 2
    out, err = capsys.readouterr()
    assert MARK not in out + err


def test_a_command_inside_a_word() -> None:
    inner = f"HF_TOKEN={MARK} vllm serve gpt2 --api-key {OTHER} {MARK} --port 80"
    shown = masked_words(["sh", "-c", inner])
    assert shown == ["sh", "-c", "HF_TOKEN=… vllm serve gpt2 --api-key … … --port 80"]


@pytest.mark.parametrize(
    "command",
    [
        ["plan"],
        ["fit", "--context", "100"],
        ["compare", "gpt2"],
        ["compare", "gpt2", "--format", "json"],
        ["sweep", "gpt2", "--workers", "1"],
        ["sweep", "gpt2", "--workers", "1", "--format", "jsonl"],
    ],
    ids=" ".join,
)
def test_an_address_with_a_password(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for scheme in ("https://user:{}@huggingface.co/org/name", "hf://{}@org/name", "s3://k:{}@b/x"):
        main([*command, scheme.format(MARK), "--gpu", "L4"])
        out, err = capsys.readouterr()
        assert MARK not in out + err and len(out + err) > 20


def test_a_second_key_and_what_a_shell_would_split(capsys: pytest.CaptureFixture[str]) -> None:
    shells = {
        f'vllm serve gpt2 --api-key "{MARK} {OTHER}" --port 8': "--api-key … --port 8",
        f"echo {MARK} | login --token {MARK}; vllm serve gpt2": "echo … | login --token …; vllm",
        f"HF_TOKEN='{MARK} x' vllm serve gpt2 && y": "HF_TOKEN=… vllm serve gpt2 && y",
        f'vllm serve gpt2 --api-key "{MARK}': 'vllm serve gpt2 --api-key "…',
    }
    for text, shown in shells.items():
        (_, _, masked) = masked_words(["sh", "-c", text])
        assert MARK not in masked and shown in masked, masked
    assert main(["plan", "--", *FITS, "--api-key=a", MARK]) == 2
    assert MARK not in capsys.readouterr().err
    many = [f"--api-key=key-{i}" for i in range(5000)]
    assert calls_in(lambda: masked_words(["vllm", "serve", *many])) < 2_000_000


def test_fit_hides_them_in_the_line_it_makes(capsys: pytest.CaptureFixture[str]) -> None:
    connector = {"kv_connector": "NixlConnector", "kv_role": "kv_both"}
    secret = json.dumps({**connector, "kv_connector_extra_config": {"password": MARK}})
    for words in (["--kv-transfer-config", secret], ["--hf-overrides", f'{{"token": "{MARK}"}}']):
        for form in ("text", "json", "markdown"):
            flags = ["--gpu", "L4", "--max-gpus", "1", "--format", form]
            assert main(["fit", *flags, "--", *FITS, *words]) == 0
            out, err = capsys.readouterr()
            assert out and MARK not in out + err
