"""Phone numbers and e-mail addresses: one form for each, however it is written.

Hashing, forgetting and masking all compare this form, so that a person is found by any spelling.
"""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import unquote

# Marks of direction and joining, soft hyphens, byte order marks, variation selectors, tags.
_INVISIBLE = (
    "\u00ad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff"
    "\ufff9-\ufffb\U000e0001-\U000e007f"
)
_SPACES = " \t\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000"
_DASHES = (
    "\\-\u02d7\u058a\u05be\u1400\u1806\u2010-\u2015\u2043\u2053\u207b\u208b\u2212\u2e17\u2e1a"
    "\u2e3a\u2e3b\u2e40\u2e5d\u301c\u3030\u30a0\u30fc\ufe31\ufe32\ufe58\ufe63\uff0d\uff70"
    "\U00010ead"
)
_OTHERS = "./()\\[\\]\u00b7\u2022\u2027\u2219\u30fb\ufe59\ufe5a\uff08\uff09\uff0e\uff0f\uff65"
_SEPARATORS = f"[{_INVISIBLE}{_SPACES}{_DASHES}{_OTHERS}]"
_PLUS = "[+\u207a\ufe62\uff0b]"

# In a name: seven digits or more, with the separators people write, or an e-mail address, of
# which no more stands before the @ than mail allows: a search is to take linear time.
NUMBER_OR_ADDRESS = re.compile(
    rf"(?:{_PLUS}{_SEPARATORS}*|[(\uff08])?\d(?:{_SEPARATORS}*\d){{6,}}"
    r"|[^\s<>@＠,;]{1,64}[@＠][^\s<>@＠,;]+"
)

_invisible = re.compile(f"[{_INVISIBLE}]")
_separators = re.compile(_SEPARATORS)
_number = re.compile(r"\+?[0-9]+")
_uri = re.compile(
    r"(?:tel|callto|sms|smsto|mms|mmsto|facetime|facetime-audio|imessage|whatsapp|mailto):(?://)?",
    re.IGNORECASE,
)
# +44 (0)20 ...: the zero is dialled only at home.
_trunk_zero = re.compile(rf"(\+\d{{1,3}}{_SEPARATORS}*)\( *0 *\)")
_uri_parameter = re.compile(r";(?!ext=)[^;]*", re.IGNORECASE)


def normalize_phone(number: str) -> str:
    """Return a number without separators; anything else (an e-mail, a short name) in lower case.

    Digits and signs of any script and width are the same digits and signs, invisible characters
    are nothing, and `tel:`, `sms:`, `mailto:` and their like are left out. A number without its
    `+`, or with 00 in its place, stays another: nothing tells which country it was dialled in.
    """
    text = _visible(number)
    if (scheme := _uri.match(text)) is not None:
        text = _visible(unquote(text[scheme.end() :].partition("?")[0], errors="replace"))
        if text.startswith("+"):
            text = _uri_parameter.sub("", text)
    bare = _separators.sub("", _trunk_zero.sub(r"\1", text))
    bare = "".join(str(unicodedata.decimal(c, c)) for c in bare)
    return bare if _number.fullmatch(bare) else _visible(text.casefold())


def forms_of(number: str) -> tuple[str, ...]:
    """Return the normal form, and the one that version 0.1 gave it where that is another.

    What was remembered of a person in that form is still recognized.
    """
    bare = number.strip().translate(_SEPARATORS_OF_0_1)
    earlier = bare if _number.fullmatch(bare) else number.strip().casefold()
    return tuple(dict.fromkeys((normalize_phone(number), earlier)))


_SEPARATORS_OF_0_1 = str.maketrans("", "", " \t-.()/\u00a0\u2011\u2013")


def _visible(text: str) -> str:
    return _invisible.sub("", unicodedata.normalize("NFKC", text)).strip()
