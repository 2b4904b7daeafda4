"""The use cases of the order service: the protocol's steps, one module each."""
