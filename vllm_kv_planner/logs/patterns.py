"""The lines of vLLM that tell of memory, from 0.6 to 0.33, as patterns.

Every pattern's groups name measures of ``StartLog.measures``; sizes are GiB as printed (two
decimals, four for weights since 0.8), unless the name ends in ``_bytes``. Sources, by vLLM's file:
``worker/worker.py`` and ``executor/*_executor.py`` (0.6 to 0.10, V0), ``v1/worker/gpu_worker.py``,
``v1/worker/gpu_model_runner.py``, ``v1/worker/utils.py``, ``v1/core/kv_cache_utils.py``,
``v1/core/kv_cache_planning.py``, ``utils/mem_utils.py`` (0.8 to 0.33).
"""

from __future__ import annotations

import re

from .ended import SERVING, TRACES

NUMBER = r"-?\d{1,12}(?:\.\d{1,12})?"
WHOLE = r"\d[\d,]{0,15}"


def _n(name: str) -> str:
    return rf"(?P<{name}>{NUMBER})"


def _w(name: str) -> str:
    return rf"(?P<{name}>{WHOLE})"


_GIB = r" ?Gi?B"

MEASURES: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (needle, re.compile(pattern))
    for needle, pattern in (
        # weights
        ("Model loading took", rf"Model loading took {_n('load')}{_GIB}"),
        ("model weights took", rf"[Ll]oading model weights took {_n('load')}{_GIB}"),
        # V0: the split, after the profile run
        (
            "total_gpu_memory (",
            rf"total_gpu_memory \({_n('total')}{_GIB}\) x gpu_memory_utilization "
            rf"\({_n('utilization')}\) = {_n('requested')}{_GIB}",
        ),
        (
            "model weights take",
            rf"model weights take {_n('weights')}{_GIB}; non_torch_memory takes "
            rf"{_n('non_torch')}{_GIB}; PyTorch activation peak memory takes "
            rf"{_n('activation')}{_GIB}; the rest of the memory reserved for KV Cache is "
            rf"{_n('kv')}{_GIB}",
        ),
        (
            "Memory profiling results",
            rf"total_gpu_memory={_n('total')}{_GIB}.{{0,200}}?non_torch_memory={_n('non_torch')}"
            rf"{_GIB} kv_cache_size={_n('kv')}{_GIB} gpu_memory_utilization={_n('utilization')}",
        ),
        # V1
        ("Available KV cache memory", rf"Available KV cache memory: {_n('kv')}{_GIB}"),
        (
            "free memory",
            rf"Initial free memory: {_n('free')}{_GIB}[;,].{{0,80}}?[Rr]equested (?:GPU )?memory: "
            rf"{_n('utilization')} \(util\), {_n('requested')}{_GIB}",
        ),
        (
            "Memory profiling takes",
            rf"Total non KV cache memory: {_n('total_non_kv')}{_GIB}; torch peak memory increase: "
            rf"{_n('torch_peak')}{_GIB}; (?:non-torch forward increase memory: {_n('non_torch')}"
            rf"|total consumed \(from mem_get_info\): {_n('consumed')}){_GIB}; weights memory: "
            rf"{_n('weights')}{_GIB}",
        ),
        (
            "memory snapshot",
            rf"memory snapshot: .{{0,200}}?free_memory={_n('free')}{_GIB}, "
            rf"total_memory={_n('total')}{_GIB}",
        ),
        (
            "Free memory on device",
            rf"Free memory on device [^()]{{0,40}}?\({_n('free')}/{_n('total')}{_GIB}\) on startup",
        ),
        (
            "memory utilization",
            rf"[Dd]esired GPU memory utilization (?:is )?\({_n('utilization')}, "
            rf"{_n('requested')}{_GIB}\)",
        ),
        (
            "Actual usage is",
            rf"Actual usage is (?:{_n('weights')}{_GIB} for weight"
            rf"|{_n('consumed')}{_GIB} for consumed memory \(weights \+ non-torch\)), "
            rf"{_n('activation')}{_GIB} for peak activation, "
            rf"(?:{_n('non_torch')}{_GIB} for non-torch memory, )?and "
            rf"{_n('graphs')}{_GIB} for CUDAGraph memory",
        ),
        ("kv cache memory in use", rf"Current kv cache memory in use is {_n('kv')} GiB"),
        ("kv cache memory in use", rf"Current kv cache memory in use is {_w('kv_bytes')} bytes"),
        (
            "memory for KV Cache as",
            rf"Initial free memory {_n('free')}{_GIB}, reserved {_n('kv')}{_GIB} memory for",
        ),
        ("GiB for KV cache on", rf"set \({_n('kv')}/{NUMBER}\) GiB for KV cache on node"),
        # CUDA graphs
        (
            "Estimated CUDA graph memory",
            rf"Estimated CUDA graph memory: {_n('graph_estimate')}{_GIB}",
        ),
        (
            "Graph capturing finished",
            rf"finished in [\d.]{{1,12}} secs?, took {_n('graphs')}{_GIB}",
        ),
        (
            "CUDA graph pool memory",
            rf"CUDA graph pool memory: {_n('graphs')}{_GIB} \(actual\), "
            rf"{_n('graph_estimate')}{_GIB} \(estimated\)",
        ),
        # blocks
        ("blocks:", rf"# (?:GPU|cuda) blocks: {_w('blocks')}"),
        ("KV cache size:", rf"KV cache size: {_w('tokens')} tokens"),
        (
            "Maximum concurrency for",
            rf"Maximum concurrency for {_w('length')} tokens per request: {_n('concurrency')}x",
        ),
        (
            "max_num_batched_tokens=",
            rf"is enabled with max_num_batched_tokens={_w('tokens_a_step')}",
        ),
        ("attention block size", rf"Setting attention block size to {_w('block_size')} tokens"),
        ("total capacity of", rf"GPU \d{{1,3}} has a total capacity of {_n('total')}{_GIB}"),
        ("max seq len", rf"max seq len \({_w('length')}\)"),
        (
            "GiB KV cache is needed",
            rf"\({_n('needed')}{_GIB} KV cache is needed, which is larger than the available KV "
            rf"cache memory \({_n('kv')}{_GIB}\)",
        ),
        ("estimated maximum model length", rf"estimated maximum model length is {_w('longest')}"),
    )
)
"""A word that must be in the line, and the pattern."""

