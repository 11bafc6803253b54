"""What is this GPU? A catalogue as data, and devices made by hand."""

from vllm_kv_planner.gpu.catalogue import all_gpus, custom_gpu, find_gpu
from vllm_kv_planner.gpu.gpu import GPU

__all__ = ["GPU", "all_gpus", "custom_gpu", "find_gpu"]
