"""What the repository is kept with and the shop runs without: ``python -m tools.NAME``."""
