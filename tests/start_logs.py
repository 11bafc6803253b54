"""Start-up logs in the formats of vLLM's versions, written for these tests."""

from __future__ import annotations

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"

# 0.19, DEBUG: the split of the H100 sweep's kind; figures as such an engine prints them
V019 = f"""\
(APIServer pid=7) INFO 11-20 10:00:00 [utils.py:299] vLLM API server version 0.19.0
(APIServer pid=7) INFO 11-20 10:00:00 [utils.py:233] non-default args: {{'model_tag': '{LLAMA}', \
'api_key': '***', 'speculative_config': None, 'model': '{LLAMA}', 'max_model_len': 8192, \
'gpu_memory_utilization': 0.95, 'enable_prefix_caching': False, \
'compilation_config': {{'mode': None, 'cudagraph_mode': <CUDAGraphMode.FULL: 2>}}}}
(EngineCore pid=55) INFO 11-20 10:00:09 [core.py:105] Initializing a V1 LLM engine (v0.19.0) with \
config: model='{LLAMA}', speculative_config=None, tokenizer='{LLAMA}', dtype=torch.bfloat16, \
max_seq_len=8192, download_dir=None, load_format=auto, tensor_parallel_size=1, \
pipeline_parallel_size=1, quantization=None, enforce_eager=False, kv_cache_dtype=auto, \
structured_outputs_config=StructuredOutputsConfig(backend='auto', model='x'), \
enable_prefix_caching=False, compilation_config={{'level': 3}}
(EngineCore pid=55) INFO 11-20 10:00:20 [cuda.py:304] Using FLASH_ATTN attention backend out of \
potential backends: ['FLASH_ATTN', 'FLASHINFER'].
(EngineCore pid=55) INFO 11-20 10:00:30 [gpu_model_runner.py:4820] Model loading took 14.99 GiB \
memory and 3.213000 seconds
(EngineCore pid=55) INFO 11-20 10:00:39 [gpu_model_runner.py:5955] Estimated CUDA graph memory: \
0.75 GiB total
(EngineCore pid=55) DEBUG 11-20 10:00:39 [gpu_worker.py:420] Initial free memory: 78.68 GiB; \
Requested memory: 0.950000 (util), 75.23 GiB
(EngineCore pid=55) DEBUG 11-20 10:00:39 [gpu_worker.py:430] Memory profiling takes 4.41 seconds. \
Total non KV cache memory: 17.13GiB; torch peak memory increase: 1.89GiB; non-torch forward \
increase memory: 0.25GiB; weights memory: 14.99GiB.
(EngineCore pid=55) INFO 11-20 10:00:40 [gpu_worker.py:436] Available KV cache memory: 58.1 GiB
(EngineCore pid=55) INFO 11-20 10:00:40 [kv_cache_utils.py:1319] GPU KV cache size: 475,936 tokens
(EngineCore pid=55) INFO 11-20 10:00:40 [kv_cache_utils.py:1324] Maximum concurrency for 8,192 \
tokens per request: 58.10x
(EngineCore pid=55) INFO 11-20 10:00:50 [gpu_model_runner.py:6040] Graph capturing finished in 7 \
secs, took 0.81 GiB
(EngineCore pid=55) DEBUG 11-20 10:00:50 [gpu_worker.py:600] Free memory on device (78.68/79.19 \
GiB) on startup. Desired GPU memory utilization is (0.95, 75.23 GiB). Actual usage is 14.99 GiB \
for weight, 1.89 GiB for peak activation, 0.25 GiB for non-torch memory, and 0.81 GiB for \
CUDAGraph memory. Replace gpu_memory_utilization config with `--kv-cache-memory=61337993011` \
(57.13 GiB) to fit into requested memory, or `--kv-cache-memory=65` (60.58 GiB) to fully utilize \
gpu memory. Current kv cache memory in use is 58.1 GiB.
"""

# 0.6, V0: everything in one Namespace, the split over two lines without prefix
V066 = f"""\
INFO 12-20 08:00:00 api_server.py:712] vLLM API server version 0.6.6.post1
INFO 12-20 08:00:00 api_server.py:713] args: Namespace(subparser='serve', model_tag='{LLAMA}', \
config='', host=None, model='{LLAMA}', task='auto', dtype='auto', kv_cache_dtype='auto', \
max_model_len=8192, tensor_parallel_size=1, block_size=None, gpu_memory_utilization=0.9, \
max_num_seqs=None, quantization=None, enforce_eager=False, limit_mm_per_prompt=None, \
dispatch_function=<function serve at 0x7f00>)
INFO 12-20 08:00:09 llm_engine.py:234] Initializing an LLM engine (v0.6.6.post1) with config: \
model='{LLAMA}', speculative_config=None, dtype=torch.bfloat16, max_seq_len=8192, \
tensor_parallel_size=1, quantization=None, enforce_eager=False, kv_cache_dtype=auto
INFO 12-20 08:00:12 selector.py:120] Using Flash Attention backend.
INFO 12-20 08:00:30 model_runner.py:1099] Loading model weights took 14.9888 GB
INFO 12-20 08:00:40 worker.py:241] Memory profiling takes 4.02 seconds
INFO 12-20 08:00:40 worker.py:241] the current vLLM instance can use total_gpu_memory (79.10GiB) x \
gpu_memory_utilization (0.90) = 71.19GiB
INFO 12-20 08:00:40 worker.py:241] model weights take 14.99GiB; non_torch_memory takes 0.09GiB; \
PyTorch activation peak memory takes 1.26GiB; the rest of the memory reserved for KV Cache is \
54.85GiB.
INFO 12-20 08:00:41 gpu_executor.py:76] # GPU blocks: 28081, # CPU blocks: 2048
INFO 12-20 08:00:41 gpu_executor.py:80] Maximum concurrency for 8192 tokens per request: 54.85x
INFO 12-20 08:01:00 model_runner.py:1542] Graph capturing finished in 17 secs, took 0.22 GiB
"""

