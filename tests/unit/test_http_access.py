"""Who may do what over HTTP: tokens, their scopes, and without them this machine alone."""

import hmac
import json
import time
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey
from starlette.requests import Request

from eventfleet.web import (
    UNRESTRICTED,
    Grant,
    InvalidKeyFile,
    KeyFile,
    RequestRefused,
    TokenAccess,
    load_key,
)
from eventfleet.web import key_file as key_file_module
from eventfleet.web.access import MAX_CACHED_TOKENS
from tests.unit.http_fixture import AUDIENCE, PLACE, SECRET, Web, problem, token, web

READS = [
    "/domains",
    "/domains/orders/aggregates",
    "/domains/orders/feed",
    "/domains/orders/o-1/events",
    "/domains/orders/o-1/snapshot",
    "/domains/orders/o-1/state",
    "/domains/orders/o-1/diff?first=0&second=1",
    "/domains/orders/o-1/difference?first=0&second=1",
    "/domains/orders/o-1/missing?after=0",
    "/views/orders/orders",
    "/views/orders/orders_by_day",
    "/dead-letters/orders",
    "/metrics",
    "/openapi.json",
]
SCOPES = {"/metrics": "metrics", "/dead-letters/orders": "orders:operate"}
"""The scopes of all that needs another than orders:read."""


@pytest.fixture
async def shop() -> AsyncIterator[Web]:
    async with web(access=TokenAccess(SECRET)) as found:
        yield found


def bearer(**claims: Any) -> dict[str, str]:
    return {"authorization": f"Bearer {token(**claims)}"}


async def test_every_way_to_read_is_tested_here(shop: Web) -> None:
    document = (await shop.client.get("/openapi.json", headers=bearer())).json()
    reads = {path for path, told in document["paths"].items() if "get" in told}
    tested = {path.partition("?")[0].replace("o-1", "{id}") for path in READS}
    assert reads == tested | {"/live", "/ready"}


@pytest.mark.parametrize("path", READS)
@pytest.mark.parametrize("scope", [None, "", "orders:write", "others:read", "orders", "read"])
async def test_without_the_scope_nothing_is_readable(
    shop: Web, path: str, scope: str | None
) -> None:
    await shop.send(authorization=bearer(scope="orders:write")["authorization"])
    found = await shop.client.get(path, headers=bearer(scope=scope))
    if path == "/domains":
        assert found.json() == {"domains": []}
    elif path != "/openapi.json":
        assert problem(found) == (403, "scope-missing")
        assert f'scope="{SCOPES.get(path, "orders:read")}"' in found.headers["www-authenticate"]


@pytest.mark.parametrize("path", READS)
@pytest.mark.parametrize(
    "authorization", ["", "Bearer", "Bearer ", "Basic YTpi", "Bearer nonsense", "Bearer a.b.c"]
)
async def test_without_a_token_nothing_is_readable(
    shop: Web, path: str, authorization: str
) -> None:
    found = await shop.client.get(path, headers={"authorization": authorization})
    assert problem(found) == (401, "token-refused")
    assert found.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("scope", ["orders:read", "*:read", "others:read orders:read"])
async def test_who_may_read_reads_and_does_not_write(shop: Web, scope: str) -> None:
    found = await shop.client.get("/domains", headers=bearer(scope=scope))
    assert [each["name"] for each in found.json()["domains"]] == ["orders"]
    assert problem(await shop.send(**bearer(scope=scope))) == (403, "scope-missing")
    assert shop.storing.asked == []


@pytest.mark.parametrize("scope", ["metrics", "*:read"])
async def test_who_may_read_metrics(shop: Web, scope: str) -> None:
    found = await shop.client.get("/metrics", headers=bearer(scope=scope))
    assert found.status_code == 200


async def test_who_may_read_metrics_reads_no_events(shop: Web) -> None:
    for path in READS:
        found = await shop.client.get(path, headers=bearer(scope="metrics"))
        assert path in ("/metrics", "/domains", "/openapi.json") or found.status_code == 403
    found = await shop.client.get("/domains", headers=bearer(scope="metrics"))
    assert found.json() == {"domains": []}


@pytest.mark.parametrize("scope", [["orders:read"], {"orders": "read"}, 1, True])
async def test_scopes_that_are_no_string_are_refused_by_name(shop: Web, scope: Any) -> None:
    found = await shop.client.get("/domains", headers=bearer(scope=scope))
    assert problem(found) == (401, "token-refused")
    assert "the claim scope is not a string" in found.json()["detail"]


