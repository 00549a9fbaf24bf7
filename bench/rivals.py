"""The proxies that are measured, each started as its users start it, all in front of the same upstream."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from bench.ground import ROOT, Server, free_port
from bench.traffic import CLIENT_KEY

START_WITHIN_S = 20.0
LITELLM_START_WITHIN_S = 90.0

_NGINX = """
daemon off;
worker_processes 1;
pid {work_dir}/nginx.pid;
error_log stderr crit;
{user}
events {{ worker_connections 16384; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 300s;
    client_max_body_size 64m;
    client_body_buffer_size 1m;
    client_body_temp_path {work_dir}/body;
    proxy_temp_path {work_dir}/proxy;
    fastcgi_temp_path {work_dir}/fastcgi;
    uwsgi_temp_path {work_dir}/uwsgi;
    scgi_temp_path {work_dir}/scgi;
    upstream provider {{
        server 127.0.0.1:{upstream};
        keepalive 256;
        keepalive_requests 1000000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=2048;
        location / {{
            proxy_pass http://provider;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_buffering off;
            proxy_read_timeout 300s;
        }}
    }}
}}
"""

_BALANCER = """
providers:
  - {{name: bench, type: anthropic, base_url: "http://127.0.0.1:{upstream}", auth_type: api_key, auth_value: sk-bench}}
model_routes:
  "*": [{{provider: bench, model: passthrough, priority: 1}}]
"""

_LITELLM = """
model_list:
  - model_name: "*"
    litellm_params: {{model: "anthropic/*", api_base: "http://127.0.0.1:{upstream}", api_key: sk-bench}}
"""


def nginx(upstream: int, on: frozenset[int], work_dir: Path) -> Server | None:
    """Start nginx as a plain proxy with one worker; None where it is not installed. Raises `BenchFailed`."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if not program:
        return None
    port = free_port()
    user = "user root;" if os.geteuid() == 0 else ""
    file = work_dir / "nginx.conf"
    file.write_text(_NGINX.format(work_dir=work_dir, user=user, upstream=upstream, port=port))
    command = [program, "-p", str(work_dir), "-c", str(file), "-e", "stderr"]
    return _started(Server("nginx", command, on, work_dir, dict(os.environ), port), START_WITHIN_S)


def balancer(upstream: int, on: frozenset[int], work_dir: Path) -> Server:
    """Start the balancer as users do: default settings, logging on, one worker. Raises `BenchFailed`."""
    port = free_port()
    file = work_dir / "providers.yaml"
    file.write_text(_BALANCER.format(upstream=upstream))
    command = [sys.executable, str(ROOT / "src" / "main.py"), "--config", str(file), "--port", str(port)]
    ours = {"BALANCER_CONFIG", "LOG_LEVEL", "LOG_COLOR", "HOST", "PORT"}
    env = {name: value for name, value in os.environ.items() if name not in ours}
    return _started(Server("balancer", command, on, work_dir, env, port), START_WITHIN_S)


def litellm(upstream: int, on: frozenset[int], work_dir: Path) -> Server | None:
    """Start LiteLLM's proxy; None where it is not installed."""
    program = litellm_program()
    if not program:
        return None
    port = free_port()
    file = work_dir / "litellm.yaml"
    file.write_text(_LITELLM.format(upstream=upstream))
    command = [program, "--config", str(file), "--host", "127.0.0.1", "--port", str(port)]
    # It wants a key of whoever asks; the one our requests carry is too simple for it unless told otherwise.
    env = os.environ | {"LITELLM_MASTER_KEY": CLIENT_KEY, "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true"}
    return _started(Server("litellm", command, on, work_dir, env, port), LITELLM_START_WITHIN_S)


def litellm_program() -> str | None:
    """Return where LiteLLM is installed: at $BENCH_LITELLM, in this environment or on PATH; None: nowhere."""
    program = os.environ.get("BENCH_LITELLM") or shutil.which("litellm", path=str(Path(sys.executable).parent))
    return program or shutil.which("litellm")


def _started(server: Server, within_s: float) -> Server:
    try:
        server.wait_until_it_listens(within_s)
    except BaseException:
        server.stop()
        raise
    return server
