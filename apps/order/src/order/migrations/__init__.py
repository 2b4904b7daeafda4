"""The schema of the order database, revision by revision."""
