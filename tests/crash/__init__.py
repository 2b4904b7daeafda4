"""Every step boundary of both services, with every way to fail there, on real processes."""
