"""Which requests come, and when: from distributions or a trace to one stream."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from ..errors import InputError
from ..records import dataclass
from .lengths import parse_lengths
from .requests import (
    MOST_REQUESTS,
    Arrivals,
    SharedPrefix,
    generated_requests,
    parse_arrivals,
    with_arrivals,
    with_pace,
    with_shared_prefix,
)

if TYPE_CHECKING:
    from .trace import Trace
    from .types import TraceRequest

USUAL_REQUESTS = 1000
"""Generated where no number is given; as ``--num-prompts`` of vLLM 0.33's ``bench serve``
(benchmarks/datasets/datasets.py ``DEFAULT_NUM_PROMPTS``)."""


@dataclass(frozen=True, kw_only=True)
class RequestSource:
    """Where requests come from; every name is a flag of ``workload``.

    Attributes:
        prompt_tokens: Lengths of prompts, as text; needs ``output_tokens``, and no ``trace``.
        output_tokens: Lengths of answers, as text.
        trace: File to read instead; ``-`` is standard input.
        trace_format: Its format; None: told by its columns.
        trace_model: Only the rows whose column ``Model`` says this.
        trace_tokenizer: Counts the tokens of conversations.
        all_lengths: Take conversations that vLLM's benchmark leaves out for their length.
        requests: How many at most; None: all of a trace, or 1,000 that are generated.
        rate: Requests a step (a second with ``step_time``).
        arrivals: ``poisson``, ``constant``, ``burst:N`` or ``all``; None: Poisson with a rate, the
            trace's own times where it has them, all at once otherwise.
        burstiness: Shape of Poisson's gaps.
        concurrency: Clients of a closed loop: each sends its next request when the last has ended.
        scale: The trace's times this much faster.
        step_time: Seconds of one engine step; arrivals are in seconds then, and in steps otherwise.
        shared_prefix: Tokens in front of every prompt that are the same for all.
        prefixes: How many different ones there are.
        seed: Of everything drawn.
    """

    prompt_tokens: str | None = None
    output_tokens: str | None = None
    trace: str | os.PathLike[str] | None = None
    trace_format: str | None = None
    trace_model: str | None = None
    trace_tokenizer: str | None = None
    all_lengths: bool = False
    requests: int | None = None
    rate: float | None = None
    arrivals: str | None = None
    burstiness: float | None = None
    concurrency: int | None = None
    scale: float | None = None
    step_time: float | None = None
    shared_prefix: int = 0
    prefixes: int | None = None
    seed: int = 0

    def open(self) -> OpenSource:
        """The stream, and what is known before it runs.

        Raises:
            InputError: Flags that do not go together, or a trace that cannot be read.
        """
        self._check()
        arrivals = parse_arrivals(self.arrivals, self.rate, self.burstiness)
        replaced = any(each is not None for each in (self.arrivals, self.rate, self.concurrency))
        if self.trace is None:
            return self._generated(arrivals)
        from ..files.written import path_of
        from .trace import Trace, TraceOptions

        options = TraceOptions(
            form=self.trace_format,
            tokenizer=self.trace_tokenizer,
            every_length=self.all_lengths,
            model=self.trace_model,
            timed=not replaced,
        )
        trace = Trace(path_of(self.trace, "trace"), options)
        try:
            return self._traced(trace, arrivals, replaced=replaced)
        except BaseException:
            trace.close()
            raise

    def _traced(self, trace: Trace, arrivals: Arrivals, *, replaced: bool) -> OpenSource:
        """A trace's requests; ``replaced``: whether its own times do not count."""
        timed = trace.clock != "none" and not replaced
        if timed and trace.clock == "seconds" and self.step_time is None:
            raise InputError(
                f"{trace.where}: its times are seconds, and the engine counts steps: "
                "--step-time S says how long a step takes (0.03, say); or leave the times out: "
                "--arrivals all, --rate R or --concurrency N"
            )
        if self.scale is not None and not timed:
            raise InputError("--scale changes the pace of a trace's own times, which do not count")
        stream = iter(trace) if self.requests is None else islice(trace, self.requests)
        lengths = f"{trace.where} ({trace.form.name})"
        if not timed:
            return self._finished(stream, arrivals, lengths, trace)
        paced = with_pace(stream, 1.0 if self.scale is None else self.scale)
        return self._finished(paced, None, lengths, trace)

    def _generated(self, arrivals: Arrivals) -> OpenSource:
        if self.prompt_tokens is None or self.output_tokens is None:
            raise InputError(
                "which requests? --prompt-tokens and --output-tokens (1000, 500-1500, "
                "lognormal:mean=1000,sigma=0.8, ...), or --trace FILE"
            )
        stream = generated_requests(
            parse_lengths(self.prompt_tokens, "--prompt-tokens"),
            parse_lengths(self.output_tokens, "--output-tokens"),
            USUAL_REQUESTS if self.requests is None else self.requests,
            seed=self.seed,
        )
        lengths = f"prompts of {self.prompt_tokens} tokens, answers of {self.output_tokens}"
        return self._finished(stream, arrivals, lengths, None)

    def _finished(
        self,
        stream: Iterator[TraceRequest],
        arrivals: Arrivals | None,
        lengths: str,
        trace: Trace | None,
    ) -> OpenSource:
        """The stream with its arrivals and prefixes; no ``arrivals``: the trace's own."""
        if self.concurrency is not None:
            said = f"closed loop, {self.concurrency:,} clients"
        elif arrivals is None:
            pace = "" if self.scale is None else f", {self.scale:g} times as fast"
            said = f"as in the trace{pace}"
        else:
            stream = with_arrivals(stream, arrivals, seed=self.seed)
            said = arrivals.described("step" if self.step_time is None else "second")
        if self.shared_prefix:
            count = 1 if self.prefixes is None else self.prefixes
            shared = SharedPrefix(tokens=self.shared_prefix, count=count)
            stream = with_shared_prefix(stream, shared, seed=self.seed)
            which = "one" if shared.count == 1 else f"one of {shared.count:,}"
            lengths += f", behind {which} shared prefix{'es' * (shared.count > 1)} of "
            lengths += f"{shared.tokens:,} tokens"
        total = self.requests if trace is not None else self.requests or USUAL_REQUESTS
        return OpenSource(requests=stream, lengths=lengths, arrivals=said, total=total, trace=trace)

    def _check(self) -> None:
        """Refuse flags of a wrong type, or that make no sense by themselves or together."""
        from ..engine_args.value_types import of_type

        for kind, names in TYPES.items():
            for name in names:
                of_type(getattr(self, name), kind, name, null=name not in ("shared_prefix", "seed"))
        if self.trace is not None and (self.prompt_tokens, self.output_tokens) != (None, None):
            raise InputError("--trace brings its own lengths: no --prompt-tokens, --output-tokens")
        values = ((flag, getattr(self, name)) for flag, name in OF_TRACES)
        given = (flag for flag, value in values if value is not None and value is not False)
        if self.trace is None and (flag := next(given, None)) is not None:
            raise InputError(f"{flag} is about a trace: add --trace FILE")
        if self.requests is not None and not 1 <= self.requests <= MOST_REQUESTS:
            raise InputError(f"--requests {self.requests}: 1 to {MOST_REQUESTS:,}")
        if self.concurrency is not None:
            if not 1 <= self.concurrency <= 1_000_000:
                raise InputError(f"--concurrency {self.concurrency}: 1 to 1,000,000 clients")
            if (self.rate, self.arrivals, self.burstiness) != (None, None, None):
                raise InputError(
                    "--concurrency is a closed loop, where requests come when others end: "
                    "no --rate, --arrivals or --burstiness"
                )
        if self.step_time is not None and not 1e-6 <= self.step_time <= 3600:
            raise InputError(f"--step-time {self.step_time}: seconds, from 0.000001 to 3600")
        if self.scale is not None and not math.isfinite(self.scale):
            raise InputError(f"--scale {self.scale}: a factor; 2 is twice as fast")
        if self.prefixes is not None and not self.shared_prefix:
            raise InputError("--prefixes needs --shared-prefix: the tokens of one")


