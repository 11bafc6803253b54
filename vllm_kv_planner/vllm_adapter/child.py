"""One child process: start it, ask it, end it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import site
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .. import version
from ..errors import InputError, UnsupportedError, one_line
from .absent_gpu import AbsentGPU
from .plugin import ABSENT_GPU, ELSE_OWN_DEVICE

Progress = Callable[[str], None]

_REMOVAL_TRIES = 50
_REMOVAL_PAUSE = 0.05  # seconds


class Child:
    """A process that has imported vLLM and answers requests.

    Attributes:
        ready: What it said of itself: vLLM's version, its device, whether it is tested.
        conversing: A request is being answered in many messages; it takes no other.
    """

    def __init__(
        self,
        python: str,
        gpu: AbsentGPU | None,
        *,
        else_own_device: bool = False,
        timeout: float,
        progress: Progress,
    ) -> None:
        check_system()
        self._timeout = timeout
        self._progress = progress
        self._requests = 0
        self.conversing = False
        self._unread = b""
        folder = tempfile.mkdtemp(prefix="vllm-kv-planner-")
        self.models = os.path.join(folder, "models")
        os.mkdir(self.models)
        make_path(folder)
        self._log_path = os.path.join(folder, "log")
        with _removed_on_error(folder), open(self._log_path, "wb") as log:
            self._process = subprocess.Popen(
                [python, os.path.join(folder, "path"), folder],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=os.path.join(folder, "files", "home"),
                env=child_environment(folder, gpu, else_own_device=else_own_device),
                start_new_session=True,  # so that forks of forks end with it
            )
        # Also when it is forgotten and at the interpreter's end: the process, then its folder.
        self._end = weakref.finalize(self, _end, self._process, folder)
        try:
            self.ready: dict[str, Any] = self.read("ready")
        except BaseException:
            self.close()
            raise

    def ask(self, request: dict[str, Any], wanted: str = "plan") -> dict[str, Any]:
        """The plan's values, or those of another answer.

        Raises:
            InputError: vLLM's refusal, in one line.
        """
        if self.conversing:
            raise InputError("vLLM's process runs a workload: end that first, or ask another")
        self._requests += 1
        self.send({"id": self._requests, **request})
        return self.read(wanted)

    def send(self, message: dict[str, Any]) -> None:
        """One JSON line to the process."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write((json.dumps(message) + "\n").encode())
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._died() from None

    @property
    def is_alive(self) -> bool:
        """Whether it can be asked."""
        return self._process.poll() is None

    def close(self) -> None:
        """End the process and remove its folder."""
        self._end()

    def read(self, wanted: str) -> dict[str, Any]:
        """Messages up to the one that holds ``wanted``, and what it holds.

        Raises:
            InputError: vLLM's refusal, in one line.
        """
        deadline = time.monotonic() + self._timeout
        while True:
            message = self._message(deadline)
            if "progress" in message:
                self._progress(message["progress"])
            elif "failed" in message:
                raise UnsupportedError(f"vLLM could not be started: {message['failed']}")
            elif "refused" in message:
                raise InputError(message["refused"])
            elif wanted in message:
                value = message[wanted]
                assert isinstance(value, dict)
                return value

    def _message(self, deadline: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        pipe = self._process.stdout.fileno()
        while b"\n" not in self._unread:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([pipe], [], [], left)[0]:
                self.close()
                raise UnsupportedError(f"vLLM gave no answer in {self._timeout:.0f} seconds")
            data = os.read(pipe, 1 << 16)
            if not data:
                raise self._died()
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        message = json.loads(line)
        assert isinstance(message, dict)
        return message

    def _died(self) -> UnsupportedError:
        """The process is gone: what it said last."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        return UnsupportedError(
            f"vLLM's process ended (status {self._process.returncode}): {self.last_words()}"
        )

    def last_words(self) -> str:
        """The last line of what the process printed."""
        with contextlib.suppress(OSError), open(self._log_path, "rb") as log:
            lines = log.read().decode("utf-8", "replace").split("\n")
            return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "nothing")
        return "nothing"


def check_system() -> None:
    """Refuse a system that vLLM does not run on: it forks, and so does what asks it.

    Raises:
        UnsupportedError: This one does not.
    """
    if not hasattr(os, "fork"):
        raise UnsupportedError(
            "--planner vllm: vLLM runs on Linux and macOS only; --planner standalone plans here"
        )


@contextlib.contextmanager
def _removed_on_error(folder: str) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, OSError):
            raise UnsupportedError(f"vLLM's Python cannot be started: {error}") from None
        raise


def _end(process: subprocess.Popen[bytes], folder: str) -> None:
    """End a process and its forks, and remove its folder."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for _ in range(_REMOVAL_TRIES):  # forks killed a moment ago may still be writing
        shutil.rmtree(folder, ignore_errors=True)
        if not os.path.exists(folder):
            return
        time.sleep(_REMOVAL_PAUSE)


def say_on_terminal(line: str) -> None:
    """Progress for a person who waits; silent where nobody watches."""
    if sys.stderr.isatty():
        print(f"vllm-kv-planner: {one_line(line)} …", file=sys.stderr, flush=True)


# Read by vLLM before it looks for a platform; either would keep ours out.
_FORGOTTEN = (
    *("VLLM_TARGET_DEVICE", "VLLM_PLUGINS", "VLLM_KV_PLANNER", ABSENT_GPU, ELSE_OWN_DEVICE),
)

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
