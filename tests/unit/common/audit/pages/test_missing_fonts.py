"""What is said of characters that no font here draws."""

import logging
from collections.abc import Iterator

import pytest

from presspool.common.audit.pages import missing_fonts


@pytest.fixture(autouse=True)
def nothing_said() -> Iterator[None]:
    missing_fonts._said.clear()
    yield
    missing_fonts._said.clear()


def test_it_is_said_once_with_the_package(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        missing_fonts.say("")
        missing_fonts.say("正面正面")
        missing_fonts.say("负面")
    (record,) = caplog.records
    assert record.getMessage() == (
        "no font here draws 正面: boxes stand there. "
        "Install one (Debian: apt install fonts-noto-cjk) and draw again"
    )


def test_other_scripts_have_another_package(caplog: pytest.LogCaptureFixture) -> None:
    missing_fonts.say("ꀀ")
    assert "apt install fonts-noto)" in caplog.text


def test_the_best_of_the_installed_fonts_comes_first() -> None:
    installed = {"SimHei", "DejaVu Sans", "Noto Sans CJK SC"}
    assert missing_fonts.fallbacks(installed) == ["Noto Sans CJK SC", "SimHei"]
    assert missing_fonts.fallbacks({"DejaVu Sans"}) == []


def test_fontconfig_is_asked_of_chinese_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("fonts")
    (folder / "fc-list").write_text(
        "#!/bin/sh\ntest \"$1\" = ':charset=91d1' && echo Some Font\ntrue\n"
    )
    (folder / "fc-list").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    assert missing_fonts.undrawn("plain text, and é") == ""
    assert missing_fonts.undrawn("a 金 b 牌") == ""
    assert missing_fonts.undrawn("a 牌 b 金") == "牌金"
    monkeypatch.setenv("PATH", str(folder / "none"))
    assert missing_fonts.undrawn("牌") == ""
