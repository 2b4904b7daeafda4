"""Which tokens are taken, and for whom."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from servicekit.auth import keys, static_tokens
from servicekit.auth.errors import KeysUnavailable, Unauthenticated
from servicekit.auth.keys import Keys
from servicekit.auth.principal import INTERNAL, OPERATOR, Principal
from servicekit.auth.signed_tokens import SignedTokens
from servicekit.auth.static_tokens import StaticTokens
from servicekit.testing.issuer import AUDIENCE, ISSUER, Issuer

ALGORITHMS = ["RS256", "ES256"]


class Host:
    """Where the issuer's keys are, with the clock by which they grow old."""

    def __init__(self, issuer: Issuer) -> None:
        self.issuer = issuer
        self.asked = 0
        self.now = 1000.0
        self.answer: Callable[[], bytes] = issuer.published
        self.gate: asyncio.Event | None = None
        self.reached = asyncio.Event()

    async def fetch(self) -> bytes:
        self.asked += 1
        self.reached.set()
        if self.gate is not None:
            await self.gate.wait()
        return self.answer()

    def keys(self, *, timeout_seconds: float = 60) -> Keys:
        return Keys(
            self.fetch,
            algorithms=ALGORITHMS,
            timeout_seconds=timeout_seconds,
            fresh_seconds=300,
            stale_seconds=3600,
            clock=lambda: self.now,
        )


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def host(issuer: Issuer) -> Host:
    return Host(issuer)


def verifier(known: Keys, *, algorithms: list[str] = ALGORITHMS) -> SignedTokens:
    return SignedTokens(
        known, issuer=ISSUER, audience=AUDIENCE, algorithms=algorithms, leeway_seconds=30
    )


async def reason(tokens: SignedTokens, token: str) -> str | None:
    with pytest.raises(Unauthenticated) as refused:
        await tokens.principal(token)
    assert token not in str(refused.value)
    return refused.value.reason


def unsigned(header: Any, claims: Any, signature: bytes = b"") -> str:
    parts = [json.dumps(header).encode(), json.dumps(claims).encode(), signature]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def claims(**other: Any) -> dict[str, Any]:
    now = int(time.time())
    return {"iss": ISSUER, "aud": AUDIENCE, "sub": "eve", "iat": now, "exp": now + 600} | other


async def test_a_good_token_stands_for_its_subject_and_the_scopes_that_mean_something_here(
    issuer: Issuer, host: Host
) -> None:
    tokens = verifier(host.keys())
    assert await tokens.principal(issuer.token()) == Principal("oidc:alice")
    granted = issuer.token(scope=f"openid {OPERATOR} else")
    assert await tokens.principal(granted) == Principal("oidc:alice", frozenset({OPERATOR}))
    listed = issuer.token(scp=[INTERNAL, 7], aud=["other", AUDIENCE])
    assert (await tokens.principal(listed)).is_internal
    assert host.asked == 1


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"exp": int(time.time()) - 31}, "expired"),
        ({"nbf": int(time.time()) + 3600}, "not_yet_valid"),
        ({"iat": int(time.time()) + 3600}, "not_yet_valid"),
        ({"aud": "another"}, "audience"),
        ({"aud": None}, "claims"),
        ({"iss": ISSUER + "/"}, "issuer"),
        ({"iss": None}, "claims"),
        ({"sub": None}, "claims"),
        ({"exp": None}, "claims"),
        ({"exp": "never"}, "malformed"),
        ({"exp": float("inf")}, "malformed"),
        ({"exp": "99999999999"}, "malformed"),
        ({"exp": [99999999999]}, "malformed"),
        ({"nbf": "1"}, "malformed"),
        ({"nbf": True}, "malformed"),
        ({"nbf": False}, "malformed"),
        ({"iat": "1"}, "malformed"),
        ({"iat": True}, "malformed"),
        ({"aud": [AUDIENCE, 7]}, "audience"),
        ({"aud": {AUDIENCE: 1}}, "audience"),
        ({"sub": ""}, "malformed"),
        ({"sub": 7}, "malformed"),
        ({"sub": "x" * 256}, "malformed"),
        ({"sub": "a\x00b"}, "malformed"),
        ({"sub": "a\nb"}, "malformed"),
    ],
)
async def test_a_token_whose_claims_are_not_right_is_refused(
    issuer: Issuer, host: Host, change: dict[str, Any], expected: str
) -> None:
    assert await reason(verifier(host.keys()), issuer.token(**change)) == expected