VERSION_AND_MODEL: tuple[re.Pattern[str], ...] = (
    re.compile(r"API server version (?P<version>v?\d[\w.+-]{1,60})"),
    re.compile(
        r"server version (?P<version>v?\d[\w.+-]{1,60}), serving model (?P<model>\S{1,300})"
    ),
    re.compile(r"[█▀▄ ]{3}\s{1,9}version (?P<version>v?\d[\w.+-]{1,60})\s*$"),
    re.compile(r"[█▀▄ ]{3}\s{1,9}model   (?P<model>\S{1,300})\s*$"),
    re.compile(r"Initializing an? (?:V1 )?LLM engine \((?P<version>v?\d[\w.+-]{1,60})\)"),
    re.compile(r"LLM engine \(v?\S{1,60}\) with config: model='(?P<model>[^']{1,300})'"),
    re.compile(r"Starting to load model (?P<model>[^\s]{1,300}?)(?:\.\.\.)?\s*$"),
)
NEEDLES = ("version", "model", "LLM engine")

BANNER = re.compile(r"API server version |server version \S{1,60}, serving model")
"""A server's first line: what stands before belongs to an earlier start."""

CPU_ENGINE = re.compile(r"\bdevice_config=cpu\b|\bCPU KV cache size:|\bcpu_worker\.py:\d")
"""What only vLLM's CPU build prints (``v1/worker/cpu_worker.py``, ``config/vllm.py`` of 0.32)."""

DEVICE = re.compile(r"device_name=(NVIDIA_[A-Za-z0-9_-]{1,60}|AMD_[A-Za-z0-9_-]{1,60})")
NVIDIA = re.compile(
    r"\bNVIDIA (?:GeForce |Tesla |Quadro )?(?:[A-Z]{1,3}\d{1,4}[A-Z]{0,2}|RTX|TITAN)"
    r"(?:[ -][A-Za-z0-9.-]{1,16}){0,6}"
)
BACKENDS: tuple[re.Pattern[str], ...] = (
    re.compile(r"Using (?:AttentionBackendEnum\.)?([A-Z][A-Z0-9_]{2,40}) attention backend"),
    re.compile(r"Using (?:AttentionBackendEnum\.)?([A-Z][A-Z0-9_]{2,40}) backend\b"),
)
FLASH = re.compile(r"Using Flash ?Attention(?:-2)? backend")
RUNNER_V1 = "gpu_model_runner.py:"
"""The file that says of itself, in the line's prefix, that it has loaded the model."""
RUNNER_V2 = "Using V2 Model Runner"
PROCESS = re.compile(r"\(([A-Za-z][\w-]{0,60}(?: rank=\d{1,5})?) (?:pid|ip)=")

REFUSALS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("No available memory", re.compile(r"No available memory for the cache blocks")),
    ("is less than", re.compile(r"Free memory on device .{0,120}is less than (?:desired|the)")),
    ("To serve at least", re.compile(r"To serve at least one request with the")),
    ("larger than the maximum", re.compile(r"The model's max seq len .{0,80}larger than the max")),
    ("warming up sampler", re.compile(r"out of memory occurred when warming up sampler")),
    ("out of memory", re.compile(r"(?:CUDA|HIP) out of memory[.:]? ?(?:Tried to allocate)?")),
)

MATTERS: tuple[bytes, ...] = tuple(
    word.encode()
    for word in (
        *dict.fromkeys(needle for needle, _ in (*MEASURES, *REFUSALS)),
        *("version ", "model   ", "LLM engine (", "Starting to load model "),
        *("args: ", "with config: ", "device_name=", "NVIDIA ", "ackend", RUNNER_V2),
        *(*SERVING, *(function for function, _ in TRACES)),
    )
)
"""A line without any of these words says nothing."""
