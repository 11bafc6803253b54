"""``vllm-kv-planner sweep``: many set-ups, a row each."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any

from ..engine_args.arguments import prepare_arguments
from ..engine_args.engine_args import EngineArgs
from ..engine_args.flags import FlagParser, add_engine_flags
from ..errors import InputError, printable
from ..files.written import check_apart
from .output import tell
from .planner_flags import add_custom_flags, add_planner_flags, command_parser, request_of

if TYPE_CHECKING:
    import argparse

    from ..capacity.sweep.job import Sweep
    from ..capacity.sweep.run import SweepResult
    from ..gpu.gpu import GPU
    from ..planning.request import PlanRequest

CUSTOM = "custom"
"""What the model's column says of a hand-made one."""

EPILOG = """\
examples:
  vllm-kv-planner sweep meta-llama/Llama-3.1-8B-Instruct Qwen/Qwen3-32B --gpu L4,H100 \\
      --grid tensor_parallel_size=1,2,4 --grid max_model_len=8K,32K --output rows.csv
  vllm-kv-planner sweep --file sweep.yaml --output rows.parquet --resume
  vllm-kv-planner sweep gpt2 --grid kv_cache_dtype=auto,fp8 --planner vllm --ray auto

Every NAME of --grid is a flag of vLLM, or model, gpu, vllm_version; the value none leaves the
flag out. In the file a list is an axis, anything else holds for all rows, and setups: lists
groups of flags, each tried with all the axes.

exit codes: 0 every set-up has its row (its error column says where it cannot be planned),
1 none could be planned, 2 the input is wrong, 130 interrupted (--resume goes on)
"""


def run(arguments: Sequence[str]) -> int:
    """Parse, plan, write rows; returns the exit code."""
    given = make_parser().parse_args(prepare_arguments(list(arguments)))
    if given.output is None and (given.resume or given.overwrite or given.retry_errors):
        raise InputError("--resume, --overwrite and --retry-errors are about the file of --output")
    if given.output is not None and given.format is not None:
        raise InputError("--format is for rows on stdout; the name of --output says its own")
    read = {name: value for name, value in vars(given).items() if name != "output"}
    check_apart({"--output": given.output}, [read])
    return planned(sweep_of(given), given)


def make_parser() -> FlagParser:
    """Our own flags first, then vLLM's."""
    parser = command_parser(
        "sweep",
        description="KV cache memory, blocks and concurrency of many vLLM engines.",
        usage="MODEL... [--gpu NAME,NAME] [--grid NAME=VALUE,VALUE]... [--output FILE] [vLLM flags]"
        "\n--file SWEEP.yaml [--output FILE]",
        epilog=EPILOG,
    )
    parser.add_argument(
        "model_tags", metavar="MODEL", nargs="*", help="Hub ids, directories or files"
    )
    own = parser.add_argument_group("sweep")
    own.add_argument("--gpu", dest="gpus", metavar="NAME,...", help="GPUs to plan for (H100)")
    own.add_argument(
        "--grid", action="append", default=[], metavar="NAME=VALUE,...", help="an axis; repeatable"
    )
    own.add_argument("--file", metavar="YAML", help="axes, values and set-ups from a file")
    own.add_argument(
        "--output", "-o", metavar="FILE", help=".csv, .jsonl or .parquet; else to stdout"
    )
    own.add_argument("--format", choices=("csv", "jsonl"), help="of rows on stdout (csv)")
    own.add_argument("--resume", action="store_true", help="go on with FILE: plan what it lacks")
    own.add_argument("--overwrite", action="store_true", help="begin FILE anew")
    own.add_argument(
        "--retry-errors", action="store_true", help="with --resume: rows with an error once more"
    )
    own.add_argument("--workers", type=int, metavar="N", help="processes (one a core)")
    own.add_argument(
        "--ray", metavar="ADDRESS", help="plan on a Ray cluster: auto, HOST:PORT, ray://..., local"
    )
    add_planner_flags(parser.add_argument_group("planner"), gpu=False)
    add_custom_flags(parser)
    add_engine_flags(parser)
    return parser


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
        from ..engine_args.choose_gpu import choose_gpu

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
