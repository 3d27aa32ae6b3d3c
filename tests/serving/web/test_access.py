"""Tokens as clients meet them: who is let in, how often, and what a token's limits cut off."""

import math
import time
from types import SimpleNamespace

import httpx2
import openai
import pytest

from research.serving.web import app, served, tokens
from research.serving.web.access import Allowance
from research.serving.web.tokens import Token
from tests.serving.web.conftest import listening

NAMES = {
    "plain": {},
    "old": {"expires": time.time() - 1},
    "rare": {"requests_per_minute": 2},
    "short": {"tokens_per_minute": 30},
    "small": {"largest_body": 1000},
    "chief": {"admin": True},
}


def bearer(secret):
    return {"Authorization": f"Bearer {secret}"}


def secret(name):
    return f"almanac_{name}"


def guarded(models):
    """A server of these models for the tokens in NAMES."""
    allowed = [Token(name, tokens.digest(secret(name).encode()), **bounds) for name, bounds in NAMES.items()]
    return listening(app.create(models, served.Limits(), lambda: allowed))


@pytest.fixture(scope="module")
def client():
    """Of a server without models."""
    with guarded(served.Models({})) as port, httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as made:
        yield made


def test_load_balancers_need_no_token_and_all_else_does(client):
    assert [client.get(path).status_code for path in ("/healthz", "/readyz")] == [200, 200]
    for path in (
        "/metrics",
        "/v1/models",
        "/openapi.json",
        "/docs",
        "/v2",
        "/nothing",
        "/healthz/",
        "/page",
        "/pages/a",
    ):
        answer = client.get(path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "missing_token"), path
        assert client.get(path, headers=bearer(secret("plain"))).status_code != 401, path
    assert client.post("/healthz").status_code == 405
    assert client.get("/").status_code == client.get("/page/page.js").status_code == 200  # it asks for the token


def test_versions_are_changed_by_those_who_may(client):
    answers = {
        name: client.put("/v1/admin/models/talk", json={}, headers=bearer(secret(name))) for name in ("plain", "chief")
    }
    assert (answers["plain"].status_code, answers["plain"].json()["error"]["code"]) == (403, "no_admin")
    assert answers["chief"].status_code == 404  # this server loads no bundles
    assert client.get("/v1/admin/models/talk").status_code == 401


@pytest.mark.parametrize(("header", "code", "challenge"), [
    ("Basic YTpi", "missing_token", "Bearer"),
    ("Bearer", "invalid_token", 'Bearer error="invalid_token"'),
    ("Bearer almanac_none", "invalid_token", 'Bearer error="invalid_token"'),
    ("Bearer almanac_old", "expired_token", 'error_description="this token has expired"'),
    ("Bearer \xe9", "invalid_token", 'Bearer error="invalid_token"'),
])  # fmt: skip
def test_who_is_refused_hears_why(client, header, code, challenge):
    answer = client.get("/v1/models", headers={"Authorization": header.encode("latin1")})
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, code)
    assert challenge in answer.headers["WWW-Authenticate"]
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_the_scheme_has_no_case_and_two_tokens_are_none(client):
    token = secret("plain")
    assert client.get("/v1/models", headers={"Authorization": f"bearer {token}"}).status_code == 200
    twice = [("Authorization", f"Bearer {token}"), ("Authorization", f"Bearer {token}")]
    assert client.get("/v1/models", headers=twice).status_code == 401


