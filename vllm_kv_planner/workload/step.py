"""What one ``schedule()`` decided."""

from __future__ import annotations

from ..records import dataclass, field
from .state import Request


@dataclass(eq=False)
class Step:
    """What one ``schedule()`` decided.

    Attributes:
        scheduled: Tokens of each request that runs.
        sampling: Those of them that get an output: all but unfinished prefills.
        admitted: Requests that came out of the waiting queue, with the tokens found for them.
        preempted: Requests thrown out.
        finished: Requests that ended with this step's output, once that is back.
        running: Requests in the running queue.
        waiting: Requests left waiting.
        used_blocks: Blocks held.
        tokens: Of all requests together.
        limit: What kept the first waiting request out: ``blocks``, ``seats``, ``tokens``,
            ``interval``; or empty.
        budget: Tokens that may still be given out.
        threshold: Most tokens of one prompt; 0: no limit.
        only_decodes: Whether prompts sit this step out.
    """

    budget: int
    threshold: int
    only_decodes: bool
    scheduled: dict[Request, int] = field(default_factory=dict)
    sampling: set[Request] = field(default_factory=set)
    admitted: list[tuple[Request, int]] = field(default_factory=list)
    preempted: list[Request] = field(default_factory=list)
    finished: list[Request] = field(default_factory=list)
    running: int = 0
    waiting: int = 0
    used_blocks: int = 0
    tokens: int = 0
    limit: str = ""
