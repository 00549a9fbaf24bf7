"""Which path an API has, and which answers say that there is none."""

from __future__ import annotations

import json

import pytest

from balancer.dialects.openai.address import address, is_classic, is_misplaced
from balancer.model import Reply

PATHS = {
    "https://api.openai.com": ("/v1", ""),
    "https://api.openai.com/v1": ("/v1", None),
    "https://api.openai.com/v1/": ("/v1", None),
    "https://api.openai.com/v1/chat/completions": ("/v1", None),
    "https://openrouter.ai/api/v1": ("/api/v1", None),
    "https://generativelanguage.googleapis.com/v1beta/openai": ("/v1beta/openai", None),
    "https://open.bigmodel.cn/api/paas/v4": ("/api/paas/v4", None),
    "https://api.groq.com/openai": ("/openai", "/openai/v1"),
    "https://models.github.ai/inference": ("/inference", "/inference/v1"),
    "https://r.openai.azure.com/openai/deployments/gpt": ("/openai/deployments/gpt", "/openai/deployments/gpt/v1"),
    "http://localhost:11434": ("/v1", ""),
}


@pytest.mark.parametrize(("base_url", "expected"), PATHS.items())
def test_where_the_api_lives(base_url: str, expected: tuple[str, str | None]) -> None:
    assert address(base_url)[:2] == expected


def test_the_file_may_say_whether_there_is_a_version() -> None:
    assert address("https://a.example/x", versioned=False)[:2] == ("/x", None)
    assert address("https://a.example/x", versioned=True)[:2] == ("/x/v1", None)
    assert address("https://a.example", versioned=False)[:2] == ("", None)
    assert address("https://a.example/x/v1", versioned=False)[:2] == ("/x", None)


def test_a_query_is_kept() -> None:
    assert address("https://a.example/openai/deployments/x?api-version=2024-10-21").query == "api-version=2024-10-21"


def test_a_deployment_has_chat_only() -> None:
    assert is_classic("https://r.openai.azure.com/openai/deployments/gpt?api-version=1")
    assert is_classic("https://r.openai.azure.com/openai/deployments/gpt/chat/completions?api-version=1")
    assert not is_classic("https://r.openai.azure.com/openai/v1")


ANSWERS: dict[str, tuple[int, bytes, bool]] = {
    "FastAPI": (404, b'{"detail":"Not Found"}', True),
    "Go": (404, b"404 page not found", True),
    "nginx": (404, b"<html><body>404 Not Found</body></html>", True),
    "nothing": (404, b"", True),
    "OpenAI": (404, b'{"error":{"message":"Invalid URL (POST /v1/chat)","type":"invalid_request_error"}}', True),
    "Azure": (404, b'{"error":{"code":"404","message":"Resource not found"}}', True),
    "another method": (405, b'{"detail":"Method Not Allowed"}', True),
    "a model": (404, b'{"error":{"message":"The model `x` does not exist","code":"model_not_found"}}', False),
    "a deployment": (404, b'{"error":{"code":"DeploymentNotFound","message":"does not exist"}}', False),
    "OpenRouter": (404, b'{"error":{"message":"No endpoints found for x","code":404}}', False),
    "a refusal": (400, b'{"detail":"Not Found"}', False),
}


@pytest.mark.parametrize(("status", "body", "expected"), ANSWERS.values(), ids=ANSWERS)
def test_what_says_that_nothing_is_served_there(status: int, body: bytes, expected: bool) -> None:
    assert is_misplaced(Reply(status, (), body)) is expected


def test_a_long_body_costs_no_more_than_its_length() -> None:
    body = json.dumps({"detail": "x " * 500_000}).encode()

    assert is_misplaced(Reply(404, (), body))
