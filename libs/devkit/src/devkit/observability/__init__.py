"""Prometheus and Jaeger beside the shop, where this machine has them."""
