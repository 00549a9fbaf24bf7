"""Run llama.cpp's server on a model until standard input ends; says where it listens.

Run as: llama_server.py MODEL, with the package xllamacpp on the path (`make tools`).
"""

from __future__ import annotations

import sys

import xllamacpp  # type: ignore[import-not-found]

parameters = xllamacpp.CommonParams()
parameters.model.path = sys.argv[1]
parameters.port = 0
parameters.use_jinja = True
parameters.n_parallel = 1
parameters.cpuparams.n_threads = 1
parameters.cpuparams_batch.n_threads = 1
server = xllamacpp.Server(parameters)
print(server.listening_address, flush=True)
sys.stdin.read()
