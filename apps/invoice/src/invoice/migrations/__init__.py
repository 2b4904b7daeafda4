"""The schema of the invoice database, revision by revision."""
