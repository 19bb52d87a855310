"""Numbers as people read them: sensible digits, units, and words for what became better or worse."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .._metric_names import lower_is_better

_SHARES = ("accuracy", "precision", "recall", "auc", "f1")  # in [0, 1], shown in percent
MINUS = "\u2212"
_MOST_DECIMALS = 6
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_UNITS = ((1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def number(value: float, decimals: int | None = None) -> str:
    """About three digits, or so many decimals.

    Example:
        >>> number(1234567), number(12.345), number(0.01234), number(-2), number(1.5e-9), number(float("nan"))
        ('1,234,567', '12.3', '0.0123', '\u22122', '1.5 \u00d7 10⁻⁹', 'not a number')
    """
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else "∞" if value > 0 else f"{MINUS}∞"
    size = abs(value)
    if size and not 1e-4 <= size < 1e12:
        mantissa, _, power = f"{value:.3g}".partition("e")
        return f"{mantissa}{power_of_ten(int(power)) if power else ''}".replace("-", MINUS)
    if decimals is not None:
        text = f"{value:,.{decimals}f}"
    elif value == int(value):
        text = f"{value:,.0f}"
    else:
        text = f"{value:,.{_decimals_for(size)}f}"
        text = text.rstrip("0").rstrip(".") if "." in text else text
    return text.replace("-", MINUS)


def power_of_ten(power: int) -> str:
    """What a number is multiplied by.

    Example:
        >>> power_of_ten(-12)
        ' \u00d7 10⁻¹²'
    """
    return f" \u00d7 10{str(power).translate(_RAISED)}"


def _decimals_for(size: float, digits: int = 3) -> int:
    """Decimals with which a number has so many digits."""
    return min(max(digits - 1 - math.floor(math.log10(size)), 0), _MOST_DECIMALS) if size > 0 else 0


@dataclass(frozen=True)
class Metric:
    """A metric, and how its values are written."""

    name: str
    lower_is_better: bool = False
    share: bool = False  # in [0, 1], written in percent

    @property
    def words(self) -> str:
        """Its name in a sentence."""
        return self.name.replace("_", " ")

    @property
    def title(self) -> str:
        """Its name at the beginning of one."""
        return self.words[:1].upper() + self.words[1:]

    def better(self, a: float, b: float) -> bool:
        """Whether a is better than b; whatever is not a number is worse than any."""
        if math.isnan(a) or math.isnan(b):
            return math.isnan(b) and not math.isnan(a)
        return a < b if self.lower_is_better else a > b

    def decimals(self, a: float, b: float) -> int:
        """Decimals with which two values can be told apart."""
        scale = 100 if self.share else 1
        difference, size = abs(a - b) * scale, max(abs(a), abs(b)) * scale
        if not math.isfinite(difference + size):
            return 1 if self.share else 3
        least = 1 if self.share else _decimals_for(size)
        return min(max(least, _decimals_for(difference, 2) if difference else 0), least + 2)

    def text(self, value: float, decimals: int | None = None) -> str:
        """A value."""
        if self.share and math.isfinite(value):
            return f"{number(100 * value, 1 if decimals is None else decimals)}%"
        return number(value, _decimals_for(abs(value)) if decimals is None and math.isfinite(value) else decimals)

    def change(self, before: float, after: float, unit: bool = True) -> str:
        """A difference with its sign; of what is in percent, in points, which the unit says."""
        if not math.isfinite(after - before):
            return "not finite"
        decimals = self.decimals(before, after)
        difference = (after - before) * (100 if self.share else 1)
        text = number(abs(difference), decimals)
        sign = "" if float(f"{abs(difference):.{decimals}f}") == 0 else "+" if difference > 0 else MINUS
        return f"{sign}{text}{' points' if self.share and unit else ''}"


def metric_of(name: str, values: list[float], lower: bool | None = None) -> Metric:
    """The metric with this name.

    Args:
        name: As in the columns, without "eval_".
        values: Some of its values, which tell whether it is in [0, 1].
        lower: Whether less is better; None goes by the name.
    """
    words = name.lower()
    finite = [value for value in values if math.isfinite(value)]
    share = any(word in words for word in _SHARES) and all(0 <= value <= 1 for value in finite)
    return Metric(name, lower_is_better(name) if lower is None else lower, share)


def byte_unit(most: float) -> tuple[float, str]:
    """The unit for so many bytes, and its size."""
    return next(((size, unit) for size, unit in _UNITS if most >= size), (1.0, "bytes"))


def bytes_text(count: float) -> str:
    """Bytes in decimal units.

    Example:
        >>> bytes_text(161938800), bytes_text(999), bytes_text(2.5e13)
        ('162 MB', '999 bytes', '25 TB')
    """
    if not math.isfinite(count):
        return number(count)
    size, unit = byte_unit(count)
    return f"{number(count / size)} {unit}"


def seconds_text(seconds: float) -> str:
    """A time in at most two units.

    Example:
        >>> seconds_text(0.0123), seconds_text(7.25), seconds_text(75), seconds_text(3 * 3600 + 62), seconds_text(200000)
        ('12.3 ms', '7.25 s', '1 min 15 s', '3 h 1 min', '2 d 8 h')
    """
    if not math.isfinite(seconds):
        return number(seconds)
    if seconds < 1:
        return f"{number(1000 * seconds)} ms"
    if seconds < 59.5:
        return f"{number(seconds)} s"
    for unit, name, part, part_name in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        whole, rest = divmod(round(seconds / part), unit // part)
        if whole:
            return f"{whole} {name} {rest} {part_name}" if rest else f"{whole} {name}"
    raise AssertionError(seconds)


def counted(count: float, one: str, many: str = "") -> str:
    """A number of things.

    Example:
        >>> counted(1, "client"), counted(1387, "client")
        ('1 client', '1,387 clients')
    """
    return f"{number(count)} {one if count == 1 else many or one + 's'}"
