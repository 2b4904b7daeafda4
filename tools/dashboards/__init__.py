"""Grafana dashboards, written in Python and kept in the charts as JSON.

``python -m tools.dashboards`` writes them anew; a test fails while they differ.
"""
