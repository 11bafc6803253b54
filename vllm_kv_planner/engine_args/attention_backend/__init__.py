"""Which attention backend runs a layer, and what it makes of block sizes and pages.

The tables in ``selectable.py`` and ``model_specific.py`` say what each backend supports;
``select_backend`` goes through them as vLLM 0.33 does.
"""

from .backend import AttentionBackend, hybrid_bytes_per_token, layer_bytes_per_token
from .declaration import Capability, EngineFacts
from .kv_dtypes import KV_CACHE_DTYPES, boundary_skip_layers
from .preferences import Preferences, preferences_of
from .select import fixed_backend, select_backend, select_cpu_backend

__all__ = [
    "KV_CACHE_DTYPES",
    "AttentionBackend",
    "Capability",
    "EngineFacts",
    "Preferences",
    "boundary_skip_layers",
    "fixed_backend",
    "hybrid_bytes_per_token",
    "layer_bytes_per_token",
    "preferences_of",
    "select_backend",
    "select_cpu_backend",
]
