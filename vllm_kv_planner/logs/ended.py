"""Engines that ran out of memory after they had started, as their logs tell it."""

from __future__ import annotations

import re

from ..masking import masked_text
from ..records import dataclass

OUT_OF_MEMORY = "out of memory"
SERVING = ("Application startup complete", "init engine (profile", "Avg prompt throughput")
"""Said by an engine that has started: what ends it afterwards, traffic did."""
SIZES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("wanted", re.compile(r"Tried to allocate (?P<size>\d{1,9}(?:\.\d{1,9})?) (?P<unit>[KMG])iB")),
    ("left", re.compile(r"of which (?P<size>\d{1,9}(?:\.\d{1,9})?) (?P<unit>[KMG])iB is free")),
)
"""Of PyTorch's line, in its own units."""
TRACES: tuple[tuple[str, str], ...] = (
    ("_get_prompt_logprobs_dict", "prompt logprobs"),
    ("compute_prompt_logprobs", "prompt logprobs"),
    ("gather_logprobs", "logprobs of answers"),
    ("_get_workspace_buffer", "attention workspace"),
    ("_execute_mm_encoder", "images and videos of other kinds at once"),
    ("pynccl.py", "NCCL's buffers of first use"),
)
"""Functions of a traceback, and which risk of ``memory/headroom.py`` they belong to."""
_TO_GIB = {"K": 1 << 20, "M": 1 << 10, "G": 1}


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How an engine that had started ran out of memory.

    Attributes:
        line: What it printed.
        wanted: GiB it tried to allocate.
        left: GiB that were free on the GPU.
        during: The risk of ``memory/headroom.py`` whose function is in the traceback.
    """

    line: str
    wanted: float | None
    left: float | None
    during: str | None


class Serving:
    """Reads on once the engine has started; ``ended``: what it ended with."""

    def __init__(self) -> None:
        self.started = False
        self.during: str | None = None
        self.ended: Ended | None = None

    def line(self, line: str) -> bool:
        """Whether the engine had started when it printed this line."""
        self.started = self.started or any(words in line for words in SERVING)
        if self.started and self.ended is None:
            self.during = next((risk for name, risk in TRACES if name in line), self.during)
            if OUT_OF_MEMORY in line:
                self.ended = self._ended(line)
        return self.started

    def _ended(self, line: str) -> Ended:
        sizes = {}
        for name, pattern in SIZES:
            found = pattern.search(line)
            sizes[name] = None if found is None else float(found["size"]) / _TO_GIB[found["unit"]]
        said = masked_text(line[max(0, line.find(OUT_OF_MEMORY) - 5) :][:1000])[:300].strip()
        return Ended(line=said, during=self.during, **sizes)
