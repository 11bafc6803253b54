"""What does vLLM itself say? Its own code plans, in a process of its own.

The only folder that imports vLLM, and only its ``internals`` do: they run in the child process
that ``client.py`` starts. Nothing here is imported until the vLLM planner is asked for.
"""

from __future__ import annotations

import sys


def end_shared_planner() -> None:
    """End the vLLM that answers ``--planner vllm`` in this process, if one was ever asked."""
    shared = sys.modules.get(f"{__name__}.shared")
    if shared is not None:
        shared.close_planners()