@pytest.mark.parametrize("scope", ["orders:write", "*:write"])
async def test_who_may_write_writes_in_the_name_of_the_token(shop: Web, scope: str) -> None:
    assert (await shop.send(**bearer(scope=scope, sub="ann"))).status_code == 202
    (asked,) = shop.storing.asked
    assert asked.event.actor == "ann"


async def test_who_has_a_token_names_no_other_actor(shop: Web) -> None:
    found = await shop.send(**bearer(scope="orders:write", sub="ann"), X_Actor="bob")
    assert (found.status_code, found.json()["field"]) == (422, "X-Actor")
    assert shop.storing.asked == []


async def test_where_no_token_is_needed_a_caller_names_the_actor() -> None:
    async with web() as open_shop:
        await open_shop.send(X_Actor="bob")
        await open_shop.send("o-2/commands/Place")
        assert [asked.event.actor for asked in open_shop.storing.asked] == ["bob", None]


async def test_what_operators_ask_needs_no_token(shop: Web) -> None:
    for path in ("/live", "/ready"):
        assert (await shop.client.get(path)).status_code == 200


class Away(Exception):
    """A server does not answer."""


NAMED = {
    "kind": "server",
    "reason": "MongoDB does not answer",
    "blocking": True,
    "since": "2026-01-02T03:04:05Z",
}
UNNAMED = {
    "kind": "server",
    "reason": "a server does not answer, or refuses what commands write",
    "blocking": True,
}


@pytest.mark.parametrize(
    ("sent", "reasons"),
    [
        ({}, [UNNAMED]),
        ({"authorization": "Bearer nothing"}, [UNNAMED]),
        ({"authorization": "Basic YTpi"}, [UNNAMED]),
        (bearer(scope="orders:operate", exp=1), [UNNAMED]),
        (bearer(scope="*:read *:write metrics others:operate"), [UNNAMED]),
        (bearer(scope="*:operate", aggregate_ids=["orders:o-1"]), [UNNAMED]),
        (bearer(scope="orders:operate"), [NAMED]),
        (bearer(scope="*:operate"), [NAMED]),
    ],
)
async def test_what_is_not_ready_is_named_to_operators_alone(
    sent: dict[str, str], reasons: list[dict[str, Any]]
) -> None:
    async def check() -> None:
        raise Away("mongodb.internal:27017 of orders")

    async with web(access=TokenAccess(SECRET), checks={"MongoDB": check}) as shop:
        found = await shop.client.get("/ready", headers=sent)
        assert (found.status_code, found.json()["status"]) == (503, "not ready")
        told = found.json()["reasons"]
        assert [each | ({"since": NAMED["since"]} if "since" in each else {}) for each in told] == (
            reasons
        )


async def test_without_tokens_what_is_not_ready_is_named_to_this_machine_alone() -> None:
    async def check() -> None:
        raise Away

    async with web(checks={"MongoDB": check}) as shop:
        assert "MongoDB" in (await shop.client.get("/ready")).text
        found = await shop.client.get("/ready", headers={"host": "pages.example"})
        assert (found.status_code, found.json()["reasons"]) == (503, [UNNAMED])


async def test_a_command_without_a_token_is_not_looked_at(shop: Web) -> None:
    assert problem(await shop.send("o/commands/Bribe", {})) == (401, "token-refused")
    assert problem(await shop.client.post("/domains/nowhere/o/commands/X", json={})) == (
        401,
        "token-refused",
    )


# Which tokens are valid


def signed_with(secret: bytes, claims: bytes = b'{"exp":4000000000}') -> str:
    """As someone would who takes a public key for a secret."""
    head = urlsafe_b64encode(b'{"alg":"HS256"}').rstrip(b"=")
    told = head + b"." + urlsafe_b64encode(claims).rstrip(b"=")
    mark = urlsafe_b64encode(hmac.digest(secret, told, "sha256")).rstrip(b"=")
    return (told + b"." + mark).decode()


def refused(tokens: TokenAccess, value: str) -> str:
    with pytest.raises(RequestRefused) as caught:
        tokens.grant(request(value))
    assert caught.value.problem_type.status == 401
    return caught.value.detail


def request(value: str) -> Request:
    return Request({"type": "http", "headers": [(b"authorization", f"bearer {value}".encode())]})


