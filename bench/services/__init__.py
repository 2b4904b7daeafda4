"""The shop beside what the same work costs with less: ``make bench-services``."""
