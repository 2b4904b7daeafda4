"""Compare what both services say, find where they disagree, and mend it."""
