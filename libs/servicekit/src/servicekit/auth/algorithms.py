"""What tokens may be signed with; settings are read before anything else is imported."""

from collections.abc import Mapping
from typing import Final

# What a key must be for an algorithm: its type, and its curve where it has one.
KINDS: Final[Mapping[str, tuple[str, str | None]]] = {
    "RS256": ("RSA", None),
    "RS384": ("RSA", None),
    "RS512": ("RSA", None),
    "PS256": ("RSA", None),
    "PS384": ("RSA", None),
    "PS512": ("RSA", None),
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "EdDSA": ("OKP", "Ed25519"),
}
"""The algorithms there are to choose from: none, and none with a shared secret, is among them."""
