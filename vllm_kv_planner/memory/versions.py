"""What changed between vLLM 0.10 and 0.33 in how memory is measured and used.

Each rule was read in the sources of 0.11, 0.12, 0.14, 0.16, 0.17, 0.19 to 0.22, 0.24, 0.26 to
0.29, 0.31, 0.32 and 0.33: ``v1/worker/gpu_worker.py``, ``utils/mem_utils.py``, ``envs.py``,
``config/vllm.py``, ``engine/arg_utils.py``, ``v1/kv_cache_interface.py``,
``v1/worker/gpu_model_runner.py`` (V1), ``v1/worker/gpu/model_runner.py`` (V2).
"""

from __future__ import annotations

import re

from ..engine_args.versions import FIRST, Between, PlanningRules, Reason, reasons
from ..errors import UnsupportedError
from ..model.description import ItemRule
from ..records import dataclass
from ..version import VLLM, VLLM_MINOR

_PADDED = (0, 11)
"""The one whose first patch pads Qwen3-VL's videos."""

# The classes that ran on Model Runner V2 before it was everyone's default.
_QWEN3 = frozenset({"Qwen3ForCausalLM"})
_EARLY_V2 = frozenset(
    {
        *("Qwen3ForCausalLM", "DeepseekV2ForCausalLM", "Qwen2MoeForCausalLM"),
        *("GraniteMoeForCausalLM", "LlamaForCausalLM", "MistralForCausalLM"),
    }
)
_MOE_V2 = frozenset(
    {
        *("DeepseekV2ForCausalLM", "GraniteMoeForCausalLM", "Qwen2MoeForCausalLM"),
        *("InklingForCausalLM", "InklingForConditionalGeneration"),
        "LongcatFlashNgramForCausalLM",
    }
)


_ACTIVATION = ("activation peak",)
_GRAPHS_PROFILED = {"rocm": (0, 26), "xpu": (0, 31)}


