r"""Names of files, folders and classes as text that can be shown, sent and found again.

On a disk a name is bytes: it need not be UTF-8, it may hold a line break, a command to a terminal,
marks that turn the reading order. Here it becomes one printable line, from which it can be made
again: what cannot be printed is written as `\x0a` (one byte), `\u202e` or `\U000e0001`, and a
backslash as two. `printf '%b'` reads the same.
"""

import codecs
import hashlib
import io
import re
from pathlib import Path
from typing import TextIO

SURROGATES = 0xDC00  # added by Python to a byte of a name that is not UTF-8
BYTE, HIGH = 0x80, 0x100
ESCAPE = re.compile(r"\\(\\|x[0-9a-f]{2}|u[0-9a-f]{4}|U000[0-9a-f]{5}|U0010[0-9a-f]{4})")
DIGITS = 8  # of a digest, at the end of a name that was cut


def printable(text: str) -> str:
    """`text` with what cannot be printed written out, for screens and logs."""
    return text if text.isprintable() else "".join(map(_written, text))


def written(name: str) -> str:
    """`name` as one printable line; the inverse of `original`."""
    return printable(name.replace("\\", "\\\\"))


def original(text: str) -> str:
    """The name that `written` wrote as `text`."""
    return ESCAPE.sub(lambda match: _read(match[1]), text)


def place(text: str) -> Path:
    """The path that is meant: `text` itself where something has that name, else what it was written
    from."""
    path = Path(text)
    return path if "\\" not in text or path.exists() else Path(original(text))


def portable(path: str) -> str:
    """`path` as text that can be sent and printed; `place` finds it again. Most are left as they
    are."""
    return path if path.isprintable() else written(path)


def is_utf8(path: Path) -> bool:
    """Whether the path can be given to programs that take UTF-8 alone."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def write_out(*streams: TextIO | None) -> None:
    """Let `streams` write out what they cannot encode, as `printable` does, instead of failing."""
    codecs.register_error("written-out", _write_out)
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="written-out")


def label(name: str, most: int) -> str:
    """`name` as one printable line of 1 to `most` characters; what is longer is cut, and ends in a
    digest of the whole."""
    line = written(name) or "-"
    if len(line) <= most:
        return line
    digest = hashlib.sha256(line.encode()).hexdigest()[:DIGITS]
    return f"{line[: most - DIGITS - 1]}…{digest}"


def _write_out(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_escape, error.object[error.start : error.end])), error.end


def _written(character: str) -> str:
    return character if character.isprintable() else _escape(character)


def _escape(character: str) -> str:
    code = ord(character)
    if SURROGATES + BYTE <= code < SURROGATES + HIGH:
        return f"\\x{code - SURROGATES:02x}"
    if code < BYTE:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 1 << 16 else f"\\U{code:08x}"


def _read(escape: str) -> str:
    if escape == "\\":
        return escape
    code = int(escape[1:], 16)
    return chr(code + SURROGATES if escape[0] == "x" and code >= BYTE else code)
