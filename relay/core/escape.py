"""Escaping of untrusted text for display: no control characters, no bidi overrides, bounded length."""

import unicodedata

# Cc, Cf (bidi overrides among them), Cs, Co, Cn, line and paragraph separators never reach a terminal as they are
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def escape(text: str | bytes, most: int = 255) -> str:
    """`text` with everything that could move a cursor written as \\x.., cut to `most` characters with `...`."""
    if isinstance(text, bytes):
        text = text[: most * 4].decode("utf-8", "backslashreplace")
    if text.isascii() and text.isprintable() and "\\" not in text and len(text) <= most:
        return text
    escaped = []
    for letter in text[: most + 1]:
        if letter == "\\":
            escaped.append("\\\\")
        elif unicodedata.category(letter) in _UNSAFE:
            escaped.append(f"\\x{ord(letter):02x}" if ord(letter) < 256 else f"\\u{{{ord(letter):x}}}")
        else:
            escaped.append(letter)
    shown = "".join(escaped)
    return shown if len(text) <= most and len(shown) <= most * 4 else shown[: max(most - 3, 0)] + "..."
