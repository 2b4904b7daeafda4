"""Pairs of services on the protocol, to read and to copy."""
