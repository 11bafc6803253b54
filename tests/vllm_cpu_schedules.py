"""Run requests on real vLLM engines on the CPU and print every schedule; see
``test_workload_cpu_engine.py``.

``python vllm_cpu_schedules.py FOLDER`` with vLLM's CPU build: cases as JSON lines on stdin, the
steps of each as one line on stdout. The engine, its core, its model: all real. Only looked at are
the scheduler's queues, before and after.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from typing import Any

from vllm_cpu_engines import SECONDS, make_model


class Watch:
    """Notes what the engine's scheduler does, one row a step as in ``workload_truth.py``."""

    def __init__(self, scheduler: Any) -> None:
        self.scheduler = scheduler
        self.rows: list[list[Any]] = []
        self.row_of: dict[int, list[Any]] = {}
        self.preempted: list[int] = []
        self.schedule, scheduler.schedule = scheduler.schedule, self.noting_schedule
        self.update, scheduler.update_from_output = scheduler.update_from_output, self.noting_update
        self.preempt, scheduler._preempt_request = scheduler._preempt_request, self.noting_preempt

    def noting_preempt(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        self.preempted.append(number(request.request_id))
        return self.preempt(request, *args, **kwargs)

    def noting_schedule(self, *args: Any, **kwargs: Any) -> Any:
        self.preempted = []
        ran = {each.request_id for each in self.scheduler.running}
        output = self.schedule(*args, **kwargs)
        tokens = output.num_scheduled_tokens
        if tokens:
            running = self.scheduler.running
            new = [each for each in running if each.request_id not in ran]
            pool = self.scheduler.kv_cache_manager.block_pool
            row = [
                len(self.rows),
                {str(number(each)): count for each, count in tokens.items()},
                [number(each.request_id) for each in new],
                self.preempted,
                [],
                [each.num_computed_tokens - tokens[each.request_id] for each in new],
                len(running),
                sum(self.scheduler.get_request_counts()) - len(running),
                pool.num_gpu_blocks - 1 - pool.get_num_free_blocks(),
            ]
            self.rows.append(row)
            self.row_of[id(output)] = row
        return output

    def noting_update(self, output: Any, *args: Any, **kwargs: Any) -> Any:
        there = [each for each in output.num_scheduled_tokens if each in self.scheduler.requests]
        result = self.update(output, *args, **kwargs)
        if id(output) in self.row_of:
            ended = [number(each) for each in there if each not in self.scheduler.requests]
            self.row_of.pop(id(output))[4] = ended
        return result


def number(request_id: str) -> int:
    """``LLM.generate`` numbers its requests; the engine may add to the id."""
    return int(request_id.partition("-")[0])


def answer(case: dict[str, Any], root: str) -> dict[str, Any]:
    """One case; what goes wrong is part of the answer."""
    folder = os.path.join(root, case["model"])
    signal.alarm(SECONDS)
    try:
        if not os.path.exists(folder):
            make_model(folder, case["config"])
        from vllm import LLM, SamplingParams

        engine = LLM(
            model=folder, skip_tokenizer_init=True, enforce_eager=True, **case["arguments"]
        )
        core = engine.llm_engine.engine_core.engine_core
        watch = Watch(core.scheduler)
        engine.generate(
            [{"prompt_token_ids": tokens} for tokens, _ in case["requests"]],
            [
                SamplingParams(max_tokens=count, ignore_eos=True, detokenize=False)
                for _, count in case["requests"]
            ],
            use_tqdm=False,
        )
        return {"steps": watch.rows, "batches": core.batch_queue_size}
    except BaseException as error:
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {error}"}


def main() -> None:
    """Keep stdout for answers; everything else goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    import vllm.v1.engine.core
    import vllm.v1.worker.cpu_worker  # noqa: F401

    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            try:
                print(json.dumps(answer(json.loads(line), sys.argv[1])), file=answers, flush=True)
            finally:
                os._exit(0)
        os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