def test_the_forgery_of_these_tests_is_one() -> None:
    assert TokenAccess(SECRET).grant(request(signed_with(SECRET.raw_value)))


NESTED = b"[" * 20_000 + b"]" * 20_000


@pytest.mark.parametrize(
    "claims",
    [
        b'{"exp":4000000000,"sub":"\\ud800"}',
        b'{"exp":4000000000,"sub":["ann"]}',
        b'{"exp":4000000000,"sub":1}',
        b'{"exp":4000000000,"x":' + NESTED + b"}",
        b'{"exp":1e999}',
        b'{"exp":' + b"9" * 5_000 + b"}",
        b'{"exp":NaN}',
        b'{"exp":{}}',
        b'{"exp":4000000000,"nbf":[]}',
        NESTED,
        b"null",
        b"[]",
        b"\xff",
        b"",
    ],
)
async def test_a_signed_token_that_cannot_be_used_is_refused(shop: Web, claims: bytes) -> None:
    signed = signed_with(SECRET.raw_value, claims)
    found = await shop.send(authorization=f"Bearer {signed}")
    assert problem(found) == (401, "token-refused")


@pytest.mark.parametrize("head", [NESTED, b"[]", b'{"alg":[]}', b'{"alg":"HS256","crit":1}'])
async def test_a_token_whose_head_is_nonsense_is_refused(shop: Web, head: bytes) -> None:
    text = urlsafe_b64encode(head).rstrip(b"=").decode()
    found = await shop.send(authorization=f"Bearer {text}.{text}.{text}")
    assert problem(found) == (401, "token-refused")


def test_a_token_needs_an_end_and_its_time() -> None:
    tokens, now = TokenAccess(SECRET), int(time.time())
    assert tokens.grant(request(token(exp=now + 100))).actor == "ann"
    assert "expired" in refused(tokens, token(exp=now - 100))
    assert "exp" in refused(tokens, token(exp=None))
    assert "exp" in refused(tokens, token(exp="tomorrow"))
    assert refused(tokens, token(nbf=now + 100))


def test_a_token_that_was_seen_expires_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    now = int(time.time())
    tokens, value = TokenAccess(SECRET), token(exp=now + 100)
    tokens.grant(request(value))
    monkeypatch.setattr(tokens._claims, "_now", now + 200)
    assert "expired" in refused(tokens, value)


def test_of_tokens_seen_a_bounded_number_is_remembered() -> None:
    tokens = TokenAccess(SECRET)
    for number in range(MAX_CACHED_TOKENS + 10):
        tokens.grant(request(token(sub=str(number))))
    assert len(tokens._verified) == MAX_CACHED_TOKENS


def test_issuer_and_audience_count_where_they_are_given() -> None:
    tokens = TokenAccess(SECRET, "https://issuer", "eventfleet")
    good = {"iss": "https://issuer", "aud": ["other", "eventfleet"]}
    assert tokens.grant(request(token(**good)))
    for wrong in ({"iss": "https://other"}, {"aud": "other"}, {"iss": None}, {"aud": None}):
        assert refused(tokens, token(**(good | wrong)))


def test_keys_that_sign_for_others_need_an_audience(
    key_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key, secret = ECKey.generate_key("P-256"), SECRET.as_dict()
    public = key.as_dict(private=False)
    known = TokenAccess(KeyFile(str(key_file)))
    sets = [{"keys": [public]}, {"keys": [secret, public]}, {"keys": [secret, secret]}, public]
    for raw in (key.as_pem(private=False), *(json.dumps(each).encode() for each in sets)):
        key_file.write_bytes(raw)
        with pytest.raises(InvalidKeyFile, match="EVENTFLEET_TOKEN_AUDIENCE is needed"):
            TokenAccess(load_key(str(key_file)))
        caplog.clear()
        assert known.grant(request(token())), "the former key stays in use"
        assert "EVENTFLEET_TOKEN_AUDIENCE is needed" in caplog.text
        assert TokenAccess(load_key(str(key_file)), audience=AUDIENCE)


def test_a_token_signed_by_another_key_or_not_at_all_is_refused() -> None:
    tokens = TokenAccess(SECRET)
    assert refused(tokens, token(OctKey.import_key("another secret of more than 32 bytes")))
    head, claims, _ = token().split(".")
    assert refused(tokens, f"{head}.{claims}.")
    assert refused(tokens, f"eyJhbGciOiJub25lIn0.{claims}.")


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (RSAKey.generate_key(2048), "RS256"),
        (ECKey.generate_key("P-256"), "ES256"),
        (OKPKey.generate_key("Ed25519"), "Ed25519"),
    ],
    ids=["RSA", "EC", "OKP"],
)
def test_a_public_key_checks_what_its_private_key_signed(
    key: Any, algorithm: str, tmp_path: Path
) -> None:
    path = tmp_path / "key"
    public = key.as_dict(private=False)
    for raw in (
        key.as_pem(private=False),
        json.dumps(public).encode(),
        json.dumps({"keys": [public]}).encode(),
    ):
        path.write_bytes(raw)
        tokens = TokenAccess(load_key(str(path)), audience=AUDIENCE)
        assert tokens.grant(request(token(key, algorithm, scope="*:read"))).allows("x", "read")
        assert refused(tokens, token())
        assert refused(tokens, signed_with(key.as_pem(private=False))), "it is no secret"
        assert refused(tokens, signed_with(raw)), "it is no secret"


