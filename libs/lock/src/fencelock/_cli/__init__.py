"""The command line ``fencelock``: look into a server, and run a program under a lock."""
