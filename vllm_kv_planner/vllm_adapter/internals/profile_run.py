"""vLLM's own model runner, loading and profiling a model for a GPU that is not there.

The runner is vLLM's, as are the loading, the model's forward pass and the sampler; tensors have
shapes and no storage (``followed.py``), kernels are passed over (``kernels.py``). Nothing is
compiled: the config is that of ``--enforce-eager``. The process is lost for anything else.

Source: vLLM 0.33 ``v1/worker/gpu_worker.py`` (``load_model``, ``determine_available_memory``),
``v1/worker/gpu/model_runner.py``, ``v1/worker/gpu_model_runner.py`` (``profile_run``),
``model_executor/model_loader/base_loader.py``.
"""

from __future__ import annotations

import gc
import signal
import traceback
from collections.abc import Callable
from typing import Any

import torch

from ...version import VLLM
from .followed import Followed, NotFollowed
from .kernels import FLASHINFER
from .names import name, optional_name, version
from .patches import cuda_is_meta
from .refusal import explain
from .worker import decide_sharing, init_workspaces, join_groups

PHASES = {"_dummy_run": "forward", "_dummy_sampler_run": "sampler", "_dummy_pooler_run": "pooler"}
"""Methods of either runner that its profile run consists of."""

_SECONDS = 300
"""A run that takes longer waits for something that never comes."""


def profiles(vllm_config: Any) -> dict[str, Any]:
    """What every pipeline stage's first rank holds; see ``profile_rank``."""
    if not version().startswith(f"{VLLM}."):
        return {"refused": {"load": f"vLLM {version()}'s profile run is not followed"}}
    parallel = vllm_config.parallel_config
    if parallel.pipeline_parallel_size > 1:
        return {"refused": {"load": "pipeline stages are not followed"}}
    signal.alarm(_SECONDS)  # its default is to end the process, which is this request's alone
    return profile_rank(vllm_config, 0)


def profile_rank(vllm_config: Any, rank: int) -> dict[str, Any]:
    """Load and profile one rank in this process.

    Returns:
        ``weights_bytes``, as "Model loading took" counts them; ``buffers_bytes``, what the runner
        keeps besides; ``phases``, the most above both in each phase of the profile run;
        ``kept_bytes``, what stays of it; ``refused``, by part (``encoder``, ``load``, ``forward``)
        why it could not be followed. What was not reached is missing.
    """
    answer: dict[str, Any] = {"phases": {}, "refused": {}}
    followed = Followed(split_limited=True)
    part = "load"
    try:
        surroundings(vllm_config, followed)
        with name("set_current_vllm_config")(vllm_config), cuda_is_meta():
            join_groups(vllm_config, rank)
            with followed:
                runner = load(vllm_config)
                answer["weights_bytes"] = int(runner.model_memory_usage)
                answer["buffers_bytes"] = collected(followed) - answer["weights_bytes"]
                part = "forward"
                watch(runner, followed, answer["phases"])
                answer["refused"] |= without_encoder(vllm_config)
                loaded = collected(followed)
                runner.profile_run()
                answer["kept_bytes"] = followed.live - loaded
    except Exception as error:
        answer["refused"][part] = f"{explain(error)} ({place(error)})"
    return answer


def place(error: BaseException) -> str:
    """The function that raised, by package and file."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    file = frame.filename.rpartition("site-packages/")[2]
    return f"{file.rpartition('vllm_kv_planner/')[2]}, {frame.name}"


def load(vllm_config: Any) -> Any:
    """The runner with its model, weights laid out as its kernels read them."""
    vllm_config.kernel_config.ir_op_priority.set_default()
    init_workspaces()
    if vllm_config.speculative_config is not None:
        decide_sharing(vllm_config.speculative_config.method)
    v2 = vllm_config.use_v2_model_runner
    kind = name("GPUModelRunnerV2" if v2 else "GPUModelRunner")
    runner = kind(vllm_config, torch.device("meta"))
    runner.load_model()
    name("current_platform").update_block_size_for_backend(vllm_config)  # workspaces depend on it
    return runner


def without_encoder(vllm_config: Any) -> dict[str, str]:
    """Leave the encoder's profile out, whose processor needs files that no config holds."""
    multimodal = vllm_config.model_config.multimodal_config
    if multimodal is None or multimodal.skip_mm_profiling:
        return {}
    multimodal.skip_mm_profiling = True
    return {"encoder": "its processor needs the checkpoint's tokenizer and processor files"}


