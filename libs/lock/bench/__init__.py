"""The benchmark of the lock against its peers."""