def test_a_rate_is_429_until_it_is_back(client):
    answers = [client.get("/v1/models", headers=bearer(secret("rare"))) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[2].json()["error"]["code"] == "rate_limit_exceeded"
    assert 1 <= int(answers[2].headers["Retry-After"]) <= 30  # one of two a minute
    assert client.get("/v1/models", headers=bearer(secret("plain"))).status_code == 200


def test_an_allowance_comes_back_evenly_and_is_never_more_than_a_minutes():
    allowance = Allowance(120, now=0.0)
    allowance.spend(119)
    assert allowance.wait(0.0) == 0.0
    allowance.spend(1)
    assert allowance.wait(0.0) == 0.5
    allowance.spend(120)  # overdrawn: an answer was longer than what was left
    assert allowance.wait(0.0) == 60.5
    assert math.isclose(allowance.wait(60.0), 0.5)
    assert allowance.wait(10_000.0) == 0.0
    allowance.spend(120)
    assert allowance.wait(10_000.0) == 0.5


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_beyond_its_token_is_413_and_not_read_whole(client, declared):
    body = b" " * 2000 + b"{}"

    def chunks():
        for start in range(0, len(body), 500):
            yield body[start : start + 500]

    for name, status in (("small", 413), ("plain", 422)):
        headers = bearer(secret(name)) | {"Content-Type": "application/json"}
        answer = client.post("/v1/predict", content=body if declared else chunks(), headers=headers)
        assert answer.status_code == status
    assert client.post("/v1/predict", json={}, headers=bearer(secret("small"))).status_code == 422


def test_tokens_of_text_are_counted_and_openais_client_has_its_own_errors(server):
    models = served.Models({name: server.models[name] for name in server.models.versions})
    models.close = lambda: None  # the session's server closes them
    with guarded(models) as port:
        clients = SimpleNamespace(**{
            name: openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key=secret(name), max_retries=0)
            for name in ("short", "plain", "none")
        })  # fmt: skip
        request = dict(model="talk", prompt="four", max_tokens=10, seed=0)
        with pytest.raises(openai.AuthenticationError, match="not known"):
            clients.none.completions.create(**request)
        first = clients.short.completions.create(**request).usage
        assert first.total_tokens == 14  # of 30: four bytes and ten more
        streamed = clients.short.completions.create(**request, stream=True, stream_options={"include_usage": True})
        assert list(streamed)[-1].usage.total_tokens == 14
        clients.short.completions.create(**request)  # beyond the last two, which nobody knew before
        with pytest.raises(openai.RateLimitError, match="tokens a minute") as error:
            clients.short.completions.create(**request)
        assert 1 <= int(error.value.response.headers["Retry-After"]) <= 26  # 12 and 1 of 30 a minute
        clients.plain.completions.create(**request)
        metrics = httpx2.get(f"http://127.0.0.1:{port}/metrics", headers=bearer(secret("plain"))).text
    assert 'almanac_client_tokens_total{client="short"} 42.0' in metrics
    assert 'almanac_client_requests_total{client="short"} 3.0' in metrics
    assert "almanac_short" not in metrics and "almanac_none" not in metrics


def test_no_token_is_logged(client, caplog, capfd):
    caplog.set_level(0)
    for name in ("plain", "old", "none"):
        client.get("/v1/models", headers=bearer(secret(name)))
    captured = capfd.readouterr()
    logged = caplog.text + captured.out + captured.err
    assert not any(secret(name) in logged for name in ("plain", "old", "none"))


def test_a_token_that_is_removed_is_refused_at_once_and_others_keep_their_rates(tmp_path):
    file = tmp_path / "tokens.toml"
    secrets = {name: tokens.add(file, name) for name in ("ann", "bob")}
    file.write_text(file.read_text().replace("[bob]", "[bob]\nrequests_per_minute = 2"))
    with listening(app.create(served.Models({}), served.Limits(), tokens.Watched(file))) as port:

        def ask(name):
            answer = httpx2.get(f"http://127.0.0.1:{port}/v1/models", headers=bearer(secrets[name]), timeout=60)
            return answer.status_code

        assert [ask("ann"), ask("bob")] == [200, 200]
        whole = file.read_text()
        file.write_text("[bob" + whole.partition("[bob")[2])
        assert [ask("ann"), ask("bob"), ask("bob")] == [401, 200, 429]
        file.write_text("[bob")  # a fault: nothing changes
        assert [ask("ann"), ask("bob")] == [401, 429]
        file.write_text(whole)
        assert [ask("ann"), ask("bob")] == [200, 429]
