"""Numbers as people read them. Every function takes what a file may hold, and says a dash for what
is no number."""

import math
from datetime import datetime
from typing import Any, TypeGuard

NONE = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"


def is_number(value: Any) -> TypeGuard[float]:
    """A finite number, and not a truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def score(value: Any) -> str:
    """A figure in [0, 1] or near it: 0.812."""
    return f"{value:.3f}".replace("-", MINUS) if is_number(value) else NONE


def change(value: float) -> str:
    """A signed difference of scores: +0.034."""
    return f"{value:+.3f}".replace("-", MINUS)


def count(value: Any) -> str:
    """A whole number with thousands set apart: 1,797."""
    return f"{value:,.0f}" if is_number(value) else NONE


def number(value: Any) -> str:
    """Any number to three significant digits: 12.3, 0.00120, 1,797, 2.5e−05."""
    if not is_number(value):
        return NONE
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}".replace("-", MINUS)
    small = 0 < abs(value) < 1e-4
    return (f"{value:.1e}" if small else f"{value:#.3g}".rstrip(".")).replace("-", MINUS)


def size(value: Any) -> str:
    """Bytes: 1.2 MB (1 MB is 10⁶ bytes)."""
    if not is_number(value):
        return NONE
    if value < 999.5:
        return f"{value:.0f} B"
    for unit in ("kB", "MB", "GB"):
        value /= 1000
        if value < 999.95:
            return f"{value:.1f} {unit}"
    return f"{value / 1000:,.1f} TB"


def duration(value: Any) -> str:
    """Seconds: 40 ms, 3.4 s, 2 min 05 s, 3 h 12 min."""
    if not is_number(value):
        return NONE
    if 0 < value < 0.0995:
        return f"{1000 * value:.0f} ms" if value >= 0.001 else "< 1 ms"
    if value < 59.95:
        return f"{value:.1f} s"
    minutes, seconds = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {seconds:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def mark(text: str) -> str:
    """A formatted value as an axis prints it: 2 MB, not 2.0 MB."""
    return text.replace(".0 ", " ")


def moment(text: Any) -> str:
    """An ISO time as 23 November 2026, 20:45; as it stands where it is none."""
    try:
        at = datetime.fromisoformat(str(text))
    except ValueError:
        return str(text or "")
    return f"{at.day} {at:%B %Y, %H:%M}{at.strftime(' %Z') if at.tzinfo else ''}"
