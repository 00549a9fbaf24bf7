"""How a provider's answer is explained."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from balancer.cli import main
from balancer.commands.explain_error import CLASSES, Unreadable, answer_of
from balancer.model import RefusalClass

FILE = """\
providers:
  - name: main
    type: anthropic
    auth_value: sk-secret-of-main
    error_rules:
      - {status: 400, contains: "out of juice", class: account}
  - name: other
    type: openai
    base_url: "http://127.0.0.1:9/v1"
    auth_value: passthrough
model_routes:
  "*": [{provider: main}]
settings:
  error_rules:
    - {code: 1113, class: limit}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "p.yaml"
    path.write_text(FILE)
    return path


class Explained:
    """What the command said."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    def __getitem__(self, label: str) -> str:
        return next(line for line in self.out.splitlines() if line.startswith(f"{label}:")).partition(":")[2].strip()


def explain(file: Path, capsys: pytest.CaptureFixture[str], answer: str, *flags: str) -> Explained:
    given = file.with_name("answer.txt")
    given.write_bytes(answer.encode())
    code = main(["explain", "--error", str(given), "--config", str(file), *flags])
    said = capsys.readouterr()
    return Explained(code, said.out, said.err)


def body(words: str, kind: str = "invalid_request_error", **more: object) -> str:
    return json.dumps({"type": "error", "error": {"type": kind, "message": words, **more}})


CURL = "HTTP/1.1 100 Continue\r\n\r\nHTTP/2 429\r\ncontent-type: application/json\r\nretry-after: 30\r\n\r\n"


def test_an_answer_as_curl_prints_it(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = explain(file, capsys, CURL + body("This request would exceed your rate limit.", "rate_limit_error"))

    assert said.code == 0
    assert said["Answer"] == "429 rate_limit_error: This request would exceed your rate limit."
    assert said["Class"] == "limit (a limit that resets by itself)"
    assert said["Row"].endswith("'rate limit'")
    assert said["Next"] == "the next provider is asked"
    assert said["Cooldown"].startswith("this model of the provider, at least 30 s, which the answer asks for")
    assert said["Client"].startswith("if nobody else answers, 429 rate_limit_error, retry-after: 30")


def test_a_body_alone_with_its_status(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = explain(file, capsys, body("max_tokens: 3 > 2"), "--status", "400")

    assert said["Class"].startswith("request")
    assert said["Next"] == "no other provider is asked"
    assert said["Cooldown"].startswith("none")
    assert said["Client"] == "at once, this answer as it came: 400, body unchanged"


def test_a_body_may_name_its_status_itself(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = explain(file, capsys, body("Overloaded", "overloaded_error"))

    assert said["Answer"].startswith("529 overloaded_error")
    assert said["Cooldown"].endswith("the provider as a whole once a second model is refused alike")


def test_a_providers_own_rows_and_type_are_applied(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours = explain(file, capsys, body("we are out of JUICE"), "--status", "400", "--provider", "main")
    plain = explain(file, capsys, body("we are out of JUICE"), "--status", "400")
    shared = explain(file, capsys, body("no", code=1113), "--status", "400")

    assert (ours["Row"], shared["Row"]) == ("error_rules[0] of main", "settings.error_rules[0]")
    assert ours["Cooldown"] == "main as a whole, 10 minutes, doubling up to 60 minutes, and reported: NEEDS YOU"
    assert plain["Class"].startswith("capability")

    openai = explain(file, capsys, '{"detail": "Too many tokens per minute"}', "--status", "413", "--provider", "other")
    assert openai["Class"].startswith("limit")
    assert openai["Cooldown"].startswith("none: it is about the client's own credential")


def test_what_is_only_likely_is_said_so(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    failed = explain(file, capsys, body("Internal server error", "api_error"), "--status", "500")
    page = explain(file, capsys, "<html>blocked</html>", "--status", "403")

    assert failed["Cooldown"].endswith("not where the same request has failed alike at another provider")
    assert page["Cooldown"].startswith("none, until a second, different request is refused alike; then")


def test_the_words_that_decided_are_shown_and_no_secret(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = explain(
        file, capsys, body("Your credit balance is too low, sk-secret-of-main"), "--status", "400", "--provider", "main"
    )

    assert said["Row"].endswith("'no credit', by the words 'credit balance'")
    assert "sk-secret-of-main" not in said.out


def test_an_error_inside_a_200(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    event = f"event: error\ndata: {body('No.', 'policy_blocked')}\n"
    said = explain(file, capsys, f"HTTP/1.1 200 OK\r\n\r\n{event}")
    whole = explain(file, capsys, body("Overloaded", "overloaded_error"), "--status", "200")
    fine = explain(file, capsys, '{"type":"message","content":[]}', "--status", "200")

    assert said["Row"].endswith("'policy blocked'")
    assert whole["Row"].endswith("'overloaded'")
    assert (fine.code, fine.out) == (0, "200: this is no refusal, and no error is in it.\n")


def test_standard_input_and_no_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BALANCER_CONFIG", "")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(body("x", "authentication_error").encode())))

    assert main(["explain", "--error", "-"]) == 0
    assert "Class:     account" in capsys.readouterr().out


WRONG = {
    "no status": (body("x", "odd_error"), [], "which status did it have?"),
    "no status line": ("HTTP/1.1\n\n{}", [], "this is no status line: HTTP/1.1"),
    "no such provider": (body("x"), ["--provider", "nobody"], "there is no provider 'nobody'; there are: main, other"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_can_not_be_read_is_told(case: str, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer, flags, told = WRONG[case]
    said = explain(file, capsys, answer, *flags)

    assert (said.code, said.out) == (2, "")
    assert told in said.err


def test_a_file_that_is_missing_is_told(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "--error", str(file / "no"), "--config", str(file)]) == 2
    assert "no: " in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [[], ["m", "--error", "f"], ["m", "--status", "400"], ["--provider", "a"], ["--error", "f", "--status", "9"]],
)
def test_arguments_that_make_no_sense_together_are_told(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["explain", *arguments])

    assert ended.value.code == 2


def test_what_an_answer_is_read_as() -> None:
    reply = answer_of(b"HTTP/1.1 403 No\nX-A: 1\nodd\n\n body \n", None)

    assert (reply.status, reply.headers, reply.body) == (403, ((b"x-a", b"1"),), b"body")
    assert answer_of(b"HTTP/1.1 403 No\n\n", 401).status == 401, "what the user says counts"
    assert answer_of(b'{"error":{"code":413}}', None).status == 413
    for odd in (b"", b"[]", b"3", b'{"error":3}', b'{"error":{"code":3}}', b"\xff"):
        with pytest.raises(Unreadable):
            answer_of(odd, None)


def test_every_class_has_its_words() -> None:
    assert set(CLASSES) == set(RefusalClass)


def test_a_configured_key_in_the_answer_is_not_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, answer = tmp_path / "providers.yaml", tmp_path / "answer.json"
    config.write_text(
        'providers: [{name: a, type: anthropic, base_url: "https://a.example.com", auth_value: K9-canary-of-a-12345}]\n'
        'model_routes: {"*": [{provider: a}]}\n'
    )
    answer.write_text('{"error": {"type": "authentication_error", "message": "no K9-canary-of-a-12345"}}')

    main(["explain", "--error", str(answer), "--config", str(config)])
    assert "canary" not in capsys.readouterr().out
