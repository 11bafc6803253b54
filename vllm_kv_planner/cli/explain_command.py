"""``vllm-kv-planner explain``: a real start's log, predicted and actual side by side."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import PlannerError
from .answer_output import rendered
from .log_flags import calibration_of, gaps, log_parser, read_logs
from .output import say

DESCRIPTION = (
    "What a vLLM start-up log says of memory, beside what would have been "
    "predicted, part by part, with the reason of each difference."
)
EPILOG = """\
examples:
  vllm-kv-planner explain vllm.log --gpu H100
  vllm serve gpt2 2>&1 | tee vllm.log; vllm-kv-planner explain vllm.log --gpu L4 --format json
  kubectl logs vllm-0 | vllm-kv-planner explain - --gpu H200 --model Qwen/Qwen3-32B

exit codes: 0 explained, 2 the input is wrong
"""


def run(arguments: Sequence[str]) -> int:
    """Read, plan again, compare, print; returns the exit code."""
    from ..explain.compare import compare
    from ..explain.explanation import Explanation, Explanations
    from ..explain.predict import predict

    given = log_parser("explain", DESCRIPTION, EPILOG).parse_args(list(arguments))
    filled = gaps(given)
    calibration = calibration_of(given)
    found: list[Explanation] = []
    for log in read_logs(given):
        try:
            found.append(compare(log, predict(log, filled, calibration), ()))
        except PlannerError as refusal:
            found.append(compare(log, None, (f"not predicted: {refusal}",)))
    say(rendered(Explanations(tuple(found)), given.format))
    return 0
