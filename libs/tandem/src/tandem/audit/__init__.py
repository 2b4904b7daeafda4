"""Compare what both sides say, find where they disagree, and mend it from the journal.

*Here* is the side that begins, whose journal knows every change; *there* is the one that decides.
"""
