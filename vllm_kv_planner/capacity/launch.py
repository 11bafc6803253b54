"""``plan_launch()``: what a command would start, whether it fits, and the start itself."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from ..engine_args.engine_args import read_environment
from ..engine_args.rules import check_modules
from ..engine_args.serve_command import ends_at_shell, parse_serve_command, split_command
from ..engine_args.value_types import shown
from ..errors import InputError, UnsupportedError, printable
from ..gpu.gpu import GPU
from ..masking import HIDDEN, hiding, masked_words
from ..memory.versions import version_rules
from ..planner import plan_of
from ..planning.request import UNKNOWN_MACHINE, Machine, PlanRequest
from ..planning.types import Plan
from ..records import dataclass, field, replace
from ..vllm_adapter import end_shared_planner
from .fit.suggestions import with_changes

_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_MOST_BYTES = 1 << 20

OTHER_ENVIRONMENT = ("docker", "podman", "nerdctl", "sudo", "ssh", "srun", "kubectl")
"""Programs that hand their own environment variables on to nobody, or not to vLLM."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """What will be started: the program with its arguments, and the assignments before it.

    Both are untouched, and may hold secrets.
    """

    words: tuple[str, ...] = field(repr=False)
    variables: Mapping[str, str] = field(repr=False, hash=False)

    @property
    def shares_environment(self) -> bool:
        """Whether vLLM will see the environment that the command is started in."""
        return os.path.basename(self.words[0]) not in OTHER_ENVIRONMENT

    def environment(self) -> dict[str, str]:
        """This process's variables and the command's own."""
        return {**os.environ, **self.variables}

    def program(self) -> str:
        """The program's file."""
        name = self.words[0]
        path = shutil.which(name, path=self.environment().get("PATH"))
        if path is None:
            where = "no such program" if os.sep in name else "not a program on PATH"
            raise InputError(f"{name[:200]!r}: {where}")
        return path

    def __str__(self) -> str:
        """The command for people and shells: secrets hidden, what would steer a terminal escaped.

        Quoted only where a shell needs it, so that what is hidden or escaped can be seen.
        """
        assigned = [f"{name}={value}" for name, value in self.variables.items()]
        return " ".join(map(_quoted, masked_words([*assigned, *self.words])))


def _quoted(word: str) -> str:
    """The word as a shell would need it; of an assignment the value alone in quotes."""
    word = printable(word)
    assignment = _ASSIGNMENT.fullmatch(word)
    before, value = (f"{assignment[1]}=", assignment[2]) if assignment else ("", word)
    quoted = value if value == HIDDEN else shlex.quote(value)
    plain = shlex.quote(value.replace(HIDDEN, "")) == value.replace(HIDDEN, "")
    return before + (value if plain else quoted)


def read_command(given: str | Sequence[str]) -> Command:
    """The command as a shell would start it, from one text or its words; no pipes, no ``&``."""
    if not isinstance(given, str | list | tuple) or any(type(word) is not str for word in given):
        raise InputError(f"command: {shown(given)} is neither a text nor a list of texts")
    words = [given] if isinstance(given, str) else list(given)
    if len(words) == 1:
        words = split_command(words[0])  # the whole command in one pair of quotes
    try:
        size = sum(len(os.fsencode(word)) for word in words)
    except UnicodeEncodeError:
        raise InputError("the command holds half a surrogate pair: no program takes it") from None
    if any("\0" in word for word in words) or size > _MOST_BYTES:
        raise InputError("the command holds a NUL character, or is longer than 1 MiB")
    variables: dict[str, str] = {}
    while words and (assignment := _ASSIGNMENT.fullmatch(words[0])) is not None:
        variables[assignment[1]] = assignment[2]
        del words[0]
    if not words:
        raise InputError("no command to start: launch -- vllm serve MODEL ...")
    for word in words:
        if ends_at_shell(word):
            raise InputError(
                f"{word[:40]!r} is for a shell, and launch starts none: leave it out, or put it "
                "behind launch's own line"
            )
    return Command(words=tuple(words), variables=variables)


