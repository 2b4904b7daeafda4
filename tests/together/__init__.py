"""Both services as real processes on real servers, over real HTTP."""
