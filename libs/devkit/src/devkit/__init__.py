"""Runs the shop on one machine: real Postgres and Redis, no containers."""
