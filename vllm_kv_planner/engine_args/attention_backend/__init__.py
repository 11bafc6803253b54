"""Which attention backend runs a layer, and what it makes of block sizes and pages.

The tables in ``selectable.py`` and ``model_specific.py`` say what each backend supports;
``select_backend`` goes through them as vLLM 0.33 does.
"""

from .backend import AttentionBackend
from .facts import Capability, EngineFacts
from .select import fixed_backend, select_backend, select_cpu_backend

__all__ = [
    "AttentionBackend",
    "Capability",
    "EngineFacts",
    "fixed_backend",
    "select_backend",
    "select_cpu_backend",
]
