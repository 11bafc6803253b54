"""One set-up on offer with the ``vllm serve`` line that starts it, or the nearest miss."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ...engine_args.engine_args import EngineArgs, EngineEnvironment, VersionDefault
from ...engine_args.flag_table import flag_words
from ...masking import masked_words
from ...planner import plan_of
from ...planning.request import PlanRequest
from ...records import as_plain, dataclass, fields

if TYPE_CHECKING:
    from ...planning.types import Plan


HEAD = "HEAD_ADDRESS"
"""Stands for the first machine's address."""

_VARIABLES = {
    "allow_long_max_model_len": "VLLM_ALLOW_LONG_MAX_MODEL_LEN",
    "use_v2_model_runner": "VLLM_USE_V2_MODEL_RUNNER",
    "mla_disable": "VLLM_MLA_DISABLE",
    "pp_layer_partition": "VLLM_PP_LAYER_PARTITION",
    "allow_chunked_local_attn_with_hybrid_kv_cache": (
        "VLLM_ALLOW_CHUNKED_LOCAL_ATTN_WITH_HYBRID_KV_CACHE"
    ),
    "estimate_cudagraphs": "VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS",
}
_LEFT_OUT = ("model", "usage_context")
"""The model stands first; the other is no flag."""


def serve_line(args: EngineArgs, environment: EngineEnvironment | None = None) -> str:
    """One line for a shell; ``parse_serve_command`` reads the same flags from it.

    Secrets are hidden in it, and have to be put in again.
    """
    words = ["vllm", "serve", args.model]
    for name, value in changed(args):
        words += flag_words(name, value)
    variables = [] if environment is None else list(_assignments(environment))
    return " ".join([*variables, shlex.join(masked_words(words))])


def node_lines(
    args: EngineArgs, *, num_nodes: int, launcher: str, environment: EngineEnvironment | None = None
) -> tuple[str, ...]:
    """What to run on each machine, the first one's line first.

    vLLM's own launcher, ``mp``, takes a line for each machine, ``ray`` one for a running cluster.

    Source: vLLM 0.33 ``ParallelConfig`` (``nnodes``, ``node_rank``, ``master_addr``),
    ``entrypoints/cli/serve.py`` ``run_headless``; Ray: ``v1/engine/utils.py``
    ``create_dp_placement_groups``.
    """
    line = serve_line(args, environment)
    if num_nodes == 1:
        return (line,)
    if launcher == "ray":
        return (_on_ray(line, args, num_nodes),)
    nodes = f"{line} --nnodes {num_nodes} --master-addr {HEAD} --node-rank"
    return tuple(f"{nodes} {i}{' --headless' if i else ''}" for i in range(num_nodes))


def _on_ray(line: str, args: EngineArgs, num_nodes: int) -> str:
    """One line for a cluster: engines on machines of their own, or each over several."""
    if args.data_parallel_size == 1:
        return f"{line} --distributed-executor-backend ray"
    line += " --data-parallel-backend ray"
    if args.world_size > args.num_gpus // num_nodes:
        return f"VLLM_RAY_DP_PACK_STRATEGY=span {line}"
    return f"{line} --data-parallel-size-local {args.data_parallel_size // num_nodes}"


def changed(args: EngineArgs) -> Iterator[tuple[str, Any]]:
    """The flags that differ from vLLM's defaults."""
    plain = EngineArgs(model=args.model)
    for each in fields(args):
        value = getattr(args, each.name)
        default = getattr(plain, each.name)
        # a number given by hand may be another version's default
        by_hand = isinstance(default, VersionDefault) and not isinstance(value, VersionDefault)
        if each.name not in _LEFT_OUT and (value != default or by_hand):
            yield each.name, value


def _assignments(environment: EngineEnvironment) -> Iterator[str]:
    plain = EngineEnvironment()
    for name, variable in _VARIABLES.items():
        value = getattr(environment, name)
        if value != getattr(plain, name):
            text = str(int(value)) if isinstance(value, bool) else str(value)
            yield f"{variable}={shlex.quote(text)}"