# 0.29, two ranks, below a container's prefixes and with colours
V029 = "".join(
    f"vllm-1  | 2026-10-02T10:00:00.123Z {line}\n"
    for line in (
        "\x1b[0;36m(APIServer pid=1)\x1b[0;0m INFO 10-02 10:00:00 [startup.py:40]   █▄█▀ █     █  "
        "version \x1b[1m0.29.0\x1b[0m",
        "\x1b[0;36m(APIServer pid=1)\x1b[0;0m INFO 10-02 10:00:00 [startup.py:40]    ▀▀  ▀▀▀▀▀ ▀  "
        "model   \x1b[1mQwen/Qwen3-32B\x1b[0m",
        "(APIServer pid=1) INFO 10-02 10:00:01 [startup.py:96] non-default args: "
        "{'model_tag': 'Qwen/Qwen3-32B', 'tensor_parallel_size': 2, 'max_model_len': 32768}",
        "(Worker_TP0 pid=80) INFO 10-02 10:00:10 [gpu_worker.py:513] Using V2 Model Runner",
        "(Worker_TP0 pid=80) INFO 10-02 10:00:30 [model_runner.py:429] Model loading took 30.59 "
        "GiB memory and 9.100000 seconds",
        "(Worker_TP1 pid=81) INFO 10-02 10:00:30 [model_runner.py:429] Model loading took 30.6 "
        "GiB memory and 9.200000 seconds",
        "(Worker_TP0 pid=80) INFO 10-02 10:00:39 [gpu_model_runner.py:6410] Estimated CUDA graph "
        "memory: 1.01 GiB total",
        "(Worker_TP0 pid=80) INFO 10-02 10:00:40 [gpu_worker.py:772] Available KV cache memory: "
        "36.11 GiB",
        "(Worker_TP1 pid=81) INFO 10-02 10:00:40 [gpu_worker.py:772] Available KV cache memory: "
        "36.05 GiB",
        "(EngineCore pid=60) INFO 10-02 10:00:41 [kv_cache_utils.py:1147] GPU KV cache size: "
        "295,280 tokens, Maximum concurrency for 32,768 tokens per request: 9.01x",
        "(Worker_TP1 pid=81) INFO 10-02 10:00:55 [gpu_worker.py:1066] Free memory on device "
        "(77.65/79.19 GiB) on startup. Desired GPU memory utilization is (0.92, 72.85 GiB). Actual "
        "usage is 32.9 GiB for consumed memory (weights + non-torch), 3.9 GiB for peak activation, "
        "and 0.9 GiB for CUDAGraph memory. Replace gpu_memory_utilization config with "
        "`--kv-cache-memory=1` (0.0 GiB) to fit into requested memory, or `--kv-cache-memory=2` "
        "(0.0 GiB) to fully utilize gpu memory. Current kv cache memory in use is 36.05 GiB.",
    )
)

REFUSED = f"""\
INFO 05-20 10:00:00 [api_server.py:1800] vLLM API server version 0.11.0
INFO 05-20 10:00:00 [utils.py:233] non-default args: {{'model_tag': '{LLAMA}'}}
INFO 05-20 10:00:30 [gpu_model_runner.py:2602] Model loading took 14.9889 GiB and 2.9 seconds
INFO 05-20 10:00:40 [gpu_worker.py:298] Available KV cache memory: 3.96 GiB
ERROR 05-20 10:00:41 [core.py:708] ValueError: To serve at least one request with the models's max \
seq len (131072), (16.00 GiB KV cache is needed, which is larger than the available KV cache \
memory (3.96 GiB). Based on the available memory, the estimated maximum model length is 32432. \
Try increasing `gpu_memory_utilization` or decreasing `max_model_len` when initializing the engine.
"""

# 0.32, vLLM's CPU build, as such an engine printed it
CPU = """\
(MainProcess pid=9) INFO 11-30 07:37:14 [entrypoints/.../utils/api_utils.py:286] non-default args: \
{'skip_tokenizer_init': True, 'load_format': 'dummy', 'max_model_len': 256, 'max_num_seqs': 4, \
'disable_log_stats': True, 'enforce_eager': True, 'model': 'gpt2'}
(MainProcess pid=9) INFO 11-30 07:38:02 [config/scheduler.py:307] Chunked prefill is enabled with \
max_num_batched_tokens=1024.
(EngineCore pid=10) INFO 11-30 07:38:27 [v1/engine/core.py:133] Initializing a V1 LLM engine \
(v0.32.0) with config: model='gpt2', speculative_config=None, tokenizer='gpt2', \
dtype=torch.bfloat16, max_seq_len=256, load_format=dummy, tensor_parallel_size=1, \
quantization=None, enforce_eager=True, kv_cache_dtype=auto, device_config=cpu, seed=0
(Worker pid=11) INFO 11-30 07:38:55 [v1/worker/cpu_model_runner.py:68] Starting to load model \
gpt2...
(Worker pid=11) INFO 11-30 07:39:01 [v1/worker/cpu_worker.py:260] Explicitly set (1.0/23.54) GiB \
for KV cache on node 0.
(EngineCore pid=10) INFO 11-30 07:39:01 [v1/core/kv_cache_utils.py:2327] CPU KV cache size: \
174,720 tokens, Maximum concurrency for 256 tokens per request: 682.50x
"""
