"""A model file (GGUF) of two megabytes that says what it is made to say: for real servers in tests.

Its one layer does nothing, and every token is a direction of its own, so the next token follows from
the last one alone, by a table. Behind `:` it greets, behind `#` it calls a tool; the chat template ends
a prompt with the one or the other.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

CONTEXT_TOKENS = 2048
GREETING = "Hello from a tiny model."

_SAYS = ["▁Hello", "▁from", "▁a", "▁tiny", "▁model", "."]
_CALLS = ["<tool_call>", '\n{"name":▁"Read",', '▁"arguments":▁{"path":', '▁"a.txt"}}\n', "</tool_call>"]
_CONTROL = ["<unk>", "<s>", "</s>"]
_BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
_TOKENS = [*_CONTROL, *_BYTES, *_SAYS, *_CALLS]
_END = _TOKENS.index("</s>")
_TYPES = [2, 3, 3, *(6 for _ in _BYTES), *(1 for _ in _SAYS + _CALLS)]
"""Unknown, control, byte and plain tokens, in llama.cpp's numbers."""

TEMPLATE = """\
{%- if tools %}Tools:
{% for tool in tools %}{{ tool | tojson }}
{% endfor %}For each call answer <tool_call>
{"name": <name>, "arguments": <object>}
</tool_call>
{% endif -%}
{%- for message in messages -%}
{{ message.role }}={{ message.content }}
{%- if message.tool_calls %}{% for call in message.tool_calls %}
<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>{% endfor %}{% endif %}
{% endfor -%}
{%- if add_generation_prompt -%}assistant{{ "#" if tools and messages[-1].role != "tool" else ":" }}{%- endif -%}"""

_UINT32, _INT32, _FLOAT32, _BOOL, _STRING, _ARRAY = 4, 5, 6, 7, 8, 9
_ALIGNMENT_BYTES = 32
_FORWARD = 8
"""Width of the layer that does nothing."""


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _value(value: Any) -> tuple[int, bytes]:
    """Return a value's type and its bytes."""
    match value:
        case str():
            return _STRING, _string(value)
        case float():
            return _FLOAT32, struct.pack("<f", value)
        case bool():
            return _BOOL, struct.pack("<?", value)
        case int():
            return _UINT32, struct.pack("<I", value)
        case _:
            items = [_value(item) for item in value]
            kind = items[0][0]
            return _ARRAY, struct.pack("<IQ", kind, len(items)) + b"".join(data for _, data in items)


def _pair(key: str, value: Any) -> bytes:
    kind, data = _value(value)
    return _string(key) + struct.pack("<I", kind) + data


def _table(width: int, ones: list[int], strength: float) -> bytes:
    """Return a matrix with one number in each row: in the column that `ones` says."""
    rows = bytearray(4 * width * len(ones))
    for row, column in enumerate(ones):
        struct.pack_into("<f", rows, 4 * (row * width + column), strength)
    return bytes(rows)


def _before() -> list[int]:
    """Return for each token the one that it follows: the table by which the model speaks."""
    before = [0] * len(_TOKENS)
    for start, chain in ((":", _SAYS), ("#", _CALLS)):
        at = len(_CONTROL) + ord(start)
        for token in chain:
            before[_TOKENS.index(token)] = at
            at = _TOKENS.index(token)
    return before


def _tensors(width: int) -> dict[str, tuple[tuple[int, ...], bytes]]:
    ends = {len(_CONTROL) + ord(":"), len(_CONTROL) + ord("#"), *map(_TOKENS.index, _SAYS[:-1] + _CALLS[:-1])}
    speaks = bytearray(_table(width, _before(), 10.0))
    for column in (column for column in range(width) if column not in ends):  # whatever has no successor is the end
        struct.pack_into("<f", speaks, 4 * (_END * width + column), 10.0)
    square, ones = (width, width), struct.pack("<f", 1.0) * width
    layer = {
        **{f"attn_{name}.weight": (square, bytes(4 * width * width)) for name in ("q", "k", "v", "output")},
        "attn_norm.weight": ((width,), ones),
        "ffn_norm.weight": ((width,), ones),
        **{f"ffn_{name}.weight": ((width, _FORWARD), bytes(4 * width * _FORWARD)) for name in ("gate", "up")},
        "ffn_down.weight": ((_FORWARD, width), bytes(4 * width * _FORWARD)),
    }
    return {
        "token_embd.weight": ((width, len(_TOKENS)), _table(width, list(range(len(_TOKENS))), 1.0)),
        "output.weight": ((width, len(_TOKENS)), bytes(speaks)),
        "output_norm.weight": ((width,), ones),
        **{f"blk.0.{name}": tensor for name, tensor in layer.items()},
    }


def write(path: Path) -> None:
    """Write the model to `path`."""
    width = len(_TOKENS) + -len(_TOKENS) % 8
    facts: dict[str, Any] = {
        "general.architecture": "llama",
        "llama.context_length": CONTEXT_TOKENS,
        "llama.embedding_length": width,
        "llama.block_count": 1,
        "llama.feed_forward_length": _FORWARD,
        "llama.attention.head_count": 1,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.dimension_count": width,
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": _TOKENS,
        "tokenizer.ggml.scores": [0.0] * len(_TOKENS),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": _END,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.add_space_prefix": False,
        "tokenizer.chat_template": TEMPLATE,
    }
    types = struct.pack("<IIQ", _ARRAY, _INT32, len(_TYPES)) + struct.pack(f"<{len(_TYPES)}i", *_TYPES)
    pairs = [_pair(key, value) for key, value in facts.items()] + [_string("tokenizer.ggml.token_type") + types]
    heads: list[bytes] = []
    body = bytearray()
    tensors = _tensors(width)
    for name, (shape, data) in tensors.items():
        sizes = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
        heads.append(_string(name) + sizes + struct.pack("<IQ", 0, len(body)))
        body += data + bytes(-len(data) % _ALIGNMENT_BYTES)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(pairs)) + b"".join(pairs + heads)
    path.write_bytes(head + bytes(-len(head) % _ALIGNMENT_BYTES) + bytes(body))