@dataclass(frozen=True, kw_only=True)
class Offer:
    """One set-up that does what is asked for.

    Attributes:
        model: The model's id.
        gpu: Every rank's device, by its short name.
        num_gpus: Of all machines.
        num_nodes: Machines.
        tensor_parallel_size: GPUs that share every layer.
        pipeline_parallel_size: Stages.
        data_parallel_size: Engines side by side; figures of memory are for one GPU.
        enable_expert_parallel: Experts divided among the GPUs of all engines.
        kv_cache_dtype: As asked for.
        gpu_memory_utilization: Share of each GPU.
        max_model_len: Tokens a request may have.
        max_num_seqs: Requests a step of one engine takes.
        max_num_batched_tokens: Tokens a step of one engine takes.
        available_kv_cache_bytes: KV memory of the tightest GPU, as predicted.
        uncertainty_bytes: How much less it may be.
        concurrency: Requests of ``max_model_len`` at once, all engines together, as predicted.
        sure_requests: Whole requests that surely run at once; None where nothing is cached.
        spare_requests: How many of them nobody asked for; None likewise.
        spare_bytes: KV memory of the tightest GPU that nobody asked for, at the worst.
        limited_by: What ends the number of requests: ``weights`` (they take more of the GPU than
            the KV cache), ``kv_cache`` or ``max_num_seqs``.
        why_not_fewer: Why the same GPU does not do it in a smaller number; empty with one.
        surely: False where it fits only if the prediction is not too high.
        total_memory_bytes: Of all GPUs together.
        price: Of all GPUs together, where prices are given.
        command: The ``vllm serve`` line; of the first machine, where there are several.
        node_commands: A line for each machine, or one for a Ray cluster.
        request: What was planned; ``plan(request)`` is the whole plan.
    """

    model: str
    gpu: str
    num_gpus: int
    num_nodes: int
    tensor_parallel_size: int
    pipeline_parallel_size: int
    data_parallel_size: int
    enable_expert_parallel: bool
    kv_cache_dtype: str
    gpu_memory_utilization: float
    max_model_len: int
    max_num_seqs: int
    max_num_batched_tokens: int
    available_kv_cache_bytes: int
    uncertainty_bytes: int
    concurrency: float
    sure_requests: int | None
    spare_requests: int | None
    spare_bytes: int
    limited_by: str
    why_not_fewer: str
    surely: bool
    total_memory_bytes: int
    price: float | None
    command: str
    node_commands: tuple[str, ...]
    request: PlanRequest

    def plan(self) -> Plan:
        """The whole plan of this set-up."""
        return plan_of(self.request)

    def to_dict(self) -> dict[str, Any]:
        """Everything but ``request``, by name."""
        return {
            each.name: as_plain(getattr(self, each.name))
            for each in fields(self)
            if each.name != "request"
        }

    @property
    def gpus(self) -> str:
        """``2 x L4-24GB``."""
        return f"{self.num_gpus} x {self.gpu}"

    @property
    def parallel(self) -> str:
        """``TP4 PP2``; what is 1 is left out."""
        tp, pp, dp = self.tensor_parallel_size, self.pipeline_parallel_size, self.data_parallel_size
        words = [f"{name}{n}" for name, n in (("TP", tp), ("PP", pp), ("DP", dp)) if n > 1]
        return " ".join((*words, *(["EP"] if self.enable_expert_parallel else []))) or "-"

    @property
    def at_once(self) -> int | None:
        """Requests that surely run at once; of a borderline set-up the likely ones."""
        return self.sure_requests if self.surely else int(self.concurrency)


@dataclass(frozen=True, kw_only=True)
class Miss:
    """The nearest that one device came to what is asked for.

    Attributes:
        model: The model's id.
        gpu: The device, by its short name.
        num_gpus: How many of them.
        reason: ``weights`` (they alone are larger), ``kv_cache`` (it holds too few requests),
            ``max_num_seqs`` (fixed too small), ``borderline`` (only if the prediction is exact) or
            ``refused`` (vLLM or the planner refuses it).
        requests: Requests it surely holds; None where that is not known.
        message: One sentence.
    """

    model: str
    gpu: str
    num_gpus: int
    reason: str
    requests: int | None
    message: str
