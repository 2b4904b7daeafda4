"""The benchmark of the services."""
