"""Settings: three sources, and values that cannot be used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bus.settings import BadSetting, child_environment, load_settings, setting_meanings, user_language


def test_without_anything_the_defaults_hold_and_say_so() -> None:
    settings = load_settings(environ={})
    assert (settings.port, settings.lease_seconds) == (8080, 60.0)
    assert set(settings.origins.values()) == {"default"}
    assert set(settings.origins) == set(setting_meanings())
    assert settings.effective_store_url == "sqlite:///var/lgsp.db"


def test_later_sources_win_and_each_value_tells_where_it_came_from(tmp_path: Path) -> None:
    file = tmp_path / "lgsp.toml"
    file.write_text('port = 1\nhost = "10.0.0.1"\nlease_seconds = 5\npoll_seconds = 0.25\n', encoding="utf-8")
    environ = {"LGSP_CONFIG": str(file), "LGSP_PORT": "2", "LGSP_LEASE_SECONDS": "6", "OTHER": "x"}
    settings = load_settings({"port": 3, "host": None}, environ=environ)
    assert (settings.port, settings.lease_seconds, settings.host, settings.poll_seconds) == (3, 6.0, "10.0.0.1", 0.25)
    origins = settings.origins
    assert (origins["port"], origins["lease_seconds"]) == ("command line", "LGSP_LEASE_SECONDS")
    assert (origins["host"], origins["home"]) == (f"file {file}", "default")


def test_a_child_process_gets_the_same_settings(tmp_path: Path) -> None:
    settings = load_settings({"home": tmp_path, "port": 3}, environ={"LGSP_LEASE_SECONDS": "6.5"})
    again = load_settings(environ=child_environment(settings))
    assert (again.home, again.port, again.lease_seconds) == (tmp_path, 3, 6.5)


@pytest.mark.parametrize(
    "name,value",
    [
        ("PORT", "0"),
        ("PORT", "-1"),
        ("PORT", "65536"),
        ("PORT", "http"),
        ("PORT", "80.5"),
        ("PORT", ""),
        ("SANDBOX_PORT", "0"),
        ("SANDBOX_PORT", "70000"),
        ("LEASE_SECONDS", "0"),
        ("LEASE_SECONDS", "nan"),
        ("LEASE_SECONDS", "inf"),
        ("LEASE_SECONDS", "1e999"),
        ("POLL_SECONDS", "-0.1"),
        ("BREAKER_FAILURES", "0"),
        ("BREAKER_OPEN_SECONDS", "-1"),
        ("STRANGERS_RECORDED_PER_SECOND", "-1"),
        ("MAX_BODY_BYTES", "2MiB"),
        ("LOG_LEVEL", "loud"),
        ("SURFACES", "exchange,kitchen"),
        ("TRACE_SHARE", "1.1"),
        ("TRACE_SHARE", "-0.1"),
        ("TRACE_ENDPOINT", "collector:4317"),
        ("WORK_PORT", "-1"),
        ("WORK_PORT", "70000"),
    ],
)
def test_a_bad_value_stops_the_start_with_the_name_of_its_variable(name: str, value: str) -> None:
    with pytest.raises(BadSetting) as refused:
        load_settings(environ={f"LGSP_{name}": value})
    assert f"LGSP_{name}" in str(refused.value)


@pytest.mark.parametrize(
    "line,named",
    [
        ("port = 80.5", "port"),
        ("port = true", "port"),
        ('port = "eighty"', "port"),
        ("home = 5", "home"),
        ('store_url = ["a"]', "store_url"),
        ("lease_seconds = nan", "lease_seconds"),
        ("prot = 80", "prot"),
        ('origins = "x"', "origins"),
        ("[port]\nvalue = 80", "port"),
    ],
)
def test_a_bad_line_in_the_file_is_named(tmp_path: Path, line: str, named: str) -> None:
    file = tmp_path / "lgsp.toml"
    file.write_text(line)
    with pytest.raises(BadSetting) as refused:
        load_settings(environ={}, config=file)
    assert named in str(refused.value)
    assert str(file) in str(refused.value)


@pytest.mark.parametrize("content", [b"port = ", b"\xff\xfe", None], ids=["not-toml", "not-utf8", "missing"])
def test_a_file_that_cannot_be_read_stops_the_start(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "lgsp.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(BadSetting, match=r"lgsp\.toml"):
        load_settings(environ={"LGSP_CONFIG": str(file)})


@pytest.mark.parametrize(
    "environ,language",
    [
        ({}, "en"),
        ({"LANG": "vi_VN.UTF-8"}, "vi"),
        ({"LANG": "vi_VN.UTF-8", "LC_ALL": "C"}, "en"),
        ({"LANG": "en_US.UTF-8", "LC_MESSAGES": "vi_VN"}, "vi"),
        ({"LC_ALL": "", "LANG": "VI"}, "vi"),
    ],
)
def test_the_language_is_the_terminals(environ: dict[str, str], language: str) -> None:
    assert user_language(environ) == language


def test_settings_do_not_change(tmp_path: Path) -> None:
    settings: Any = load_settings(environ={})
    with pytest.raises(AttributeError):
        settings.port = 1


# ---- values in files of their own


def test_a_value_may_stand_in_a_file_of_its_own_for_secrets(tmp_path: Path) -> None:
    secret = tmp_path / "store-url"
    secret.write_text("postgresql+psycopg://lgsp:a b%23@db/lgsp\n", encoding="utf-8")
    settings = load_settings(environ={"LGSP_STORE_URL_FILE": str(secret)})
    assert settings.store_url == "postgresql+psycopg://lgsp:a b%23@db/lgsp"
    assert settings.origins["store_url"] == f"LGSP_STORE_URL_FILE={secret}"


def test_a_child_process_reads_the_same_file_and_its_environment_holds_no_secret(tmp_path: Path) -> None:
    secret = tmp_path / "store-url"
    secret.write_text("postgresql://secret@db/lgsp")
    settings = load_settings({"port": 81}, environ={"LGSP_STORE_URL_FILE": str(secret)})
    passed = child_environment(settings)
    assert not any("secret@" in value for value in passed.values())
    again = load_settings(environ=passed)
    assert (again.store_url, again.port) == (settings.store_url, 81)


def test_the_command_line_wins_over_a_file_also_in_the_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "port").write_text("80")
    monkeypatch.setenv("LGSP_PORT_FILE", str(tmp_path / "port"))
    settings = load_settings({"port": 90})
    assert load_settings(environ=child_environment(settings)).port == 90


@pytest.mark.parametrize(
    "content,extra",
    [
        (None, {}),
        (b"\xff\xfe", {}),
        (b"eighty", {}),
        (b"", {}),
        (b"80\n81", {}),
        (b"80", {"LGSP_PORT": "80"}),
    ],
    ids=["missing", "not text", "no number", "empty", "two lines", "said twice"],
)
def test_a_file_that_gives_no_value_stops_the_start(
    tmp_path: Path, content: bytes | None, extra: dict[str, str]
) -> None:
    file = tmp_path / "port"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(BadSetting, match="LGSP_PORT_FILE"):
        load_settings(environ={"LGSP_PORT_FILE": str(file), **extra})
