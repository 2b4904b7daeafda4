"""An issuer of signed tokens, for tests: keys, tokens and the JWKS document, without a server."""

import json
import time
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

ISSUER = "https://issuer.example"
AUDIENCE = "shop"


class Issuer:
    """Signs tokens with the newest of its keys."""

    def __init__(self) -> None:
        self._keys: dict[str, ec.EllipticCurvePrivateKey] = {}
        self.rotate("first")

    def rotate(self, kid: str, *, forget: bool = False) -> None:
        """Sign with a new key from now on, and forget the others or go on publishing them."""
        if forget:
            self._keys.clear()
        self._keys[kid] = ec.generate_private_key(ec.SECP256R1())
        self.kid = kid

    def document(self) -> dict[str, Any]:
        """Return what the issuer publishes."""
        keys = []
        for kid, key in self._keys.items():
            public = jwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
            keys.append({**public, "kid": kid, "use": "sig", "alg": "ES256"})
        return {"keys": keys}

    def published(self) -> bytes:
        """Return the document as a host sends it."""
        return json.dumps(self.document()).encode()

    def token(self, *, header: dict[str, Any] | None = None, **claims: Any) -> str:  # noqa: ANN401
        """Return a good token, but for what is given; a claim that is None is left out."""
        now = int(time.time())
        said = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "iat": now, "exp": now + 600}
        said |= claims
        said = {name: value for name, value in said.items() if value is not None}
        return jwt.encode(
            said,
            self._keys[self.kid],
            algorithm="ES256",
            headers={"kid": self.kid, **(header or {})},
        )
