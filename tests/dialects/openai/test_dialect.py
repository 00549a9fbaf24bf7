"""The type `openai`: where requests go, what goes along, what is learnt."""

from __future__ import annotations

import json
from typing import Any

from openai_schema import check_chat, check_responses
from stand_ins import provider, request

from balancer.dialect import Ask, TypedState
from balancer.dialects.openai.dialect import DIALECT, MAX_REPAIRS
from balancer.dialects.openai.options import OWN_KEYS, Options, settled
from balancer.dialects.openai.profiles import Capabilities
from balancer.model import Candidate, Operation, Reply, WireRequest

BODY = {"model": "claude", "max_tokens": 32000, "messages": [{"role": "user", "content": "hi"}]}
JSON = ((b"content-type", b"application/json"),)
CLIENT = ((b"authorization", b"Bearer client"), (b"anthropic-beta", b"x"), (b"user-agent", b"claude-cli"))


def ask(state: TypedState | None = None, body: Any = None, wall: float = 1.8e9, **more: Any) -> Ask:
    options = Options(**more.pop("options", {}))
    asked = request(json.dumps({**BODY, **(body or {})}).encode(), CLIENT, stream=more.pop("stream", False))
    one = provider(**{"base_url": "https://api.example", "options": options, **more})
    return Ask(asked, Candidate(one, "gpt-x"), Operation.MESSAGES, TypedState() if state is None else state, wall, "n")


def sent(of: Ask, *replies: Reply) -> list[WireRequest]:
    """Run a flow against these replies; return what it sent."""
    flow = DIALECT.flow(of)
    wires = [next(flow)]
    for reply in replies:
        try:
            wires.append(flow.send(reply))
        except StopIteration:
            break
    return wires


def body_of(wire: WireRequest) -> dict[str, Any]:
    return json.loads(b"".join(wire.body))  # type: ignore[no-any-return]


def refusal(message: str, status: int = 400) -> Reply:
    return Reply(status, JSON, json.dumps({"error": {"message": message}}).encode())


def test_nothing_of_the_client_goes_along() -> None:
    (wire,) = sent(ask(headers=((b"x-team", b"blue"),)), Reply(200, JSON))

    assert wire.target == b"/v1/chat/completions"
    assert dict(wire.headers) == {
        b"accept": b"application/json",
        b"content-type": b"application/json",
        b"authorization": b"Bearer sk-a",
        b"x-team": b"blue",
    }
    check_chat(body_of(wire))
    assert body_of(wire)["model"] == "gpt-x"


def test_headers_of_the_file_go_over_ours() -> None:
    (wire,) = sent(ask(headers=((b"authorization", b"Custom k"),)), Reply(200, JSON))

    assert [value for name, value in wire.headers if name == b"authorization"] == [b"Custom k"]


def test_the_responses_api() -> None:
    (wire,) = sent(ask(options={"api": "responses", "profile": "openai_reasoning"}), Reply(200, JSON))

    assert wire.target == b"/v1/responses"
    check_responses(body_of(wire))