async def test_clocks_may_differ_by_the_leeway(issuer: Issuer, host: Host) -> None:
    tokens = verifier(host.keys())
    assert (await tokens.principal(issuer.token(exp=int(time.time()) - 5))).client == "oidc:alice"
    assert (await tokens.principal(issuer.token(nbf=int(time.time()) + 5))).client == "oidc:alice"


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "HS256", "RS384", "", None, 7, []])
async def test_no_algorithm_but_the_allowed_ones_is_taken(host: Host, algorithm: Any) -> None:
    token = unsigned({"alg": algorithm, "kid": "first", "typ": "JWT"}, claims())
    assert await reason(verifier(host.keys()), token) in {"algorithm", "malformed"}
    assert host.asked == 0


async def test_a_public_key_is_never_taken_for_a_shared_secret(host: Host) -> None:
    owner = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = owner.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    document = {"keys": [{**jwt.algorithms.RSAAlgorithm.to_jwk(owner.public_key(), as_dict=True)}]}
    document["keys"][0]["kid"] = "first"
    host.answer = lambda: json.dumps(document).encode()
    tokens = verifier(host.keys())
    good = jwt.encode(claims(sub="bob"), owner, algorithm="RS256", headers={"kid": "first"})
    assert (await tokens.principal(good)).client == "oidc:bob"
    for secret in (public, public.strip(), json.dumps(document["keys"][0]).encode()):
        head, body, _ = unsigned({"alg": "HS256", "kid": "first"}, claims()).split(".")
        mac = hmac.new(secret, f"{head}.{body}".encode(), hashlib.sha256).digest()
        signature = base64.urlsafe_b64encode(mac).rstrip(b"=").decode()
        assert await reason(tokens, f"{head}.{body}.{signature}") == "algorithm"


async def test_a_key_in_the_token_itself_is_not_looked_at(issuer: Issuer, host: Host) -> None:
    stranger = ec.generate_private_key(ec.SECP256R1())
    own = jwt.algorithms.ECAlgorithm.to_jwk(stranger.public_key(), as_dict=True)
    header = {"kid": "first", "jwk": own, "jku": "http://127.0.0.1:1/jwks"}
    forged = jwt.encode(claims(), stranger, algorithm="ES256", headers=header)
    assert await reason(verifier(host.keys()), forged) == "signature"


async def test_a_key_serves_only_the_algorithm_it_is_published_for(
    issuer: Issuer, host: Host
) -> None:
    document = issuer.document()
    document["keys"][0]["alg"] = "ES384"
    host.answer = lambda: json.dumps(document).encode()
    with pytest.raises(KeysUnavailable):
        await verifier(host.keys()).principal(issuer.token())


@pytest.mark.parametrize(
    "token",
    [
        "..",
        "a.b.c",
        "e30.e30.e30",
        "[" * 4000 + ".e30.",
        base64.urlsafe_b64encode(b"[" * 5000).decode().rstrip("=") + ".e30.x",
        base64.urlsafe_b64encode(b"\xff\xfe").decode().rstrip("=") + ".e30.x",
        unsigned({"alg": "ES256", "kid": {"a": 1}}, {}),
        unsigned({"alg": "ES256", "kid": "first", "b64": False, "crit": ["b64"]}, {}),
        unsigned(["alg"], {}),
    ],
)
async def test_what_is_no_token_is_refused_and_breaks_nothing(host: Host, token: str) -> None:
    assert await reason(verifier(host.keys()), token) in {"malformed", "algorithm", "type"}


