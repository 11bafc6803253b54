"""One rank: build the model, settle the block size, read the layers' specs.

Source: vLLM 0.33 ``v1/worker/gpu_worker.py`` (``init_device``, ``load_model``,
``get_kv_cache_spec``) and ``v1/worker/worker_base.py``.
"""

from __future__ import annotations

import contextlib
import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist

from .draft import load_draft
from .names import name, optional_name
from .on_meta import storage_bytes
from .patches import GPUS_PER_NODE


@dataclass(frozen=True, kw_only=True)
class RankReport:
    """What one rank tells the engine.

    Attributes:
        specs: Layer name to vLLM's spec of its cache.
        layouts: Names of the KV cache layouts its backends can use.
        backends: Names of its attention backends.
        backend_of: Layer name to its backend, where that is a class that can be handed over.
        block_size: The block size its backends agreed on.
        kv_cache_dtype: As resolved while the model was built.
        weights_bytes: Parameters and buffers, draft model included.
    """

    specs: dict[str, Any]
    layouts: list[str]
    backends: list[str]
    backend_of: dict[str, Any]
    block_size: int
    kv_cache_dtype: str
    weights_bytes: int


class RankError(Exception):
    """A rank in a process of its own failed; carries the refusal's one line."""


def run_rank(vllm_config: Any, rank: int) -> RankReport:
    """Build rank ``rank`` in this process; only one can be, for its state is global."""
    v2 = bool(getattr(vllm_config, "use_v2_model_runner", False))
    platform = name("current_platform")
    vllm_config.parallel_config.rank = rank
    with name("set_current_vllm_config")(vllm_config):
        kernels: Any = getattr(vllm_config, "kernel_config", None)
        if hasattr(kernels, "ir_op_priority"):
            kernels.ir_op_priority.set_default()
        if platform.device_type == "cuda":  # the CPU worker asks no such thing
            platform.check_if_supports_dtype(vllm_config.model_config.dtype)
        join_groups(vllm_config, rank)
        init_workspace = optional_name("init_workspace_manager")
        if init_workspace is not None:
            init_workspace(torch.device("meta"), 1)
        loader = name("get_model_loader")(vllm_config.load_config)
        model = loader.load_model(vllm_config=vllm_config, model_config=vllm_config.model_config)
        draft, speculator = load_draft(vllm_config, model, v2=v2)
    platform.update_block_size_for_backend(vllm_config)
    backend_of = layer_backends(vllm_config)
    specs = read_specs(vllm_config, speculator, v2=v2)
    weights = storage_bytes(model)
    if draft is not None:
        weights += storage_bytes(draft, but_not=model)
    cache = vllm_config.cache_config
    return RankReport(
        specs=specs,
        layouts=name("WorkerBase").get_supported_kv_cache_layouts(
            SimpleNamespace(vllm_config=vllm_config)
        ),
        backends=list(dict.fromkeys(backend.get_name() for backend in backend_of.values())),
        backend_of=backend_of,
        block_size=cache.block_size,
        kv_cache_dtype=str(cache.cache_dtype),
        weights_bytes=weights,
    )


def join_groups(vllm_config: Any, rank: int) -> None:
    """Process groups of the engine's full size, with this process as ``rank``."""
    from torch.testing._internal.distributed.fake_pg import FakeStore

    parallel = vllm_config.parallel_config
    world = parallel.world_size
    if parallel.data_parallel_size > 1:
        world = parallel.world_size_across_dp
    # Made here, so that vLLM finds it made and only adds the sub-groups.
    dist.init_process_group(
        backend="fake",
        store=FakeStore(),
        rank=parallel.data_parallel_rank * parallel.world_size + rank,
        world_size=world,
    )
    name("init_worker_distributed_environment")(
        vllm_config, rank, "env://", rank % GPUS_PER_NODE, "fake"
    )


def read_specs(vllm_config: Any, speculator: Any, *, v2: bool) -> dict[str, Any]:
    """The runner's own reading of the layers' specs, without a runner."""
    if v2:
        dcp = vllm_config.parallel_config.decode_context_parallel_size
        runner = SimpleNamespace(vllm_config=vllm_config, speculator=speculator, dcp_size=dcp)
        specs = name("GPUModelRunnerV2").get_kv_cache_spec(runner)
    else:
        runner = SimpleNamespace(vllm_config=vllm_config, shared_kv_cache_layers={})
        specs = name("GPUModelRunner").get_kv_cache_spec(runner)
    assert isinstance(specs, dict)
    return specs


def layer_backends(vllm_config: Any) -> dict[str, Any]:
    """Attention backend of every layer, in the layers' order."""
    layers = name("get_layers_from_vllm_config")(vllm_config, name("AttentionLayerBase"))
    return {key: layer.get_attn_backend() for key, layer in layers.items()}


def without_local_classes(report: RankReport) -> RankReport:
    """The report without backends that were made on the spot and cannot be pickled."""
    kept: dict[str, Any] = {}
    for key, backend in report.backend_of.items():
        with contextlib.suppress(pickle.PicklingError, AttributeError, TypeError):
            pickle.dumps(backend)
            kept[key] = backend
    return replace(report, backend_of=kept)


def run_rank_in_child(
    vllm_config: Any, rank: int, explain: Callable[[BaseException], str]
) -> RankReport:
    """The same in a forked process, where groups and the changes to the config stay.

    Raises:
        RankError: With ``explain``'s line about what the rank raised.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        try:
            try:
                answer: object = without_local_classes(run_rank(vllm_config, rank))
            except BaseException as error:
                answer = explain(error)
            with os.fdopen(writing, "wb") as pipe:
                pickle.dump(answer, pipe)
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        data = pipe.read()
    os.waitpid(pid, 0)
    # Written by this process's own fork, over a pipe nobody else holds.
    answer = pickle.loads(data) if data else f"the process of rank {rank} died"
    if not isinstance(answer, RankReport):
        raise RankError(answer)
    return answer
