"""A distributed lock on Redis with a fence on every grant."""
