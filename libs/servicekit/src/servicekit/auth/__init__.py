"""Who calls: bearer tokens (RFC 6750), static ones by their hashes and signed ones by OIDC's keys.

``middleware`` finds out whom a token stands for before anything of a request is parsed, and hands
the ``Principal`` down by the request's scope; an endpoint takes it as an argument and passes it on.
No token, nor any part of one, is logged, answered or kept.
"""
