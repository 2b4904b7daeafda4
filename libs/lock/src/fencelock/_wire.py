"""What the call of a script looks like on the wire.

Scripts are called again and again for the same names with the same settings. What such calls have
in common is made once and remembered; what is left is who asks, and the time.
"""

from functools import lru_cache
from typing import Final

# Some megabytes, whatever the names are: 17 at most with eight names of 256 characters each.
_REMEMBERED: Final = 1024
_REMEMBERED_WORDS: Final = 17
# How words begin that are short, as those are that differ from call to call.
_BEGINNINGS: Final = tuple([f"${length}\r\n" for length in range(64)])


def call(digest: str, keys: tuple[str, ...], args: tuple[str, ...], moment: str = "") -> bytes:
    """EVALSHA in the Redis protocol; all text is ASCII.

    Args:
        digest: which script.
        keys: its keys.
        args: its arguments. Only the first is thought to differ from call to call.
        moment: one argument more, which differs too; none if it is empty.
    """
    if not args or len(keys) > _REMEMBERED_WORDS or len(args) > _REMEMBERED_WORDS:
        every = (*args, moment) if moment else args
        return (_head(digest, keys, len(every)) + _words(every)).encode("ascii")
    who = args[0]
    text = f"{_begin(who)}{who}\r\n{_known_words(args[1:])}"
    if not moment:
        return f"{_known_head(digest, keys, len(args))}{text}".encode("ascii")
    head = _known_head(digest, keys, len(args) + 1)
    return f"{head}{text}{_begin(moment)}{moment}\r\n".encode("ascii")


def _begin(word: str) -> str:
    length = len(word)
    return _BEGINNINGS[length] if length < len(_BEGINNINGS) else f"${length}\r\n"


def _words(words: tuple[str, ...]) -> str:
    return "".join([f"${len(each)}\r\n{each}\r\n" for each in words])


def _head(digest: str, keys: tuple[str, ...], args: int) -> str:
    words = ("EVALSHA", digest, str(len(keys)), *keys)
    return f"*{len(words) + args}\r\n{_words(words)}"


_known_words = lru_cache(_REMEMBERED)(_words)
_known_head = lru_cache(_REMEMBERED)(_head)
