"""The child process: import vLLM once, then answer one request after another.

``python FOLDER/path FOLDER``; the parent (``child.py``) sets the environment. Requests come as JSON
lines on what was stdin, where libraries find nothing. Answers go as JSON lines to what was stdout;
what vLLM prints goes to stderr. Every request is answered in a fork, so that process groups, the
static forward context and whatever a model's code leaves behind end with it.
"""

from __future__ import annotations

import importlib
import json
import os
import select
import shutil
import signal
import sys
import traceback
from collections.abc import Iterable
from typing import Any, TextIO

from .plugin import ABSENT_GPU, ELSE_OWN_DEVICE

# What every model imports. What else a fork had to import, the server imports after it.
_PRELOAD = (
    "vllm.engine.arg_utils",
    "vllm.v1.engine.core",
    "vllm.v1.worker.gpu_worker",
    "vllm.v1.worker.gpu.model_runner",
    "vllm.v1.worker.gpu_model_runner",
    "vllm.model_executor.models.llama",
    "vllm.v1.attention.backends.flash_attn",
    "vllm.v1.attention.backends.triton_attn",
    "torch._functorch.aot_autograd",
)


class Server:
    """One child process: one GPU, or the machine's own platform."""

    def __init__(self, folder: str, requests: TextIO, answers: TextIO) -> None:
        self.folder = folder
        self.requests = requests
        self.answers = answers

    def run(self) -> int:
        """Import vLLM, then serve until the parent closes the pipe."""
        try:
            ready = self.prepare()
        except Exception as error:
            traceback.print_exc()
            self.send({"failed": first_line(error)})
            return 1
        self.send({"ready": ready})
        for line in self.requests:
            request = json.loads(line)
            answered = answer_in_fork(request, self)
            modules = answered.pop("imported", [])
            self.send({"id": request["id"], **answered})
            import_all(modules)  # while nobody waits, so that the next fork has them
        return 0

    def prepare(self) -> dict[str, Any]:
        """Import vLLM and replace what must be; says which vLLM and which platform it is."""
        self.send({"progress": "importing torch"})
        import torch

        torch.set_num_threads(1)
        if torch.version.cuda is None and os.environ.get(ELSE_OWN_DEVICE):
            os.environ.pop(ABSENT_GPU, None)
        if os.environ.get(ABSENT_GPU):
            self.become_absent_gpu()
        self.send({"progress": "importing vLLM"})
        importlib.import_module("vllm")
        import_all(_PRELOAD)
        from .internals import patches
        from .internals.names import TESTED, is_tested, name, version

        platform = name("current_platform")
        patches.apply()
        return {
            "vllm_version": version(),
            "tested": is_tested(),
            "tested_versions": list(TESTED),
            "device": str(platform.device_type),
            "device_name": cpu_name() if platform.device_type == "cpu" else None,
        }

    def become_absent_gpu(self) -> None:
        """Make torch, Triton and the dynamic linker answer for the absent GPU.

        Raises:
            UnsupportedError: This vLLM is not built for CUDA.
        """
        import torch

        from ..errors import UnsupportedError
        from .absent_gpu import absent_gpu
        from .fakes import pretend_rocm_kernels, pretend_torch, pretend_triton
        from .libcuda import load_libcuda

        if torch.version.cuda is None:
            raise UnsupportedError(
                "the vLLM installed here is not built for CUDA (its torch is "
                f"{torch.__version__}): it plans for its own device only (--gpu cpu for the CPU "
                "build). pip install vllm gets the build that plans for NVIDIA GPUs"
            )
        load_libcuda(self.folder, extensions())
        pretend_torch()
        pretend_triton()
        if absent_gpu().gcn_architecture:
            pretend_rocm_kernels()

    def send(self, message: dict[str, Any]) -> None:
        """One JSON line to the parent."""
        self.answers.write(json.dumps(message) + "\n")
        self.answers.flush()


def extensions() -> list[str]:
    """vLLM's compiled extensions, found without importing it."""
    from importlib.util import find_spec

    found: list[str] = []
    for package in ("vllm", "humming"):  # humming: kernels that vLLM's quantisation imports
        spec = find_spec(package)
        for root in (spec.submodule_search_locations or []) if spec else []:
            for folder, _, files in os.walk(root):
                found += [os.path.join(folder, name) for name in files if name.endswith(".so")]
    return found


def import_all(modules: Iterable[str]) -> None:
    """Import what forks would import again; only ever a speed-up."""
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception:
            traceback.print_exc()


def answer_in_fork(request: dict[str, Any], server: Server) -> dict[str, Any]:
    """The answer of a forked process; a refusal where that process died."""
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        try:
            known = set(sys.modules)
            answered = answer(request, server)
            answered["imported"] = [name for name in sys.modules if name not in known]
            data = json.dumps(answered)
            with os.fdopen(writing, "w", encoding="utf-8") as pipe:
                pipe.write(data)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(0)
    os.close(writing)
    data = read_while_asked(reading, server)
    _, status = os.waitpid(pid, 0)
    if not data:
        return {"refused": f"the planning process died (status {status}); memory may have run out"}
    answered = json.loads(data)
    assert isinstance(answered, dict)
    return answered


def read_while_asked(pipe: int, server: Server) -> str:
    """What a fork writes; where whoever asked is gone, this process and its forks end at once."""
    asked = server.requests.fileno()
    waiting = select.poll()
    waiting.register(pipe, select.POLLIN)
    waiting.register(asked, 0)  # hang-ups only: what comes there is for the fork
    with os.fdopen(pipe, "rb") as answers:
        data = b""
        while True:
            if any(file == asked for file, _ in waiting.poll()):
                shutil.rmtree(server.folder, ignore_errors=True)
                os.killpg(0, signal.SIGKILL)
            part = os.read(answers.fileno(), 1 << 16)
            if not part:
                return data.decode()
            data += part


def answer(request: dict[str, Any], server: Server) -> dict[str, Any]:
    """Plan, in this process; what vLLM raises becomes one line."""
    from .internals.refusal import explain

    try:
        from .internals.answer import plan_values
        from .internals.config import engine_config, register_remote_config
        from .internals.engine import initialize_kv_caches

        notes = []
        for model in request.get("models", ()):
            note = register_remote_config(model["config"], model["names_code"])
            if note is not None:
                notes.append(note)
        workload = request.get("workload")
        if workload is not None:
            request["arguments"] |= workload["flags"]
        config = engine_config(request)
        if request.get("profile"):
            from .internals.profile_run import profiles

            return {"profile": profiles(config)}
        report = initialize_kv_caches(config, explain, request.get("stage_memory"))
        plan = plan_values(config, report, notes)
        if workload is None:
            return {"plan": plan}
        from .workload_server import answer_workload

        return answer_workload(workload, config, report, plan, server.requests, server.send)
    except BaseException as error:
        traceback.print_exc()
        return {"refused": explain(error)}


def cpu_name() -> str:
    """The processor, as the kernel names it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return "CPU"


def first_line(error: Exception) -> str:
    """An exception in one line; our own say enough by themselves."""
    from ..errors import PlannerError

    text = " ".join(str(error).split())[:400]
    return text if isinstance(error, PlannerError) else f"{type(error).__name__}: {text}"


def main() -> int:
    """Keep stdin for requests and stdout for answers, and serve."""
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    return Server(sys.argv[1], requests, answers).run()
