"""``vllm-kv-planner sweep``: many set-ups, a row each."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any

from ..engine_args.arguments import prepare_arguments
from ..engine_args.engine_args import EngineArgs
from ..errors import InputError, printable
from ..files.written import check_apart
from .output import tell
from .planner_flags import command_parser, request_of

if TYPE_CHECKING:
    import argparse

    from ..capacity.sweep.job import Sweep
    from ..capacity.sweep.run import SweepResult
    from ..gpu.gpu import GPU
    from ..planning.request import PlanRequest

CUSTOM = "custom"
"""What the model's column says of a hand-made one."""


def run_sweep(arguments: Sequence[str]) -> int:
    """Parse, plan, write rows; returns the exit code."""
    given = command_parser("sweep").parse_args(prepare_arguments(list(arguments)))
    if given.output is None and (given.resume or given.overwrite or given.retry_errors):
        raise InputError("--resume, --overwrite and --retry-errors are about the file of --output")
    if given.output is not None and given.format is not None:
        raise InputError("--format is for rows on stdout; the name of --output says its own")
    read = {name: value for name, value in vars(given).items() if name != "output"}
    check_apart({"--output": given.output}, [read])
    return planned(sweep_of(given), given)


def sweep_of(given: argparse.Namespace) -> Sweep:
    """What the flags and the file ask for.

    Raises:
        PlannerError: The input is wrong; one line says what and where.
    """
    from ..capacity.sweep.job import finished
    from ..capacity.sweep.names import merged, read_sweep_file

    in_file, setups = ({}, []) if given.file is None else read_sweep_file(given.file)
    axes = merged(given_axes(given), in_file)
    if given.custom and "max_model_len" in axes:
        given.max_model_len = axes["max_model_len"][0]  # some length; each row has its own

    def request(label: str) -> PlanRequest:
        return request_of(plain, None if given.custom else label)

    def device(label: str) -> str | GPU:
        from ..gpu.detect import choose_gpu

        on_cpu = label == "cpu" and given.planner == "vllm"
        gpu = label if on_cpu else choose_gpu(label, given.gpu_memory)
        assert gpu is not None
        return gpu

    plain = _without_gpu(given)
    named = "gpu" in axes or any("gpu" in setup for setup in setups)
    if given.gpu_memory is not None and not named:
        raise InputError("--gpu-memory: say which device it is like, --gpu NAME")
    return finished(
        axes,
        setups,
        request,
        device,
        planner=given.planner,
        workers=given.workers,
        ray=given.ray,
    )


def _without_gpu(given: argparse.Namespace) -> argparse.Namespace:
    """Each row has its own GPU and version."""
    import argparse

    return argparse.Namespace(**{**vars(given), "gpu_memory": None, "vllm_version": None})


def given_axes(given: argparse.Namespace) -> dict[str, list[Any]]:
    """The axes of the command line; a flag of all rows is an axis of one value.

    Raises:
        InputError: A name is given twice.
    """
    from ..capacity.sweep.names import read_axis

    models = [*given.model_tags, *([given.model] if getattr(given, "model", None) else [])]
    if given.custom and models:
        raise InputError(f"--custom describes the model by hand; MODEL {models[0]!r} is too many")
    axes: dict[str, list[Any]] = {}
    for name, text in (("gpu", given.gpus), ("vllm_version", given.vllm_version)):
        if text is not None:
            axes[name] = [each.strip() for each in text.split(",") if each.strip()]
    if models or given.custom:
        axes["model"] = models or [CUSTOM]
    for name in EngineArgs.__annotations__:
        if name not in ("model", "revision", "hf_config_path") and hasattr(given, name):
            value = getattr(given, name)
            axes[name] = [tuple(value) if isinstance(value, list) else value]
    for text in given.grid:
        name, values = read_axis(text)
        if name in axes:
            raise InputError(f"--grid {name}: given twice; once is enough")
        axes[name] = values
    return axes


def planned(sweep: Sweep, given: argparse.Namespace) -> int:
    """Plan and write; what there is to say goes to stderr."""
    from ..capacity.sweep.output import Output
    from ..capacity.sweep.rows import text_lines
    from ..capacity.sweep.run import run_sweep
    from .output import progress_bar

    output = sink = None
    if given.output is None:
        sink = text_lines(sys.stdout, given.format or "csv", sweep.columns)
    else:
        output = Output(
            path=given.output,
            resume=given.resume,
            overwrite=given.overwrite,
            retry_errors=given.retry_errors,
        )
    try:
        # rows alone go to stdout: Ray prints there what it thinks of its workers
        bar = progress_bar(len(sweep.grid), "rows", look_every=1)
        with redirect_stdout(sys.stderr), bar as progress:
            result = run_sweep(sweep, output=output, sink=sink, progress=progress)
    except KeyboardInterrupt:
        goes_on = "" if output is None else f"; --resume goes on with {printable(given.output)}"
        tell(f"vllm-kv-planner: interrupted{goes_on}")
        return 130
    tell(f"vllm-kv-planner: {summary(result)}")
    return 1 if result.errors == result.total else 0


def summary(result: SweepResult) -> str:
    """One line on what was done."""
    from ..errors import one_line

    where = "" if result.output is None else f"{result.output}: "
    parts = [f"{where}rows: {result.total:,}", f"planned now: {result.total - result.kept:,}"]
    parts.append(f"of these fit: {result.fit:,}")
    if result.errors:
        parts.append(f"with an error: {result.errors:,}, the first: {result.first_error}")
    return one_line(", ".join(parts))
