"""What is this GPU? A catalogue as data, and devices made by hand."""

from .catalogue import all_gpus, custom_gpu, find_gpu, offered_gpus
from .gpu import GPU

__all__ = ["GPU", "all_gpus", "custom_gpu", "find_gpu", "offered_gpus"]
