"""What is said where no font here draws what a plot or a PDF has to say.

Without a font for them, Chinese characters are boxes. A browser takes its own fonts, so pages need
none here; plots (Matplotlib) and PDFs (WeasyPrint) do.

Invariant: said once a process, however many plots there are; nothing is fetched.

Example: `say("正面")` logs that 正面 are boxes, and which package of Debian has a font for them.
"""

from __future__ import annotations

import logging
import re
import shutil
import subprocess
from collections.abc import Collection

log = logging.getLogger(__name__)

# For Chinese, those that Linux, macOS and Windows have or get, as Matplotlib calls them.
HAN_FONTS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Noto Sans SC",
    "Source Han Sans SC",
    "WenQuanYi Zen Hei",
    "WenQuanYi Micro Hei",
    "Droid Sans Fallback",
    "PingFang SC",
    "PingFang HK",
    "Hiragino Sans GB",
    "Microsoft YaHei",
    "SimHei",
)
_HAN = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]")
_SHOWN = 8  # characters
_SECONDS = 10.0
_said = set[str]()


def say(characters: str) -> None:
    """Log that characters are boxes, unless it was said of others."""
    if not characters or _said:
        return
    _said.add(characters)
    some = "".join(dict.fromkeys(characters))[:_SHOWN]
    package = "fonts-noto-cjk" if _HAN.search(characters) else "fonts-noto"
    log.warning(
        "no font here draws %s: boxes stand there. Install one (Debian: apt install %s) and draw "
        "again",
        some,
        package,
    )


def fallbacks(installed: Collection[str]) -> list[str]:
    """The families that are here and draw Chinese, the best first.

    Args:
        installed: names of families.
    """
    return [name for name in HAN_FONTS if name in installed]


def undrawn(text: str) -> str:
    """The Chinese characters of a text that no font of fontconfig draws; "" where it is absent."""
    found, program = _HAN.findall(text), shutil.which("fc-list")
    if not found or program is None:
        return ""
    try:
        asked = subprocess.run(  # noqa: S603  no shell; a number of ours
            [program, f":charset={ord(found[0]):x}", "family"],
            capture_output=True,
            check=True,
            timeout=_SECONDS,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return "" if asked.stdout.strip() else "".join(found)
