"""What the person on call sees: dashboards, alerts, runbooks, traces and logs, on real backends."""