async def test_a_token_of_another_kind_is_refused(issuer: Issuer, host: Host) -> None:
    tokens = verifier(host.keys())
    assert await reason(tokens, issuer.token(header={"typ": "logout+jwt"})) == "type"
    assert await reason(tokens, issuer.token(header={"crit": ["exp"]})) in {"type", "malformed"}
    assert (await tokens.principal(issuer.token(header={"typ": "at+jwt"}))).client == "oidc:alice"


async def test_a_changed_token_is_refused(issuer: Issuer, host: Host) -> None:
    head, _, signature = issuer.token().split(".")
    other = issuer.token(sub="mallory").split(".")[1]
    assert await reason(verifier(host.keys()), f"{head}.{other}.{signature}") == "signature"


# Keys come and go, and so does their host.


async def test_a_new_key_is_taken_at_its_first_token(issuer: Issuer, host: Host) -> None:
    tokens = verifier(host.keys())
    old = issuer.token()
    await tokens.principal(old)
    host.now += 60
    issuer.rotate("second")
    await tokens.principal(issuer.token())
    await tokens.principal(old)
    assert host.asked == 2


async def test_a_key_that_is_withdrawn_is_refused_once_the_keys_are_read_again(
    issuer: Issuer, host: Host
) -> None:
    known = host.keys()
    tokens = verifier(known)
    old = issuer.token()
    await tokens.principal(old)
    issuer.rotate("second", forget=True)
    host.now += 301
    await tokens.principal(old)  # it is read beside this request, which does not wait
    await ended(known)
    assert await reason(tokens, old) == "unknown_key"


async def test_a_key_that_is_withdrawn_in_a_quiet_hour_is_refused_at_once(
    issuer: Issuer, host: Host
) -> None:
    tokens = verifier(host.keys())
    old = issuer.token()
    await tokens.principal(old)
    issuer.rotate("second", forget=True)
    host.now += 601
    refused = await asyncio.gather(*(reason(tokens, old) for _ in range(3)))
    assert refused == ["unknown_key"] * 3
    assert host.asked == 2


async def test_after_a_quiet_hour_a_host_that_hangs_is_waited_for_once(
    issuer: Issuer, host: Host
) -> None:
    known = host.keys(timeout_seconds=0.05)
    tokens = verifier(known)
    await tokens.principal(issuer.token())
    host.gate = asyncio.Event()
    host.now += 601
    assert (await tokens.principal(issuer.token())).client == "oidc:alice"
    assert known._round is None
    host.now += 11
    assert (await tokens.principal(issuer.token())).client == "oidc:alice"
    await ended(known)
    assert host.asked == 3


async def test_ten_thousand_unknown_keys_are_asked_for_once(issuer: Issuer, host: Host) -> None:
    tokens = verifier(host.keys())
    await tokens.principal(issuer.token())
    host.now += 60
    strange = [issuer.token(header={"kid": f"strange-{n}"}) for n in range(50)]
    for n in range(10_000):
        assert await reason(tokens, strange[n % len(strange)]) == "unknown_key"
    assert host.asked == 2
    host.now += 11
    assert await reason(tokens, strange[0]) == "unknown_key"
    assert host.asked == 3


async def test_all_who_wait_for_keys_share_one_fetch(issuer: Issuer, host: Host) -> None:
    host.gate = asyncio.Event()
    tokens = verifier(host.keys())
    waiting = [asyncio.create_task(tokens.principal(issuer.token())) for _ in range(100)]
    await host.reached.wait()
    waiting.pop().cancel()
    host.gate.set()
    assert {principal.client for principal in await asyncio.gather(*waiting)} == {"oidc:alice"}
    assert host.asked == 1


async def ended(known: Keys) -> None:
    """Wait for the fetch that goes on beside the requests."""
    assert known._round is not None
    await asyncio.wait({known._round})
    await asyncio.sleep(0)


def down() -> bytes:
    raise ConnectionRefusedError