def test_a_refusal_is_repaired_and_remembered_for_a_day() -> None:
    state = TypedState()
    no = refusal("Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
    first = ask(state)
    wires = sent(first, no, Reply(200, JSON))

    assert ["max_tokens" in body_of(wire) for wire in wires] == [True, False]
    assert body_of(wires[1])["max_completion_tokens"] == 32000
    assert DIALECT.decoder(first, Reply(200, JSON)).notes == ("learnt rename:max_tokens:max_completion_tokens",)
    assert DIALECT.describe(state, Options(), 1.8e9 + 5) == {
        "lessons": {"gpt-x": ["rename:max_tokens:max_completion_tokens"]},
        "lessons_age_s": {"gpt-x": {"rename:max_tokens:max_completion_tokens": 5}},
    }
    assert "max_tokens" not in body_of(sent(ask(state))[0])
    assert "max_tokens" in body_of(sent(ask(state, wall=1.8e9 + 86401))[0])


def test_a_repair_that_did_not_help_is_no_lesson() -> None:
    state = TypedState()
    both = [
        refusal(f"Unrecognized request argument supplied: {name}") for name in ("max_tokens", "max_completion_tokens")
    ]

    assert len(sent(ask(state), *both, Reply(200, JSON))) == 2
    assert DIALECT.describe(state, Options(), 0.0) is None


def test_a_repair_is_a_lesson_though_the_server_is_busy_then() -> None:
    state = TypedState()
    sent(ask(state), refusal("Unrecognized request argument supplied: max_tokens"), Reply(429, JSON, b"{}"))

    assert DIALECT.describe(state, Options(), 1.8e9 + 5) == {
        "lessons": {"gpt-x": ["rename:max_tokens:max_completion_tokens"]},
        "lessons_age_s": {"gpt-x": {"rename:max_tokens:max_completion_tokens": 5}},
    }


def test_repairs_come_to_an_end() -> None:
    fields = {"temperature": 1, "top_p": 1, "stop_sequences": ["x"], "stream": True, "top_k": 1}
    fields |= {"tools": [{"name": "t"}], "tool_choice": {"type": "any", "disable_parallel_tool_use": True}}
    names = ["max_tokens", "temperature", "top_p", "stop", "parallel_tool_calls", "stream_options", "top_k"]
    of = ask(body=fields, options={"top_k": True})
    wires = sent(of, *(refusal(f"Unsupported parameter: {name}") for name in names))

    assert len(wires) == 1 + MAX_REPAIRS


def test_a_refusal_that_teaches_nothing_is_the_answer() -> None:
    assert len(sent(ask(), refusal("no"), Reply(200, JSON))) == 1


def test_no_tokens_are_answered_here() -> None:
    of = ask(body={"max_tokens": 0})
    (wire,) = sent(of, Reply(200, JSON))

    assert wire.script is not None
    decoder = DIALECT.decoder(of, Reply(200, JSON))
    for step in wire.script():
        if hasattr(step, "data"):
            decoder.feed(step.data)
    message = json.loads(decoder.end()[0].data)
    assert (message["content"], message["stop_reason"]) == ([], "max_tokens")


def test_a_probe_for_one_token_is_answered_though_the_server_cannot() -> None:
    no = refusal("Could not finish the message because max_tokens or model output limit was reached.")

    assert [wire.script is None for wire in sent(ask(body={"max_tokens": 1}), no)] == [True, False]


def test_models() -> None:
    of = Ask(request(), Candidate(provider(), ""), Operation.MODELS, TypedState())

    assert [(wire.method, wire.target) for wire in sent(of, Reply(200, JSON))] == [(b"GET", b"/v1/models")]
    assert not DIALECT.supports(Operation.COUNT_TOKENS)


def test_the_file_goes_over_the_profile() -> None:
    options = Options.model_validate({"profile": "deepseek", "vision": True, "tool_schema": "narrow", "stop": 0})
    can = settled(options, "https://api.example", "m").can

    assert (can.reasoning, can.vision, can.tool_schema, can.stop) == ("deepseek", True, "narrow", 0)


def test_what_the_responses_api_does_not_know_is_counted() -> None:
    of = ask(options={"api": "responses"}, body={"stop_sequences": ["x"], "top_k": 1})
    (wire,) = sent(of, Reply(200, JSON))

    assert not {"stop", "top_k"} & set(body_of(wire))
    assert DIALECT.decoder(of, Reply(200, JSON)).notes == ("dropped stop_sequence", "dropped top_k")


def test_every_option_is_a_capability_and_is_described() -> None:
    fields = Options.model_fields

    assert all(info.description for info in fields.values())
    assert set(fields) == {*Capabilities.__slots__, *OWN_KEYS}


NOT_FOUND = Reply(404, JSON, b'{"detail":"Not Found"}')


def targets(wires: list[WireRequest]) -> list[str]:
    return [wire.target.decode() for wire in wires]


def test_where_nothing_is_found_the_version_is_tried_and_remembered() -> None:
    state = TypedState()
    of = ask(state, base_url="https://api.example/llm")

    assert targets(sent(of, NOT_FOUND, Reply(200, JSON))) == ["/llm/chat/completions", "/llm/v1/chat/completions"]
    assert targets(sent(ask(state, base_url="https://api.example/llm"), Reply(200, JSON))) == [
        "/llm/v1/chat/completions"
    ]
    assert targets(sent(ask(state, base_url="https://api.example/other"), Reply(200, JSON))) == [
        "/other/chat/completions"
    ]


def test_a_host_alone_may_have_no_version_either() -> None:
    wires = sent(ask(base_url="https://api.perplexity.example"), NOT_FOUND, Reply(200, JSON))

    assert targets(wires) == ["/v1/chat/completions", "/chat/completions"]


def test_a_wrong_address_is_told_as_that() -> None:
    state, of = TypedState(), ask(base_url="https://api.example/llm")
    assert len(sent(of, NOT_FOUND, NOT_FOUND)) == 2

    fault = DIALECT.fault(of, NOT_FOUND)

    said = "404 at /llm/chat/completions and at /llm/v1/chat/completions: base_url or api may be wrong"
    assert (fault.status, fault.message) == (502, said)
    assert DIALECT.describe(state, Options(), 1.8e9) is None


def test_a_model_that_is_not_there_is_no_wrong_address() -> None:
    gone = Reply(404, JSON, b'{"error":{"message":"The model `gpt-x` does not exist","code":"model_not_found"}}')
    of = ask(base_url="https://api.example/llm")

    assert len(sent(of, gone)) == 1
    assert DIALECT.fault(of, gone).status == 404


def test_a_query_goes_along_and_the_key_has_a_header_of_its_own() -> None:
    of = ask(
        base_url="https://r.openai.azure.com/openai/deployments/gpt?api-version=2024-10-21", body={"max_tokens": 5}
    )
    (wire,) = sent(of, Reply(200, JSON))

    assert wire.target == b"/openai/deployments/gpt/chat/completions?api-version=2024-10-21"
    assert dict(wire.headers)[b"api-key"] == b"sk-a"
    assert b"authorization" not in dict(wire.headers)


def test_the_clients_own_key_in_another_header() -> None:
    (wire,) = sent(ask(options={"key_header": "X-Key"}, passthrough=True), Reply(200, JSON))

    assert dict(wire.headers)[b"x-key"] == b"client"


def test_a_server_that_only_streams_is_asked_for_a_stream() -> None:
    state = TypedState()
    wires = sent(ask(state), refusal("Stream must be set to true"), Reply(200, JSON))

    assert [body_of(wire).get("stream") for wire in wires] == [None, True]
    assert body_of(wires[1])["stream_options"] == {"include_usage": True}
    assert b"text/event-stream" in dict(wires[1].headers)[b"accept"]
    assert body_of(sent(ask(state), Reply(200, JSON))[0])["stream"] is True


def test_a_limit_above_which_answers_are_streamed() -> None:
    state = TypedState()
    sent(ask(state), refusal("Requests with max_tokens > 4096 must have stream=true"), Reply(200, JSON))

    assert body_of(sent(ask(state), Reply(200, JSON))[0])["stream"] is True
    assert "stream" not in body_of(sent(ask(state, body={"max_tokens": 100}), Reply(200, JSON))[0])


def test_a_model_that_is_served_by_the_other_api() -> None:
    state = TypedState()
    no = refusal("This model is only supported in v1/responses and not in v1/chat/completions.")
    wires = sent(ask(state), no, Reply(200, JSON))

    assert targets(wires) == ["/v1/chat/completions", "/v1/responses"]
    check_responses(body_of(wires[1]))
    assert targets(sent(ask(state), Reply(200, JSON))) == ["/v1/responses"]


def test_a_lesson_changes_no_request_that_was_not_refused_for_it() -> None:
    state = TypedState()
    tool = {"tools": [{"name": "t", "input_schema": {"type": "object"}}]}
    no = refusal("Function tools are not supported with this effort. Set reasoning_effort to 'none'.")
    wires = sent(ask(state, body=tool), no, Reply(200, JSON))

    assert body_of(wires[1])["reasoning_effort"] == "none"
    assert "reasoning_effort" not in body_of(sent(ask(state), Reply(200, JSON))[0])
    assert body_of(sent(ask(state, body=tool), Reply(200, JSON))[0])["reasoning_effort"] == "none"


def test_a_lesson_of_no_effect_ends_the_repairs() -> None:
    """What is refused stands in the file: the same request would be refused again."""
    of = ask(options={"effort": "low"}, body={"max_tokens": 50})

    assert len(sent(of, *[refusal("max_tokens must be at most 40")] * 3)) == 2


def test_mistrals_rules_are_learnt_one_after_the_other() -> None:
    state = TypedState()
    history = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "t", "input": {}}]},
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": "x"},
                {"type": "text", "text": "note"},
            ],
        },
    ]
    body = {"messages": history, "tools": [{"name": "t", "input_schema": {"type": "object"}}]}
    wires = sent(
        ask(state, body=body),
        refusal("Tool call id was toolu_1 but must be a-z, A-Z, 0-9, with a length of 9."),
        refusal("Unexpected role 'user' after role 'tool'"),
        Reply(200, JSON),
    )
    call, answer = body_of(wires[2])["messages"][1:]

    assert call["tool_calls"][0]["id"] == answer["tool_call_id"]
    assert len(answer["tool_call_id"]) == 9
    assert answer["content"] == "x\n\nnote"
    assert body_of(sent(ask(state, body=body), Reply(200, JSON))[0]) == body_of(wires[2])


