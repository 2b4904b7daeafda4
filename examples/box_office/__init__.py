"""A box office that sells tickets, and a hall that has seats: docs/own-services.md builds them."""