@dataclass(frozen=True)
class VersionRules(PlanningRules):
    """One minor version's rules, those of planning among them.

    ``patch`` counts in the few that a later patch changed.
    A version named without its patch is the first, as ``pip install vllm==0.11`` has it.
    """

    patch: int = 0

    @property
    def name(self) -> str:
        """``0.19``; ``0.11.1`` of the minor version whose patch counts."""
        patch = (self.patch,) if self.version == _PADDED else ()
        return ".".join(map(str, (*self.version, *patch)))

    @property
    def default_gpu_memory_utilization(self) -> float:
        """Share of the GPU an engine asks for."""
        return 0.92 if self.version >= (0, 20) else 0.9

    sampler_sorts = Between(before=(0, 17), ended="top-k and top-p no longer sort the vocabulary")
    """Top-k and top-p sort the vocabulary (before Triton's kernel came)."""

    @property
    def pads_videos(self) -> bool:
        """Qwen3-VL's video counts 12.5 tokens for each that it has, and its output is padded to it.

        Seen in 0.11.0's log (a budget of 153,600 tokens); ``get_max_video_tokens`` and
        ``profile_run`` of that version.
        """
        return self.version == _PADDED and self.patch == 0

    @property
    def item_rule(self) -> ItemRule:
        """What an image does that is larger than a step, where images attend in both directions.

        Gemma 4's 2,496 tokens: 0.19.0 and 0.19.2rc1 were seen starting with a step of 2,048,
        0.20 to 0.22 refusing it (issue 42687), 0.25 and later lifting it (pull request 43051).
        """
        if self.version < (0, 20):
            return "is cut"
        return "must fit" if self.version < (0, 23) else "lifts"

    @property
    def absent_backends(self) -> tuple[str, ...]:
        """Attention backends that came later, of those that 0.33 may choose.

        Source: ``AttentionBackendEnum`` of ``v1/attention/backends/registry.py``, 0.26 to 0.33.
        """
        if self.version >= (0, 30):
            return ()
        return ("TRITON_FLASH_ATTN", "TRITON_FLASHINFER", "FLASHINFER_MLA_SPARSE_SM90")

    masks_images = Between((0, 12), before=(0, 29))
    """Pixtral's encoder tells images apart by a dense mask, see ``encoder._mask``."""
    few_rows_sort = Between(before=(0, 31))
    """Model Runner V1 still sorts when fewer than 8 rows are sampled."""
    flashinfer_where_installed = Between(before=(0, 12))
    """FlashInfer's sampler runs where the image brings it, which nobody can see from here."""
    flashinfer_samples = Between((0, 21), began="FlashInfer's sampler is on by default")
    """FlashInfer's sampler is on by default."""
    v2_warms_sampler = Between((0, 33), began="the sampler is profiled with every parameter set")
    """Model Runner V2 profiles its sampler with every parameter set, not only greedily."""
    keeps_expert_workspaces = Between((0, 13), began="buffers of fused experts stay allocated")
    """Fused experts' buffers come from vLLM's workspace manager and stay allocated."""
    counts_runner_buffers = Between(
        (0, 27),
        "memory is read from the device, so the runner's own buffers count",
        ("outside PyTorch", "activation peak"),
    )
    """Memory is read from the device (``total_consumed``), so the runner's buffers count.

    Before, only the weights, the torch peak above them and memory outside torch counted.
    """
    measures_lookups = Between(
        (0, 19),
        before=(0, 33),
        began="compiling measures the embedding's kernel on a table of its own (to 0.32)",
        ended="PyTorch 2.14 measures no embedding table while compiling",
    )
    """Compiling measures the embedding's kernel on a table of its own (to PyTorch 2.13)."""
    keeps_measured_table = Between((0, 28), before=(0, 31))
    """What measuring the lookup allocated is not given back to the device.

    Seen in cold starts of 0.28 (RTX 5090, RTX 4090 D) and 0.29 (RTX PRO 4500), not of 0.27.1
    (RTX 4090); from 0.31 on large blocks are kept whole and all given back.
    """
    split_limited = Between((0, 31), began="freed large blocks are kept whole and all given back")
    """The profile run keeps freed large blocks whole, so that all of them are given back.

    Source: ``v1/worker/gpu_worker.py`` ``determine_available_memory`` of 0.31.0; not of 0.30.0.
    """
    loads_split_limited = Between((0, 21))
    """So does loading the model: a weight of 20 MiB and more counts whole segments of 2 MiB.

    Source: ``v1/worker/gpu_worker.py`` ``load_model`` of 0.21.0; not of 0.20.2. CUDA only.
    """
    profiles_indexer_logits = Between((0, 19))
    """The sparse indexer's largest logits are allocated in the profile run, see ``sparse.py``."""
    shrinks_sparse_workspace = Between((0, 32))
    """Sparse attention reserves less for long requests, and FlashMLA its padded heads."""
    blas_workspace_before_profile = Between(
        (0, 33), began="cuBLAS starts before the first snapshot", moves=("outside PyTorch",)
    )
    """cuBLAS is started before the first snapshot: its workspace is not the engine's."""
    refuses_sequences_without_state = Between((0, 20))
    """More sequences than blocks: no start, where states and full CUDA graphs are there.

    Source: ``config/compilation.py`` of 0.20.0; 0.19.1 captures fewer graphs instead
    (``adjust_cudagraph_sizes_for_mamba_cache``).
    """

    @property
    def logs_tokens_by_concurrency(self) -> bool:
        """``tokens_by_concurrency`` came with 0.20.1 (``_report_kv_cache_config``), not 0.20.0."""
        return self.tokens_by_concurrency or (self.version == (0, 20) and self.patch >= 1)

    def deducts_graphs(self, uses_v2: bool, platform: str) -> bool:
        """The CUDA graph estimate comes off the KV cache.

        Source: ``v1/worker/gpu_worker.py`` ``determine_available_memory`` of 0.20 to 0.33: AMD's
        graphs are not profiled before 0.26, Intel's not before 0.31.
        """
        first = (0, 29) if uses_v2 else (0, 20)
        return self.version >= max(first, _GRAPHS_PROFILED.get(platform, first))

    def uses_v2(
        self,
        resolved: bool,
        architecture: str,
        *,
        is_moe: bool,
        is_hybrid: bool,
        quantized: bool,
        generates: bool,
    ) -> bool:
        """Model Runner V2; ``resolved`` is 0.33's own answer for this engine.

        Source: ``VllmConfig.use_v2_model_runner`` of ``config/vllm.py``, 0.22 to 0.31.
        """
        if self.version >= (0, 29) or not resolved:
            return resolved
        if not generates:
            return False
        if self.version >= (0, 25):
            return not is_hybrid and (architecture in _MOE_V2 or not is_moe)
        if self.version >= (0, 23):
            return architecture in _EARLY_V2
        if self.version >= (0, 22):
            return architecture in _QWEN3 and not quantized
        return False


def version_rules(version: str) -> VersionRules:
    """The rules of ``0.19.0``, ``v0.26.1rc1.dev156+g0eec856cc`` and the like.

    Raises:
        UnsupportedError: A version whose memory rules are not known.
    """
    found = re.match(r"v?(\d{1,4})\.(\d{1,4})(?![\d])(?:\.(\d{1,4})(?![\d]))?", version)
    numbers = (int(found[1]), int(found[2])) if found else (0, 0)
    if not FIRST <= numbers <= VLLM_MINOR:
        raise UnsupportedError(
            f"vLLM {version}: memory rules are known from {FIRST[0]}.{FIRST[1]} to {VLLM}"
        )
    return VersionRules(numbers, int(found[3] or 0) if found else 0)


_OTHER_REASONS: tuple[Reason, ...] = (
    ((0, 20), ("gpu_memory_utilization",), "the default is 0.92, not 0.9"),
    ((0, 20), ("CUDA graphs",), "the estimate of CUDA graphs comes off the KV cache"),
    ((0, 22), _ACTIVATION, "Model Runner V2 for the first models"),
    ((0, 25), _ACTIVATION, "Model Runner V2 for dense models and some mixtures of experts"),
    ((0, 29), ("CUDA graphs", "activation peak"), "Model Runner V2 for every model"),
)
"""Of the rules that are methods."""


def all_reasons() -> list[Reason]:
    """What each version changed in how it plans and measures, the oldest first."""
    return sorted([*reasons(VersionRules), *_OTHER_REASONS], key=lambda reason: reason[0])
