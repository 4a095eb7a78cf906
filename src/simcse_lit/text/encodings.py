"""Candidate encodings of a line that is not UTF-8, most plausible first, for the error message.

No rule can reliably tell GBK from EUC-KR on a short line. The message therefore shows the line in each candidate encoding,
and the user picks the one that reads right.
"""

import unicodedata

# Python's codec: name for iconv, and an older name.
CANDIDATES = {
    "gb18030": ("GB18030", "GBK"),
    "cp932": ("CP932", "Shift-JIS"),
    "cp949": ("CP949", "EUC-KR"),
    "big5": ("BIG5", ""),
    "euc_jp": ("EUC-JP", ""),
    "cp1252": ("CP1252", "latin-1"),
    "cp1250": ("CP1250", ""),
    "cp1251": ("CP1251", ""),
    "koi8_r": ("KOI8-R", ""),
    "cp1253": ("CP1253", ""),
    "cp1255": ("CP1255", ""),
    "cp1256": ("CP1256", ""),
    "cp874": ("CP874", ""),
}
# The common characters of three codecs. A line that needs rare ones is more likely in another encoding.
COMMON = {"gb18030": "gb2312", "cp932": "shift_jis", "cp949": "euc_kr"}
EAST_ASIAN = ("CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "IDEOGRAPHIC", "FULLWIDTH")
ODD = ("Cc", "Cn", "Co", "Lm", "Mn", "No", "Sc", "Sk", "Sm", "So")  # categories of characters: controls, symbols, marks
SHOWN = 4
NONSENSE = 1.0  # oddness for each non-ASCII character from which a text is nonsense
WIDTH = 24  # characters of an excerpt; some take two columns


def candidates(line: bytes, start: int) -> list[tuple[str, str]]:
    """List encodings that decode a whole line, most plausible first.

    Args:
        line: bytes of the line.
        start: place of the first byte that is not UTF-8.

    Returns:
        At most `SHOWN` pairs: the name for iconv, sometimes with an older name in parentheses, and the text around that
        byte.
    """
    found = []
    for codec, (name, older) in CANDIDATES.items():
        text = _decoded(line, codec)
        if text is None:
            continue
        rare = codec in COMMON and _decoded(line, COMMON[codec]) is None
        foreign = sum(not character.isascii() for character in text) or 1
        place = max(0, len(line[:start].decode(codec, "ignore")) - WIDTH // 3)
        label = f"{name} ({older})" if older else name
        odd = (_oddness(text) + 2 * rare) / foreign
        if odd < NONSENSE:
            found.append((odd, label, text[place : place + WIDTH].strip()))
    return [(label, excerpt) for _, label, excerpt in sorted(found, key=lambda candidate: candidate[0])[:SHOWN]]


def _decoded(line: bytes, codec: str) -> str | None:
    try:
        return line.decode(codec)
    except UnicodeDecodeError:
        return None


def _oddness(text: str) -> float:
    """Count what is rare in correctly decoded text: symbols among letters, mixed scripts or cases within a word."""
    odd, before = 0.0, " "
    for character in text:
        if not character.isascii():
            odd += unicodedata.category(character) in ODD or unicodedata.name(character, "").startswith("HALFWIDTH")
        if character.isalpha() and before.isalpha():
            if _script(character) != _script(before) or (before.islower() and character.isupper()):
                odd += 1
            elif _script(character) == "LATIN" and not character.isascii() and not before.isascii():
                odd += 0.5
        before = character
    return odd


def _script(letter: str) -> str:
    first = unicodedata.name(letter, "").partition(" ")[0]
    return "CJK" if first in EAST_ASIAN else first