def test_the_profile_that_the_address_picked_is_told() -> None:
    assert DIALECT.about(provider(base_url="https://api.deepseek.com", options=Options())) == [
        "profile 'deepseek', by its base_url; openai_config: {profile: NAME} sets another"
    ]
    assert DIALECT.about(provider(base_url="https://api.deepseek.com", options=Options(profile="vllm"))) == []
    assert DIALECT.about(provider(base_url="https://relay.example", options=Options())) == []


def test_a_relay_that_lacks_the_responses_api_is_asked_by_chat() -> None:
    state = TypedState()
    options = {"profile": "openai"}
    first = ask(state, options=options)
    of = Ask(first.request, Candidate(first.provider, "gpt-5.6"), Operation.MESSAGES, state, 1.8e9, "n")

    assert targets(sent(of, NOT_FOUND, Reply(200, JSON))) == ["/v1/responses", "/v1/chat/completions"]
    again = Ask(first.request, Candidate(first.provider, "gpt-5.6"), Operation.MESSAGES, state, 1.8e9, "n")
    assert targets(sent(again, Reply(200, JSON))) == ["/v1/chat/completions"]


def test_but_not_where_the_file_asks_for_it() -> None:
    of = ask(base_url="https://api.example/v1", options={"api": "responses"})

    assert targets(sent(of, NOT_FOUND)) == ["/v1/responses"]


def test_a_page_at_another_path_is_no_lesson() -> None:
    state = TypedState()
    page = Reply(200, ((b"content-type", b"text/html; charset=utf-8"),))
    sent(ask(state, base_url="https://api.example"), NOT_FOUND, page)
    one = provider(base_url="https://api.example", options=Options())
    listing = Ask(request(), Candidate(one, ""), Operation.MODELS, state, 1.8e9)
    sent(listing, NOT_FOUND, Reply(200, JSON))

    assert DIALECT.describe(state, Options(), 1.8e9) is None