@contextmanager
def environment_of(command: Command) -> Iterator[None]:
    """The command's assignments as this process's own: they may name a cache, GPUs, a token."""
    before = dict(os.environ)
    os.environ.update(command.variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


_PACKAGE = re.compile(r"vllm(?:_cpu)?-(\d[\w.+]{0,80})\.dist-info", re.ASCII)


def installed_version(program: str) -> str | None:
    """vLLM's version in the environment that ``program`` lies in; None where it is not told.

    Both ``bin/vllm`` and ``bin/python`` of a virtual environment lie beside its packages.
    """
    for path in (Path(program), Path(os.path.realpath(program))):
        names: list[str] = []
        with suppress(OSError):
            for packages in path.parent.parent.glob("lib/python3*/site-packages"):
                names += os.listdir(packages)
        found = {match[1] for match in map(_PACKAGE.fullmatch, names) if match is not None}
        if found:
            return found.pop() if len(found) == 1 else None
    return None


FITS = "fits"
BORDERLINE = "borderline"
"""It fits only if the prediction is not as far off as it may be."""


@dataclass(frozen=True, kw_only=True)
class Launch:
    """A command, the engine that it starts, and that engine's plan."""

    command: Command
    request: PlanRequest
    plan: Plan

    @property
    def verdict(self) -> str:
        """``fits``, ``borderline`` or ``does not fit``."""
        return self.plan.verdict.replace("_", " ")

    def start(self) -> NoReturn:
        """Become the command: signals, exit code, standard streams are its own from here on.

        Raises:
            InputError: The program is not there, or cannot be started.
        """
        if os.name == "nt":
            raise UnsupportedError("launch starts commands on Linux and macOS; --dry-run plans")
        program = self.command.program()
        end_shared_planner()  # nothing is cleaned up behind exec
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:  # closed when this began
                stream.flush()
        # Python ignores these, and what is ignored stays so across exec
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        try:
            os.execve(program, self.command.words, self.command.environment())
        except OSError as error:
            raise InputError(f"{program[:200]!r} cannot be started: {error.strerror}") from None


def plan_launch(
    command: str | Sequence[str],
    *,
    gpu: str | GPU | None = None,
    planner: str = "auto",
    vllm_version: str | None = None,
    machine: Machine = UNKNOWN_MACHINE,
) -> Launch:
    """Plan what ``vllm serve …`` would start; ``.start()`` starts it.

    Args:
        command: The command, as one text or its words; assignments may stand before it.
        gpu: The GPU of every rank; None: the first one of this machine, else H100.
        planner: ``standalone``, ``vllm`` or ``auto``.
        vllm_version: None: the one installed beside the program, else 0.33.
        machine: Free memory of a shared GPU, and the calibration of earlier starts.

    Raises:
        PlannerError: The command is no vLLM server, or cannot be planned; one line says why.
    """
    from ..config.find import find_config

    read = read_command(command)
    with environment_of(read), hiding(read.words):
        served = parse_serve_command(read.words)
        args = served.engine_args
        request = PlanRequest(
            found=find_config(args.model, revision=args.revision),
            args=args,
            gpu=gpu,
            planner=planner,
            vllm_version=vllm_version,
            environment=served.environment,
            machine=machine,
            notes=(*served.notes, *check_modules(served.lora_modules, args)),
        )
        return launch_of(read, request)


def launch_of(command: Command, request: PlanRequest) -> Launch:
    """The launch of a request that was read from the command's words.

    What the request leaves open is what this machine says: its GPU, its environment variables, the
    version of vLLM that lies beside the program.
    """
    with environment_of(command):
        if command.shares_environment:
            own = parse_serve_command(command.words).variables  # as in: env NAME=VALUE vllm serve
            request = replace(request, environment=read_environment({**os.environ, **own}))
        request = _on_this_machine(request)
        request = _with_version(request, command)
        plan = with_changes(request, plan_of(request))
        return Launch(command=command, request=request, plan=plan)


def _on_this_machine(request: PlanRequest) -> PlanRequest:
    if request.gpu is not None:
        return request
    from ..gpu.detect import present_gpus

    present = present_gpus()
    if not present:
        return request
    notes = [f"no GPU named: planned for this machine's {present[0].name}"]
    wanted = request.args.num_gpus
    if wanted > len(present):
        notes.append(f"the command asks for {wanted} GPUs, and this machine shows {len(present)}")
    return replace(request, gpu=present[0], notes=(*request.notes, *notes))


def _with_version(request: PlanRequest, command: Command) -> PlanRequest:
    if request.vllm_version is not None or request.planner == "vllm":
        return request
    version = None
    with suppress(InputError):  # only planned, or not here
        version = installed_version(command.program())
    if version is None:
        return request
    try:
        version_rules(version)
    except UnsupportedError:
        note = f"vLLM {version} is installed beside the program; its own rules are not known"
        return replace(request, notes=(*request.notes, note))
    return replace(request, vllm_version=version)