def set_of(path: Path, *keys: dict[str, Any]) -> TokenAccess:
    path.write_text(json.dumps({"keys": keys}))
    return TokenAccess(load_key(str(path)), audience=AUDIENCE)


UNUSABLE = [
    {"kty": "EC", "crv": "BP-256", "x": "AA", "y": "AA", "kid": "unknown curve"},
    {"kty": "Lattice", "kid": "unknown type"},
    {"kty": "RSA", "kid": "incomplete"},
]


def test_of_a_set_the_keys_that_can_be_used_are_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key = ECKey.generate_key("P-256", {"kid": "a"})
    encrypting = ECKey.generate_key("P-256", {"kid": "e"})
    public, for_others = key.as_dict(private=False), encrypting.as_dict(private=False)
    tokens = set_of(tmp_path / "key", *UNUSABLE, public, for_others | {"use": "enc"})
    assert tokens.grant(request(token(key, "ES256")))
    assert refused(tokens, token(encrypting, "ES256"))
    for name in ("unknown curve", "unknown type", "incomplete", "e"):
        assert f"the key {name!r} can't be used and is ignored" in caplog.text
    with pytest.raises(InvalidKeyFile, match="no key of the set can be used"):
        set_of(tmp_path / "key", *UNUSABLE)


def test_keys_and_tokens_without_a_name_meet_by_the_signature(tmp_path: Path) -> None:
    first, second = (ECKey.generate_key("P-256", auto_kid=False) for _ in range(2))
    foreign = ECKey.generate_key("P-256", auto_kid=False)
    unnamed = [
        {k: v for k, v in key.as_dict(private=False).items() if k != "kid"}
        for key in (first, second)
    ]
    tokens = set_of(tmp_path / "key", *unnamed)
    for key in (first, second):
        assert tokens.grant(request(token(key, "ES256")))
    assert refused(tokens, token(foreign, "ES256"))
    named = set_of(tmp_path / "key", unnamed[0] | {"kid": "a"}, unnamed[1] | {"kid": "b"})
    assert named.grant(request(token(second, "ES256"))), "the token has no kid"


@pytest.mark.parametrize(
    "other",
    [
        ECKey.generate_key("P-384", auto_kid=False).as_dict(private=False),
        OKPKey.generate_key("X25519", auto_kid=False).as_dict(private=False),
        RSAKey.generate_key(2048, auto_kid=False).as_dict(private=False) | {"key_ops": ["encrypt"]},
    ],
    ids=["curve", "exchange", "operation"],
)
@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (ECKey.generate_key("P-256", auto_kid=False), "ES256"),
        (OKPKey.generate_key("Ed25519", auto_kid=False), "Ed25519"),
        (RSAKey.generate_key(2048, auto_kid=False), "RS256"),
    ],
    ids=["EC", "OKP", "RSA"],
)
def test_a_key_that_can_not_verify_a_token_hides_none_behind_it(
    tmp_path: Path, other: dict[str, Any], key: Any, algorithm: str
) -> None:
    tokens = set_of(tmp_path / "key", other, key.as_dict(private=False))
    assert tokens.grant(request(token(key, algorithm)))


@pytest.mark.parametrize(
    ("claims", "told"),
    [
        ({"scp": "orders:read a:write"}, {"orders:read", "a:write"}),
        ({"scp": ["orders:read"], "roles": ["a:write"]}, {"orders:read", "a:write"}),
        ({"scope": "orders:read", "roles": ["a:write"]}, {"orders:read", "a:write"}),
    ],
)
def test_scopes_are_where_providers_put_them(claims: dict[str, Any], told: set[str]) -> None:
    assert TokenAccess(SECRET).grant(request(token(**claims))).scopes == told


