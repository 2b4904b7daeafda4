"""The playground: a page on which the shop is used, broken and watched.

It starts a shop of its own (``make play``), or the one of ``make up`` (``PLAY=1``), with a second
order service and a wire before each database, so that every part can fail while the page looks
past the wires at what is really stored. Beside the shop it runs the same scenes with a lock alone.
"""
