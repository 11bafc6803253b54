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

from .names import name, optional_name
from .patches import GPUS_PER_NODE, on_meta, storage_bytes


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
        init_workspaces()
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
        layouts=supported_layouts(vllm_config),
        backends=list(dict.fromkeys(backend.get_name() for backend in backend_of.values())),
        backend_of=backend_of,
        block_size=cache.block_size,
        kv_cache_dtype=str(cache.cache_dtype),
        weights_bytes=weights,
    )


def init_workspaces() -> None:
    """The workspaces that kernels share, where this version knows them."""
    init = optional_name("init_workspace_manager")
    if init is not None:
        init(torch.device("meta"), 1)


def supported_layouts(vllm_config: Any) -> list[str]:
    """Layouts this rank's backends can use; none where no worker is asked (before 0.29)."""
    ask = getattr(name("WorkerBase"), "get_supported_kv_cache_layouts", None)
    return [] if ask is None else list(ask(SimpleNamespace(vllm_config=vllm_config)))


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
        runner = SimpleNamespace(
            vllm_config=vllm_config,
            speculator=speculator,
            dcp_size=dcp,
            is_encoder_only=getattr(vllm_config, "is_encoder_only", False),  # 0.28 asks the runner
        )
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


_NO_MODEL = ("ngram", "ngram_gpu", "suffix")


def load_draft(vllm_config: Any, target: Any, *, v2: bool) -> tuple[Any, Any]:
    """The draft model and, under Model Runner V2, its speculator; None where there is none.

    Its layers join the target's in the static forward context. Source: vLLM 0.33
    ``v1/worker/gpu/spec_decode/`` (V2), ``v1/worker/gpu_model_runner.py`` ``load_model`` (V1).
    """
    speculative = vllm_config.speculative_config
    if speculative is None or not name("parallel_state").get_pp_group().is_last_rank:
        return None, None
    if v2:
        return _load_v2(vllm_config, target)
    if speculative.draft_model_config is None or speculative.method in _NO_MODEL:
        return None, None
    layer_type = name("AttentionLayerBase")
    layers_of = name("get_layers_from_vllm_config")
    before = set(layers_of(vllm_config, layer_type))
    draft = _model_v1(vllm_config)
    layers = layers_of(vllm_config, layer_type)
    for layer in set(layers) - before:
        layers[layer].is_draft_layer = True
    return draft, None


def _model_v1(vllm_config: Any) -> Any:
    """The draft as Model Runner V1 builds it, by its proposer's own method."""
    speculative = vllm_config.speculative_config
    independent = speculative.method == "draft_model"
    kind = optional_name("DraftModelProposer" if independent else "EagleProposer")
    if hasattr(kind, "_get_model"):
        proposer = object.__new__(kind)  # without its buffers
        proposer.vllm_config, proposer.speculative_config = vllm_config, speculative
        if independent:
            proposer._raise_if_draft_tp_mismatch()
        return proposer._get_model()
    with name("set_model_tag")("eagle_head"):
        return name("get_model")(
            vllm_config=vllm_config, model_config=speculative.draft_model_config
        )


def _load_v2(vllm_config: Any, target: Any) -> tuple[Any, Any]:
    decide_sharing(vllm_config.speculative_config.method)
    _check_hidden_states(vllm_config, target)
    with on_meta():
        speculator = name("init_speculator")(vllm_config, torch.device("meta"), None)
    if not isinstance(speculator, name("DraftModelSpeculator")):
        return None, speculator
    speculator.load_model(target)
    return speculator.model, speculator


def decide_sharing(method: str) -> None:
    """Have a draft's shared tables decided without the values of the checkpoint."""
    for utilities in (name("eagle_utils"), optional_name("dflash_utils")):
        if hasattr(utilities, "_should_share"):
            utilities._should_share = lambda *asked: _shares(method, *asked)


def _shares(method: str, draft: Any, flag: str, own: Any, target: Any) -> bool:
    """Whether a draft takes over the target's embedding or head.

    vLLM learns from the checkpoint which of them the draft has for itself, and compares the
    values; without values, what it declares is kept, EAGLE-3's head is its own, and so is any table
    for another number of words: no checkpoint leaves these out.
    """
    if getattr(draft, flag, False) or (method == "eagle3" and flag == "has_own_lm_head"):
        return False
    if own is None or target is None:
        return True
    return int(own.num_embeddings) == int(target.num_embeddings)


def _check_hidden_states(vllm_config: Any, target: Any) -> None:
    """vLLM's own refusal of targets that hand out no hidden states of inner layers."""
    utilities = optional_name("eagle3_utils")
    needs = getattr(utilities, "requires_aux_hidden_states", None)
    speculative = vllm_config.speculative_config
    if needs is not None and needs(speculative):
        over_stages = vllm_config.parallel_config.pipeline_parallel_size > 1
        utilities.set_eagle3_aux_hidden_state_layers(target, speculative, over_stages)
