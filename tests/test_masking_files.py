"""Secrets in a file that a command names: no command shows them, whatever else is wrong in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from vllm_kv_planner.cli import main
from vllm_kv_planner.masking import masked_text

MARK = "MuStNotAppear7"

FILES = [
    f"api-key: {MARK}\nmax-model-len: 512\n",
    f"api-key: [{MARK}, b]\nmax-model-len: {MARK}\n",
    f"api_key: {MARK}\nzzz: {MARK}\n",
    f"api-key: {MARK}\nquantization: {MARK}\n",  # shown in lower case
    f"hf-overrides: {{auth: {{secret: {MARK}}}}}\nport: {MARK}\n",
    f"hf-token: {MARK}\nrevision: {MARK}\n",
    f"middleware: http://u:{MARK}@h/\nport: http://u:{MARK}@h/\n",
    f"api-key: {MARK}\n{MARK}: 1\n",
    f"api-key: *{MARK}\n",
    f"api-key:\n  - !{MARK} x\n",
    f"api-key: {MARK} @\n bad: [\n",
    f"setups: [{{model: gpt2, api-key: {MARK}}}]\n",
]
"""Good files of flags, and such as are refused for what stands beside a secret, or for it."""


@pytest.mark.parametrize("text", FILES)
def test_a_config_file(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("yaml")
    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text(text)
    served = ["vllm", "serve", "gpt2", "--config", "c.yaml"]
    replay = ["--prompt-tokens", "5", "--output-tokens", "5", "--requests", "2"]
    for line in (
        ["plan", "--gpu", "L4", "--format", "json", "--", *served],
        ["fit", "--gpu", "L4", "--max-gpus", "1", "--context", "512", "--", *served],
        ["launch", "--dry-run", "--gpu", "L4", "--", *served],
        ["workload", "--gpu", "L4", *replay, "--", *served],
        ["compare", "gpt2", "--length", "1K", "--variant", "a=--config c.yaml"],
        *(["sweep", "--file", "c.yaml"], ["explain", "c.yaml"], ["calibrate", "c.yaml"]),
    ):
        main(line)
        out, err = capsys.readouterr()
        assert out + err and MARK.lower() not in (out + err).lower(), (line, out, err)


def test_a_file_is_forgotten_with_its_command(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    file = tmp_path / "c.yaml"
    file.write_text(f"api-key: {MARK}\nport: {MARK}\n")
    main(["plan", "--gpu", "L4", "--", "vllm", "serve", "gpt2", "--config", str(file)])
    assert masked_text(f"no {MARK}") == f"no {MARK}"