@pytest.mark.parametrize(
    "answer",
    [
        down,
        lambda: b"",
        lambda: b"<html>",
        lambda: b"[" * 100_000,
        lambda: b'{"keys": 7}',
        lambda: b'{"keys": []}',
        lambda: json.dumps({"keys": [None, 7, {"kty": "RSA", "n": "", "e": ""}] * 30}).encode(),
        lambda: json.dumps({"keys": [{"kty": "EC", "crv": "P-256", "x": "A", "y": 1}]}).encode(),
        lambda: json.dumps({"keys": [{"kty": "oct", "k": "c2VjcmV0", "key_ops": 5}]}).encode(),
        lambda: json.dumps({"keys": [{"kty": "RSA"}] * 101}).encode(),
    ],
)
async def test_a_host_that_is_down_or_answers_nonsense_changes_nothing_for_a_while(
    issuer: Issuer, host: Host, answer: Callable[[], bytes]
) -> None:
    known = host.keys()
    tokens = verifier(known)
    token = issuer.token()
    await tokens.principal(token)
    host.answer = answer
    host.now += 400
    assert (await tokens.principal(token)).client == "oidc:alice"
    await ended(known)
    # A key that we do not know may be a new one: that is not said to be wrong.
    with pytest.raises(KeysUnavailable):
        await tokens.principal(issuer.token(header={"kid": "new"}))
    host.now += 3600
    for _ in range(3):
        with pytest.raises(KeysUnavailable):
            await tokens.principal(token)
    asked = host.asked
    host.answer = issuer.published
    host.now += 11
    assert (await tokens.principal(token)).client == "oidc:alice"
    assert host.asked == asked + 1


async def test_a_host_that_never_answers_is_waited_for_as_long_as_is_set(
    issuer: Issuer, host: Host
) -> None:
    host.gate = asyncio.Event()
    with pytest.raises(KeysUnavailable):
        await verifier(host.keys(timeout_seconds=0.05)).principal(issuer.token())


def test_private_parts_and_keys_for_something_else_are_left_out(issuer: Issuer) -> None:
    [good] = issuer.document()["keys"]
    listed = [
        {**good, "kid": "encrypts", "use": "enc"},
        {**good, "kid": "signs", "key_ops": ["sign"]},
        {**good, "kid": "curve", "crv": "P-384"},
        {**good, "kid": "leaked", "d": "AA"},
    ]
    table = keys.parse(json.dumps({"keys": listed}).encode(), algorithms=["ES256"])
    assert set(table["ES256"]) == {"leaked"}


# Static tokens.


def line(name: str, token: str, *scopes: str) -> str:
    return " ".join([name, hashlib.sha256(token.encode()).hexdigest(), *scopes])


async def test_a_static_token_stands_for_its_name_and_its_scopes() -> None:
    text = (
        f"# who\n\n{line('alice', 'a')}\n{line('ops', 'o', OPERATOR)}  # us\n{line('alice', 'b')}"
    )

    async def table() -> static_tokens.Table:
        return static_tokens.parse(text.encode())

    tokens = StaticTokens(table)
    for known in ("a", "b"):
        assert await tokens.principal(known) == Principal("token:alice")
    assert await tokens.principal("o") == Principal("token:ops", frozenset({OPERATOR}))
    assert await tokens.principal("c") is None
    assert await tokens.principal(hashlib.sha256(b"a").hexdigest()) is None


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"# nobody",
        b"alice",
        b"alice hunter2",
        b"alice " + b"0" * 63,
        b"al/ice " + b"0" * 64,
        b"x" * 65 + b" " + b"0" * 64,
        b"alice " + b"0" * 64 + b" root",
        b"alice " + b"0" * 64 + b"\nbob " + b"0" * 64,
        b"\xff\xfe",
    ],
)
def test_a_file_that_is_wrong_is_refused_without_being_shown(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"line|names no token|UTF-8") as refused:
        static_tokens.parse(text)
    assert "hunter2" not in str(refused.value)