@pytest.mark.parametrize(
    "raw", [b"", b"short", b"{", b"[]", b'{"kty": "RSA"}', b"-----BEGIN PUBLIC KEY-----\nx"]
)
def test_a_file_without_a_key_is_refused(raw: bytes, tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(raw)
    with pytest.raises(InvalidKeyFile, match="contains no valid key"):
        load_key(str(path))


def test_a_secret_in_a_file_may_end_with_a_line_break(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"a secret of more than 32 characters\n")
    assert TokenAccess(load_key(str(path))).grant(request(token()))


@pytest.fixture
def key_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(key_file_module, "LOOK_SECONDS", 0)
    (path := tmp_path / "key").write_bytes(SECRET.raw_value)
    return path


def test_a_key_that_was_changed_is_read_again(key_file: Path) -> None:
    tokens, other = TokenAccess(KeyFile(str(key_file))), "another secret of more than 32 bytes"
    changed = token(OctKey.import_key(other))
    assert tokens.grant(request(token()))
    assert refused(tokens, changed)
    key_file.write_text(other)
    assert tokens.grant(request(changed))
    assert refused(tokens, token()), "also where it was verified before"


def test_a_key_of_another_kind_is_read_again_too(key_file: Path) -> None:
    key = ECKey.generate_key("P-256")
    tokens = TokenAccess(KeyFile(str(key_file)), audience=AUDIENCE)
    another = key_file.with_name("another")
    another.write_bytes(key.as_pem(private=False))
    another.replace(key_file)
    assert tokens.grant(request(token(key, "ES256")))
    assert refused(tokens, token())


@pytest.mark.parametrize("content", [None, b"", b"short"])
def test_without_a_valid_new_key_the_former_stays(
    key_file: Path, content: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    tokens, another = TokenAccess(KeyFile(str(key_file))), b"another secret of more than 32 bytes"
    if content is None:
        key_file.unlink()
    else:
        key_file.write_bytes(content)
    for _ in range(3):
        assert tokens.grant(request(token()))
    assert caplog.text.count("the former key for tokens stays in use") == 1
    key_file.write_bytes(another)
    assert refused(tokens, token())
    *_, former, again = caplog.records
    assert again.getMessage() == f"read the key for tokens again from {key_file}"
    assert again.levelno == former.levelno, "a log has both or neither"


# Without tokens


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST", "localhost:8080", "127.0.0.1:1", "[::1]:8080", "[::1]"]
)
async def test_without_tokens_this_machine_is_answered(host: str) -> None:
    async with web() as shop:
        assert (await shop.client.get("/domains", headers={"host": host})).status_code == 200


async def test_two_hosts_are_refused_whatever_they_are() -> None:
    async with web() as shop:
        for second in (b"evil.example", b"localhost"):
            headers = [(b"host", b"localhost"), (b"host", second)]
            found = await shop.client.get("/domains", headers=headers)
            assert problem(found) == (421, "host-refused")


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:8080", "10.0.0.1", ""),
        *("evil.com@127.0.0.1", "user:password@localhost", "@localhost", "localhost@"),
        *("localhost/x", "localhost:x", "localhost:80:80", "[::1", "::1", "[::1]x", "local host"),
        *("localhost, evil.example", "localhost#", "localhost?"),
    ],
)
async def test_without_tokens_a_page_under_another_name_is_not(host: str) -> None:
    async with web() as shop:
        found = await shop.client.post(
            "/domains/orders/o/commands/Place", json=PLACE, headers={"host": host}
        )
        assert problem(found) == (421, "host-refused")
        assert shop.storing.asked == []


async def test_an_application_may_say_itself_who_may_do_what() -> None:
    class Users:
        secured = False

        def grant(self, request: Request) -> Grant:
            user = request.headers.get("x-user")
            return UNRESTRICTED if user == "root" else Grant(user, frozenset({"orders:read"}))

    async with web(access=Users()) as shop:
        assert problem(await shop.send(X_User="ann")) == (403, "scope-missing")
        assert (await shop.send(X_User="root")).status_code == 202
        assert (await shop.get("o-1/state", **{"x-user": "ann"})).status_code == 200
