"""A set-up as the ``vllm serve`` line that starts it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

from ...engine_args.engine_args import EngineArgs, VersionDefault
from ...engine_args.environment import EngineEnvironment
from ...engine_args.flag_table import flag_words
from ...masking import masked_words
from ...records import fields

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
    args: EngineArgs,
    *,
    num_nodes: int,
    launcher: str,
    environment: EngineEnvironment | None = None,
) -> tuple[str, ...]:
    """What to run on each machine, the first one's line first.

    Args:
        args: The set-up.
        num_nodes: Machines.
        launcher: ``mp``, vLLM's own: one line a machine; ``ray``: one line, on a running cluster.
        environment: vLLM's variables.

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
