"""Values, gains, durations and configurations in words, the same in tables and figures."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tuner.common.metrics import VALIDATION, metric_of, short_number
from tuner.common.words import as_written
from tuner.runs.events import Scalar

# Everything that GitHub's Markdown gives a meaning inside a line. An underscore inside a word has none.
_MEANINGFUL = re.compile(r"[\\`*\[\]<>|~&$#!{}]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
_WHITE = re.compile(r"[\s\x00-\x1f\x7f\u2028\u2029]+")


def escaped(text: object) -> str:
    """Escape `text` for Markdown: one line, to be read as it is.

    >>> print(escaped("resize(64)|scale(-1,1)"), escaped("mobilenet_v2"), escaped("*bold*"))
    resize(64)\\|scale(-1,1) mobilenet_v2 \\*bold\\*
    """
    return _MEANINGFUL.sub(lambda match: "\\" + match.group(), _WHITE.sub(" ", str(text)).strip())


def code(text: str) -> str:
    """Return `text` as code inside a line of Markdown, to be read as it is; its quotes are longer than any run in it.

    >>> code("rate: {float: [0, 1]}"), code("a ` b")
    ('`rate: {float: [0, 1]}`', '``a ` b``')
    """
    line = _WHITE.sub(" ", text).strip()
    quotes = "`" * (max((len(run) for run in re.findall(r"`+", line)), default=0) + 1)
    return f"{quotes}{line}{quotes}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], numbers: frozenset[str] = frozenset()) -> list[str]:
    """Return the lines of a table; cells are Markdown already. Columns named in `numbers` are aligned to the right."""
    ruler = ["---:" if name in numbers else "---" for name in header]
    return ["| " + " | ".join(cells) + " |" for cells in (header, ruler, *rows)]


def fenced(text: str, language: str = "") -> list[str]:
    """Return the lines of a code block; its fence is longer than any run of backticks in `text`.

    >>> fenced("a ``` b")
    ['````', 'a ``` b', '````']
    """
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return [fence + language, *text.rstrip("\n").splitlines(), fence]


def is_share(metric: str) -> bool:
    """Say whether values of the metric are shares, shown as percentages."""
    return metric_of(metric).unit == "share"


def metric_words(metric: str) -> str:
    """Return a metric's name for people.

    >>> metric_words("val_accuracy"), metric_words("model_mb")
    ('validation accuracy', 'model size')
    """
    return f"validation {metric_of(metric).words}" if metric.startswith(VALIDATION) else metric_of(metric).words


def capital(text: str) -> str:
    """Return `text` as it begins a sentence."""
    return text[:1].upper() + text[1:]


def format_value(metric: str, value: float | None) -> str:
    """Return a value of the metric for people.

    >>> format_value("val_accuracy", 0.62349), format_value("val_loss", 1.23456), format_value("val_loss", None)
    ('62.35%', '1.2346', '-')
    >>> format_value("parameters", 539000), format_value("seconds_per_image", 0.00123), format_value("model_mb", 1336.2)
    ('539,000', '1.23 ms', '1,336 MB')
    """
    if value is None:
        return "-"
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else "infinite"
    match metric_of(metric).unit:
        case "share":
            return f"{value:.2%}"
        case "count":
            return f"{value:,.0f}"
        case "ms":
            return f"{short_number(1000 * value)} ms"
        case "MB":
            return f"{short_number(value)} MB"
        case "number":
            return f"{value:.4f}"


def format_gain(metric: str, gain: float | None) -> str:
    """Say how much better than the baseline: in percentage points, or in units of a loss; positive is better.

    >>> format_gain("val_accuracy", 0.0312), format_gain("val_loss", -0.5), format_gain("val_accuracy", -1e-9)
    ('+3.12', '-0.5000', '0.00')
    """
    if gain is None:
        return "-"
    return signed(100 * gain, 2) if is_share(metric) else signed(gain, 4)


def format_advantage(metric: str, mean: float) -> str:
    """Return an advantage on the test split with what it is of; positive is better.

    >>> format_advantage("accuracy", 0.0312), format_advantage("loss", -0.5)
    ('+3.12 points of test accuracy', '-0.5000 of test loss (positive is better)')
    """
    unit = " points" if is_share(metric) else ""
    better = "" if metric_of(metric).mode == "max" else " (positive is better)"
    return f"{format_gain(metric, mean)}{unit} of test {metric_words(metric)}{better}"


def sign_of(metric: str, low: float | None, high: float | None) -> int:
    """Return 1 or -1 where an interval of advantages, as it is shown, is on one side of 0; else 0.

    >>> sign_of("accuracy", 0.01, 0.02), sign_of("accuracy", 0.00001, 0.02), sign_of("loss", -0.2, -0.1)
    (1, 0, -1)
    """
    least, most = (float(format_gain(metric, bound or 0.0)) for bound in (low, high))
    return 1 if least > 0 else -1 if most < 0 else 0


def signed(value: float, digits: int) -> str:
    """Return a difference with its sign; what is shown as 0 has none.

    >>> signed(0.126, 2), signed(-0.001, 2)
    ('+0.13', '0.00')
    """
    shown = f"{value:+.{digits}f}"
    return shown if float(shown) else shown[1:]


def format_seconds(seconds: float | None) -> str:
    """Return a duration for people.

    >>> format_seconds(4000), format_seconds(75), format_seconds(8.2), format_seconds(None)
    ('1 h 06 min', '1 min 15 s', '8 s', '?')
    """
    if seconds is None:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def format_duration(seconds: float) -> str:
    """Return a duration with tenths of a second where they matter.

    >>> format_duration(1.25), format_duration(75)
    ('1.2 s', '1 min 15 s')
    """
    return f"{seconds:.1f} s" if seconds < 9.95 else format_seconds(seconds)


def reason_words(reason: str) -> str:
    """Return a reason of ours in words; the message of an error as it is.

    >>> reason_words("max_epochs"), reason_words("out of memory: tensor_a")
    ('max epochs', 'out of memory: tensor_a')
    """
    return reason.replace("_", " ") if reason.isidentifier() else reason


def describe_configuration(configuration: Mapping[str, Scalar], names: Sequence[str]) -> str:
    """List the values of some hyperparameters in one line, plain text.

    >>> describe_configuration({"learning_rate": 0.00123456, "units": 64}, ["learning_rate", "units", "alpha"])
    'learning_rate 0.00123, units 64'
    >>> describe_configuration({"trees": 2345.6}, ["trees"])
    'trees 2346'
    """
    return ", ".join(f"{name} {_short(configuration[name])}" for name in names if name in configuration)


def backbone_words(configuration: Mapping[str, Scalar]) -> str:
    """Return a backbone and its preprocessing in words."""
    rest = [name for name in configuration if name != "architecture"]
    return f"{configuration.get('architecture')} ({describe_configuration(configuration, rest)})"


def shortened(text: str, length: int) -> str:
    """Shorten `text` to one line of at most so many characters.

    >>> shortened("resize(64)|scale(-1,1)", 18), shortened("cat", 18)
    ('resize(64)|scal...', 'cat')
    """
    line = " ".join(text.split())
    return line if len(line) <= length else f"{line[: length - 3]}..."


_FORMULA = tuple("=+-@＝＋－＠\t\r\n")
"""Signs that make a cell a formula when it comes first; the wide signs in spreadsheets of East Asia."""


def safe_cell(text: str) -> str:
    """Mark what a spreadsheet would take for a formula (OWASP, CSV injection) as text.

    >>> safe_cell("=cmd()"), safe_cell("cat")
    ("'=cmd()", 'cat')
    """
    return f"'{text}" if text[:1] in _FORMULA else text


def _short(value: Scalar) -> str:
    if isinstance(value, float):
        return short_number(value).replace(",", "")  # in a list, a comma parts one value from the next
    return "none" if value is None else as_written(value)


def without_folders(source: str) -> str:
    """Return the source of a data set without the way to it on this machine: reports are shown to others.

    >>> without_folders("folder:/home/me/flowers"), without_folders("tfds:kmnist")
    ('folder:flowers', 'tfds:kmnist')
    """
    kind, colon, reference = source.partition(":")
    return f"{kind}{colon}{Path(reference).name}" if Path(reference).is_absolute() else source
