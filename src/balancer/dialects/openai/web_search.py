"""Web search on the provider's servers: Anthropic's tool in the provider's words, and what was found in Anthropic's.

The Responses API has a tool of its own, and so has OpenRouter. Neither tells all that Anthropic tells: the Responses
API names the sources of a search without their titles, OpenRouter only what the answer cites.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

from balancer.dialects.openai.composer import Composer
from balancer.dialects.openai.profiles import WebSearch
from balancer.wire.loose import object_of, objects_of, string_of

NAME = "web_search"
_ANTHROPIC = "web_search_"
_OPENROUTER = "openrouter:web_search"

SOURCES = "web_search_call.action.sources"
"""What the Responses API is to include: else nobody learns where it looked."""

OWN_ID = "srvtoolu_ccb"
"""Begins the ids of searches that are told in Anthropic's words. Where the provider gets back its own item of a search,
those are left out."""

CITED_MAX_CHARS = 150
CITATIONS_MAX = 500
"""Of one answer; what is cited is cut out of its text for each."""


def tool(asked: dict[str, Any], way: WebSearch, dropped: Counter[str]) -> dict[str, Any] | None:
    """Return Anthropic's tool in the words of a provider that searches in this way; None: it is none, or it can't."""
    if way == "none" or not str(asked.get("type")).startswith(_ANTHROPIC):
        return None
    allowed, blocked = _domains(asked.get("allowed_domains")), _domains(asked.get("blocked_domains"))
    where = object_of(asked.get("user_location"))
    place = {key: where[key] for key in ("city", "region", "country", "timezone") if isinstance(where.get(key), str)}
    fields: dict[str, Any] = {"user_location": {"type": "approximate", **place}} if place else {}
    if way == "responses":
        if filters := _given(allowed_domains=allowed, blocked_domains=blocked):
            fields["filters"] = filters
        return {"type": NAME, **fields}
    if asked.get("max_uses") is not None:
        dropped["web_search.max_uses"] += 1
    parameters = {**fields, **_given(allowed_domains=allowed, excluded_domains=blocked)}
    return {"type": _OPENROUTER, **({"parameters": parameters} if parameters else {})}


def _domains(value: Any) -> list[str]:
    return [domain for domain in value if isinstance(domain, str)] if isinstance(value, list) else []


def _given(**lists: list[str]) -> dict[str, list[str]]:
    return {name: items for name, items in lists.items() if items}


def most(asked: dict[str, Any]) -> int | None:
    """Return how often a request may search; None: it does not say."""
    uses = asked.get("max_uses")
    return uses if isinstance(uses, int) and not isinstance(uses, bool) and uses > 0 else None


def is_hosted(tool: dict[str, Any]) -> bool:
    """Return whether a tool in a provider's words is its web search."""
    return tool.get("type") in (NAME, _OPENROUTER)


def is_told(block: dict[str, Any]) -> bool:
    """Return whether a block of the history is a search, or its results, that was told here."""
    return string_of(block.get("id") or block.get("tool_use_id")).startswith(OWN_ID)


class Findings:
    """What the answer of a provider found, told to a composer."""

    def __init__(self, composer: Composer) -> None:
        self._composer = composer
        self._found: dict[str, str] = {}
        """Titles by addresses, of an answer that tells no searches but what it cites."""
        self._cited = 0

    def call(self, item: dict[str, Any]) -> None:
        """Tell an item `web_search_call` that has ended."""
        action = object_of(item.get("action"))
        if action.get("type") not in (None, "search"):
            return  # a page is opened, or looked through: Anthropic's search has no such step
        queries = action.get("queries")
        query = string_of(action.get("query")) or "; ".join(_domains(queries))
        urls = dict.fromkeys(string_of(source.get("url")) for source in objects_of(action.get("sources")))
        failed = item.get("status") == "failed"
        self._tell({"query": query} if query else {}, None if failed else {url: url for url in urls if url})

    def cited(self, annotations: Any, *, collect: bool = False) -> None:
        """Tell what a text cites. With `collect` it is also told by `rest` what was found."""
        for annotation in objects_of(annotations):
            if annotation.get("type") != "url_citation" or self._cited >= CITATIONS_MAX:
                continue
            self._cited += 1
            said = object_of(annotation.get("url_citation")) or annotation
            if not (url := string_of(said.get("url"))):
                continue
            title = string_of(said.get("title")) or url
            if collect:
                self._found.setdefault(url, title)
            cut = _cut(self._composer.said_text, said) or string_of(said.get("content"))[:CITED_MAX_CHARS]
            self._composer.cite(
                {
                    "type": "web_search_result_location",
                    "url": url,
                    "title": title,
                    "cited_text": cut,
                    "encrypted_index": "",
                }
            )

    def rest(self) -> None:
        """Tell, at the end of an answer, what was found and not told yet."""
        if self._found:
            found, self._found = self._found, {}
            self._tell({}, found)

    def _tell(self, asked: dict[str, Any], found: dict[str, str] | None) -> None:
        content: Any = {"type": "web_search_tool_result_error", "error_code": "unavailable"}
        if found is not None:
            content = [
                {"type": "web_search_result", "url": url, "title": title, "encrypted_content": "", "page_age": None}
                for url, title in found.items()
            ]
        self._composer.search(msgspec.json.encode([asked, content]).decode())


def _cut(text: str, said: dict[str, Any]) -> str:
    """Return the part of the text that an annotation names."""
    begin, end = said.get("start_index"), said.get("end_index")
    if not isinstance(begin, int) or not isinstance(end, int) or not 0 <= begin < end:
        return ""
    return text[begin:end][:CITED_MAX_CHARS]
