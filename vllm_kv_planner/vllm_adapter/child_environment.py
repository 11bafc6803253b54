"""The child's environment: files in one temporary folder only, no network, no real GPU."""

from __future__ import annotations

import os
import site
from collections.abc import Mapping

from .. import version
from .absent_gpu import AbsentGPU
from .plugin import ABSENT_GPU

ELSE_OWN_DEVICE = "KV_PLANNER_ELSE_OWN_DEVICE"
"""Set where a vLLM that is not built for CUDA may answer for its own device instead."""

# Read by vLLM before it looks for a platform; either would keep ours out.
_FORGOTTEN = ("VLLM_TARGET_DEVICE", "VLLM_PLUGINS", ABSENT_GPU, ELSE_OWN_DEVICE)

# Where libraries would otherwise keep files of their own.
_FOLDERS = (
    "HOME",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "HF_HOME",
    "HF_MODULES_CACHE",
    "VLLM_CACHE_ROOT",
    "VLLM_CONFIG_ROOT",
    "VLLM_ASSETS_CACHE",
    "FLASHINFER_WORKSPACE_BASE",
    "TRITON_HOME",
    "TRITON_CACHE_DIR",
    "TORCHINDUCTOR_CACHE_DIR",
    "TORCH_HOME",
    "TORCH_EXTENSIONS_DIR",
    "CUDA_CACHE_PATH",
    "NUMBA_CACHE_DIR",
    "MPLCONFIGDIR",
    "TILELANG_CACHE_DIR",
    "TVM_FFI_CACHE_DIR",
    "DG_JIT_CACHE_DIR",
    "TMPDIR",
)

_SETTINGS = {
    # Nothing here needs the network; no library shall try.
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_DO_NOT_TRACK": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    # Compiled bytecode would be written beside the installed packages.
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUNBUFFERED": "1",
    # Python 3.11 on: nothing is ever imported from the current directory.
    "PYTHONSAFEPATH": "1",
}

_NO_GPU = {
    # Empty, not unset: vLLM takes that for "GPUs are assigned later" and still counts Triton in.
    # Without Triton it would choose Model Runner V1, and other backends with it.
    "CUDA_VISIBLE_DEVICES": "",
    # FlashInfer's kernels for data-centre GPUs are fetched when first used. vLLM asks a download
    # site whether they are to be had, and hangs where there is none; this says that they are.
    "VLLM_HAS_FLASHINFER_CUBIN": "1",
}

_MAIN = """\
import sys
from vllm_kv_planner.vllm_adapter.server import main
sys.exit(main())
"""
"""What the child runs: ``python FOLDER/path`` looks there first, and not where it is started."""


def child_environment(
    folder: str,
    gpu: AbsentGPU | None,
    *,
    else_own_device: bool = False,
    variables: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The environment of a child that keeps its files in ``folder``.

    Args:
        folder: A temporary folder; ``path`` in it holds this package.
        gpu: The GPU to answer for; None for the platform the machine has.
        else_own_device: Whether a vLLM that is not built for CUDA may answer for its own device.
        variables: What to start from: this process's own environment.
    """
    environment = dict(os.environ if variables is None else variables)
    # Packages installed with --user are found through HOME, which moves.
    environment.setdefault("PYTHONUSERBASE", site.getuserbase())
    for name in _FORGOTTEN:
        environment.pop(name, None)
    for name in _FOLDERS:
        kept = os.path.join(folder, "files", name.lower())
        os.makedirs(kept, exist_ok=True)
        environment[name] = kept
    environment.update(_SETTINGS)
    path = [os.path.join(folder, "path"), *environment.get("PYTHONPATH", "").split(os.pathsep)]
    # A relative entry, or an empty one, would be looked up where the child runs.
    environment["PYTHONPATH"] = os.pathsep.join(part for part in path if os.path.isabs(part))
    if gpu is not None:
        environment.update(_NO_GPU)
        environment[ABSENT_GPU] = gpu.to_json()
        if else_own_device:
            environment[ELSE_OWN_DEVICE] = "1"
    return environment


def make_path(folder: str) -> None:
    """Put this package, and its entry point, where the child's Python looks first.

    The child may run in another environment than this one, or this package may lie in a checkout
    and be installed nowhere.
    """
    package = os.path.dirname(os.path.abspath(version.__file__))
    ours = version.__version__
    path = os.path.join(folder, "path")
    info = os.path.join(path, f"vllm_kv_planner-{ours}.dist-info")
    os.makedirs(info)
    os.symlink(package, os.path.join(path, "vllm_kv_planner"))
    with open(os.path.join(path, "__main__.py"), "w", encoding="utf-8") as file:
        file.write(_MAIN)
    files = {
        "METADATA": f"Metadata-Version: 2.1\nName: vllm-kv-planner\nVersion: {ours}\n",
        "entry_points.txt": "[vllm.platform_plugins]\n"
        "vllm_kv_planner = vllm_kv_planner.vllm_adapter.plugin:platform\n",
    }
    for name, content in files.items():
        with open(os.path.join(info, name), "w", encoding="utf-8") as file:
            file.write(content)
