"""Text for a terminal or a page, which obey some characters instead of showing them: names and data may hold any."""

from __future__ import annotations

import re

# Control characters (what moves the cursor, colours, titles a window), halves of characters, and marks that turn the
# direction of writing round, so that a name looks like another.
_OBEYED = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    r"""Return text with every character that a terminal would obey written as Python writes it.

    >>> printable("a\x1b[31mb\nc")
    'a\\x1b[31mb\\nc'
    """
    return _OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