def watch(runner: Any, followed: Followed, phases: dict[str, int]) -> None:
    """Note the peak of each phase, above what was there before the first."""
    loaded = followed.live

    def noting(phase: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*args: Any, **kwargs: Any) -> Any:
            followed.peak = collected(followed)
            given = method(*args, **kwargs)
            phases[phase] = followed.peak - loaded
            return given

        return noted

    for method, phase in PHASES.items():
        if hasattr(runner, method):
            setattr(runner, method, noting(phase, getattr(runner, method)))


def surroundings(vllm_config: Any, followed: Followed) -> None:
    """Replace what compiles, launches or measures; for good, in this process."""
    gc.freeze()  # what the server imported has no cycles to look for
    launch_nothing()
    flashinfer_without_kernels()
    torch.compiler.set_stance("force_eager")
    torch.Generator = HostGenerator
    name("DeviceMemoryProfiler").current_memory_usage = lambda self: collected(followed)
    # copies on the meta device, kept for later; of tensors that are there already it makes none
    name("layerwise_reload").capture_layer_to_meta = lambda layer: ({}, {})
    process_after_loading(vllm_config)


def collected(followed: Followed) -> int:
    """Bytes that live, once nothing hangs in cycles."""
    gc.collect()
    return followed.live


def launch_nothing() -> None:
    """Triton's kernels write into tensors that their callers made; none is launched."""
    from triton.runtime import autotuner, jit

    for kind in (jit.JITFunction, autotuner.Autotuner, autotuner.Heuristics):
        kind.run = lambda *args, **kwargs: None


class HostGenerator(torch.Generator):
    """A generator that draws on the host, whatever device it is asked for."""

    def __new__(cls, device: Any = None) -> HostGenerator:
        """One on the host."""
        made: HostGenerator = super().__new__(cls, device="cpu")
        return made


class Generator:
    """The device's generator of random numbers, and the list it stands in."""

    def __getitem__(self, device: Any) -> Generator:
        return self

    def get_state(self) -> torch.Tensor:
        """A seed and an offset."""
        return torch.zeros(16, dtype=torch.uint8, device="cpu")

    def set_state(self, state: torch.Tensor) -> None:
        """No number is drawn."""


class Kernels:
    """A module of FlashInfer's that was never compiled."""

    def __init__(self, module: str) -> None:
        self._module = module

    def __getattr__(self, kernel: str) -> Callable[..., None]:
        if self._module not in FLASHINFER:
            raise NotFollowed(f"FlashInfer's {self._module}.{kernel} cannot be followed")
        return lambda *args, **kwargs: None


def flashinfer_without_kernels() -> None:
    """FlashInfer would fetch and compile kernels on first use, and ask for a generator."""
    torch.cuda.init = lambda: None
    torch.cuda.default_generators = Generator()
    core = optional_name("flashinfer_jit")
    if core is not None:
        core.JitSpec.build_and_load = lambda self, *args, **kwargs: Kernels(self.name)
        name("flashinfer_fetch").download_file = fetch_nothing


def fetch_nothing(source: str, *args: Any, **kwargs: Any) -> bool:
    """FlashInfer's kernels for data-centre GPUs lie on a download site, which nobody asks.

    Raises:
        NotFollowed: Always; names the file.
    """
    raise NotFollowed(f"FlashInfer would fetch {source.rpartition('/')[2]} to compile its kernels")


def process_after_loading(vllm_config: Any) -> None:
    """Have the loader of meta tensors lay the weights out as vLLM's own loaders do."""
    loader: Any = type(name("get_model_loader")(vllm_config.load_config))
    build = loader.load_model

    def load_model(self: Any, vllm_config: Any, model_config: Any, prefix: str = "") -> Any:
        model = build(self, vllm_config, model_config, prefix)
        with name("set_default_torch_dtype")(model_config.dtype):
            name("process_weights_after_loading")(model, model_config, torch.device("meta"))
        return model

    loader.load_model = load_model
