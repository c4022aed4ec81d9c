"""What `make` does before anything else: the environment is made once, and made again when the lock changes."""

from __future__ import annotations

import importlib.util
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """tools/environment.py over a small copy of what it looks at."""
    spec = importlib.util.spec_from_file_location("environment", ROOT / "tools" / "environment.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in (
        *(f"requirements/{lock}.txt" for lock in ("run", "dev", "source")),
        "pyproject.toml",
        "tools/environment.py",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / "venv").mkdir()
    monkeypatch.setattr(module, "ROOT", str(tmp_path))
    return module


def mark_installed(environment: ModuleType, wanted: str) -> str:
    venv = str(Path(environment.ROOT) / "venv")
    Path(environment.stamp(venv, wanted)).write_text(environment.digest_of(wanted))
    return venv


def test_an_empty_environment_is_not_current(environment: ModuleType) -> None:
    assert not environment.is_current(str(Path(environment.ROOT) / "venv"), "run")


def test_an_installed_lock_is_not_installed_again(environment: ModuleType) -> None:
    assert environment.is_current(mark_installed(environment, "run"), "run")


def test_what_the_tests_need_contains_what_the_demo_needs(environment: ModuleType) -> None:
    venv = mark_installed(environment, "dev")
    assert environment.is_current(venv, "run")
    assert not environment.is_current(venv, "bench")


@pytest.mark.parametrize("changed", ["requirements/run.txt", "requirements/source.txt", "pyproject.toml"])
def test_a_changed_lock_is_installed(environment: ModuleType, changed: str) -> None:
    venv = mark_installed(environment, "run")
    with (Path(environment.ROOT) / changed).open("a") as file:
        file.write("# changed\n")
    assert not environment.is_current(venv, "run")


@pytest.mark.parametrize("version", [(3, 9), (3, 10), (3, 14)])
def test_an_unfit_python_is_told_so_and_touches_nothing(
    environment: ModuleType,
    version: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(environment.sys, "version_info", (*version, 0, "final", 0))
    assert environment.main(str(Path(environment.ROOT) / "new"), "run") == 1
    assert "Python 3.11, 3.12 or 3.13 is needed" in capsys.readouterr().err
    assert not (Path(environment.ROOT) / "new").exists()


def test_the_lock_pins_every_direct_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = {
        "run": project["dependencies"],
        "trace": [*project["dependencies"], *extras["trace"]],
        "dev": [*project["dependencies"], *extras["dev"], *extras["trace"]],
        "bench": [*project["dependencies"], *extras["bench"]],
    }
    for lock, direct in wanted.items():
        pins = {line.split("==")[0].split("[")[0] for line in [*_pins(lock), *_pins("source")]}
        assert {_name(dependency) for dependency in direct} - pins == set(), f"requirements/{lock}.txt: run make lock"


def test_the_locks_agree_on_every_version() -> None:
    pins = [dict(line.split(" ")[0].split("==") for line in _pins(lock)) for lock in ("run", "trace", "dev", "bench")]
    run, *larger = pins
    assert {name for name in run for pinned in larger if pinned.get(name) != run[name]} == set()


def _pins(lock: str) -> list[str]:
    lines = (ROOT / "requirements" / f"{lock}.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if "==" in line and not line.startswith((" ", "#"))]


def _name(dependency: str) -> str:
    for mark in "[><=~! ;":
        dependency = dependency.split(mark)[0]
    return dependency
