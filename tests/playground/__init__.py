"""The playground: who may talk to it, and what it shows in a real browser."""
