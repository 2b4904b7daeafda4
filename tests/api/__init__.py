"""What the two services' API documents say, and whether the services do it."""