OF_TRACES = (
    ("--trace-format", "trace_format"),
    ("--trace-model", "trace_model"),
    ("--tokenizer", "trace_tokenizer"),
    ("--all-lengths", "all_lengths"),
    ("--scale", "scale"),
)
TYPES = {
    "str": (
        *("prompt_tokens", "output_tokens", "arrivals", "trace_format", "trace_model"),
        "trace_tokenizer",
    ),
    "int": ("requests", "concurrency", "prefixes", "shared_prefix", "seed"),
    "float": ("rate", "burstiness", "scale", "step_time"),
}
"""Fields of a source by their type."""


@dataclass(frozen=True, kw_only=True)
class OpenSource:
    """The requests, ready to run once.

    Attributes:
        requests: The stream.
        lengths: Where lengths come from, for people.
        arrivals: How requests arrive, for people.
        total: How many there are at most; None: nobody knows before the end.
        trace: The trace behind it.
    """

    requests: Iterator[TraceRequest]
    lengths: str
    arrivals: str
    total: int | None
    trace: Trace | None

    def close(self) -> None:
        """Let go of the trace, where it is not read to its end."""
        if self.trace is not None:
            self.trace.close()

    def notes(self) -> tuple[str, ...]:
        """What the trace's reader has to say; complete once the requests have run."""
        if self.trace is None:
            return ()
        left_out = (
            f"{count:,} left out: {reason}" for reason, count in self.trace.left_out.items()
        )
        return (*self.trace.notes, *left_out)
