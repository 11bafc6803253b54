"""A log's lines read into a ``StartLog``; of several starts the last that says something."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..errors import InputError
from ..masking import masked_text
from ..records import replace
from .arguments import read_arguments, read_config_line
from .patterns import (
    BACKENDS,
    BANNER,
    CPU_ENGINE,
    DEVICE,
    FLASH,
    MEASURES,
    NEEDLES,
    NVIDIA,
    PROCESS,
    REFUSALS,
    RUNNER_V1,
    RUNNER_V2,
    VERSION_AND_MODEL,
)
from .read import read_log
from .start_log import StartLog


def parse_log(path: str) -> StartLog:
    """The start that the log at ``path`` (``-``: standard input) tells of.

    Raises:
        InputError: It cannot be read, or is no start-up log of vLLM.
    """
    notes: list[str] = []
    log = parse_lines(read_log(path, notes), where="standard input" if path == "-" else path)
    return replace(log, notes=tuple(notes)) if notes else log


def parse_lines(lines: Iterable[str], *, where: str) -> StartLog:
    """As ``parse_log``, for the lines themselves; those of ``patterns.MATTERS`` suffice.

    Raises:
        InputError: No line is vLLM's.
    """
    reader = _Reader(where)
    last: StartLog | None = None
    for line in lines:
        if reader.is_server and "version" in line and BANNER.search(line):
            last = _later(last, reader.start())
            reader = _Reader(where)
        reader.line(line)
    last = _later(last, reader.start())
    if not last.measures and last.refusal is None:
        raise InputError(
            f"{where[:200]}: no line of it tells of memory as vLLM does ('Model loading took', "
            "'Available KV cache memory', 'GPU KV cache size'): is it an engine's start-up log?"
        )
    return last


def _later(last: StartLog | None, log: StartLog) -> StartLog:
    """Of two starts the later one that says something."""
    return log if last is None or log.measures or not last.measures else last


class _Reader:
    """Collects one start, line by line."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.names: dict[str, str] = {}
        self.gpu: str | None = None
        self.arguments: dict[str, Any] = {}
        self.settled: dict[str, Any] = {}
        self.measures: dict[str, dict[str, float]] = {}
        self.backend: str | None = None
        self.runner: str | None = None
        self.is_server = False
        self.refusal: str | None = None
        self.on_cpu = False

    def start(self) -> StartLog:
        """What the lines so far tell."""
        return StartLog(
            where=self.where,
            version=self.version,
            model=self.arguments.get("model") or self.names.get("model"),
            gpu=self.gpu,
            arguments=self.arguments,
            settled=self.settled,
            measures=self.measures,
            backend=self.backend,
            runner=self.runner,
            is_server=self.is_server,
            refusal=self.refusal,
            on_cpu=self.on_cpu,
        )

    @property
    def version(self) -> str | None:
        found = self.names.get("version")
        return None if found is None else found.removeprefix("v").rstrip(".")

    def line(self, line: str) -> None:
        """One line's facts; each kind of line is known by a word before a pattern is tried."""
        if any(needle in line for needle in NEEDLES):
            self.identity(line)
        if "args: " in line:
            self.arguments.update(read_arguments(line.split("args: ", 1)[1]))
        if "with config: " in line:
            self.settled.update(read_config_line(line.split("with config: ", 1)[1]))
        if "device_name=" in line and (found := DEVICE.search(line)) is not None:
            self.gpu = found[1].replace("_", " ")
        elif self.gpu is None and "NVIDIA " in line and (found := NVIDIA.search(line)) is not None:
            self.gpu = found[0].strip()
        if "cpu" in line.lower() and CPU_ENGINE.search(line):
            self.on_cpu = True
        if "ackend" in line:
            self.attention(line)
        if RUNNER_V2 in line:
            self.runner = "V2"
        elif RUNNER_V1 in line and "Model loading took" in line:
            self.runner = self.runner or "V1"
        for needle, pattern in MEASURES:
            if needle in line and (found := pattern.search(line)) is not None:
                self.figures(line, found.groupdict())
        if self.refusal is None:
            self.gives_up(line)

    def identity(self, line: str) -> None:
        if BANNER.search(line):
            self.is_server = True
        for pattern in VERSION_AND_MODEL:
            found = pattern.search(line)
            if found is not None:
                for name, text in found.groupdict().items():
                    self.names.setdefault(name, text)

    def attention(self, line: str) -> None:
        if FLASH.search(line):
            self.backend = self.backend or "FLASH_ATTN"
        for pattern in BACKENDS:
            found = pattern.search(line)
            if found is not None and self.backend is None and found[1] != "VLLM":
                self.backend = found[1]

    def figures(self, line: str, found: dict[str, str | None]) -> None:
        process = PROCESS.search(line)
        name = process[1] if process else ""
        for measure, text in found.items():
            if text is not None:
                self.measures.setdefault(measure, {})[name] = float(text.replace(",", ""))

    def gives_up(self, line: str) -> None:
        for needle, pattern in REFUSALS:
            if needle in line and (found := pattern.search(line)) is not None:
                self.refusal = masked_text(line[found.start() :][:1000])[:300].strip()
                return
