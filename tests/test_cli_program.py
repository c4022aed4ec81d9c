"""``lgsp`` as a program: its help, its start, its exit codes, and the processes that it becomes."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import urllib3
from click.testing import CliRunner

from bus.cli import _COMMANDS, lgsp

ROOT = Path(__file__).resolve().parent.parent
#: -P, as the installed program has it: the folder where one stands is not on the path.
PROGRAM = [sys.executable, "-P", "-c", "from bus.cli import main; main()"]
#: What the command line must not load before a command needs it.
HEAVY = ("sqlalchemy", "cryptography", "flask", "rich", "jsonschema", "lxml", "bus.assembly", "urllib3")


def environment(**changed: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LGSP_")}
    return {**kept, "PYTHONPATH": str(ROOT), **changed}


def lgsp_process(*words: str, cwd: Path, **changed: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, *words], cwd=cwd, env=environment(**changed), capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("name", [name for section in _COMMANDS.values() for name in section])
def test_every_command_explains_itself(name: str) -> None:
    explained = CliRunner().invoke(lgsp, [name, "--help"])
    assert explained.exit_code == 0, explained.output
    assert "Usage: lgsp" in explained.stdout
    assert len(explained.stdout.splitlines()) > 4


def test_help_names_every_command_and_loads_none() -> None:
    script = (
        "import sys\nfrom bus.cli import lgsp\n"
        "try: lgsp(['--help'], prog_name='lgsp')\n"
        f"except SystemExit: print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment(), capture_output=True, text=True, timeout=60, check=True
    )
    *listing, loaded = done.stdout.splitlines()
    assert loaded == "[]"
    for section in _COMMANDS.values():
        for name in section:
            assert any(line.split()[:1] == [name] for line in listing), name


def test_a_wrong_command_line_is_2_and_an_unknown_failure_has_no_trace(tmp_path: Path) -> None:
    assert lgsp_process("nothing", cwd=tmp_path).returncode == 2
    (tmp_path / "file").write_text("not a folder")
    lost = lgsp_process("--home", "file", "init", cwd=tmp_path)
    assert lost.returncode == 2  # click: not a directory
    lost = lgsp_process("init", cwd=tmp_path, LGSP_HOME=str(tmp_path / "file" / "below"))
    assert (lost.returncode, "Traceback" in lost.stderr) == (1, False)
    assert "Traceback" in lgsp_process("--debug", "init", cwd=tmp_path, LGSP_HOME=str(tmp_path / "file" / "x")).stderr


def test_init_makes_a_bus_and_may_be_repeated(tmp_path: Path) -> None:
    home = tmp_path / "home"
    first = CliRunner().invoke(lgsp, ["--home", str(home), "init"])
    assert first.exit_code == 0, first.output
    assert "The bus is set up." in first.stdout
    keys = {path: path.read_bytes() for path in (home / "keys").rglob("*") if path.is_file()}
    assert keys
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in keys)
    again = CliRunner().invoke(lgsp, ["--home", str(home), "init"])
    assert "set up before" in again.stdout
    assert {path: path.read_bytes() for path in keys} == keys


@pytest.mark.parametrize("command", ["serve", "work"])
def test_a_process_of_the_bus_does_not_start_in_an_empty_folder(tmp_path: Path, command: str) -> None:
    lost = CliRunner().invoke(lgsp, ["--home", str(tmp_path / "none"), command])
    assert (lost.exit_code, "lgsp init" in lost.stderr) == (1, True)


@contextmanager
def running(*words: str, cwd: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [*PROGRAM, *words], cwd=cwd, env=environment(), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def until(true: Callable[[], bool], seconds: float = 40.0) -> None:
    patience_ends = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < patience_ends
        time.sleep(0.05)


def answers(url: str) -> bool:
    try:
        # An idle kept connection would hold the server's end back for its whole grace time.
        closing = {"Connection": "close"}
        return urllib3.request("GET", url, headers=closing, timeout=2, retries=False).status == 200
    except urllib3.exceptions.HTTPError:
        return False


@pytest.mark.slow
def test_serve_and_work_become_the_processes_of_the_bus_with_the_options_of_the_command_line(
    tmp_path: Path, free_port: int
) -> None:
    assert CliRunner().invoke(lgsp, ["--home", str(tmp_path / "home"), "init"]).exit_code == 0
    # A folder of that name where the operator stands must not be taken for the program.
    (tmp_path / "bus").mkdir()
    (tmp_path / "bus" / "__init__.py").write_text("raise SystemExit('the wrong bus')")
    at = ("--home", "home")
    with (
        running(*at, "serve", "--port", str(free_port), "--processes", "1", cwd=tmp_path) as server,
        running(*at, "work", cwd=tmp_path) as worker,
    ):
        until(lambda: answers(f"http://127.0.0.1:{free_port}/v1/keys"))
        wake = tmp_path / "home" / "wake"
        until(lambda: any(path.name.startswith(f"{worker.pid}-") for path in wake.glob("*")))
        told = CliRunner().invoke(lgsp, ["--home", str(tmp_path / "home"), "doctor"], env={"LGSP_PORT": str(free_port)})
        assert "in use: a server answers" in told.stdout
        assert "1 running" in told.stdout
        for process in (server, worker):
            process.send_signal(signal.SIGTERM)
        until(lambda: all(process.poll() is not None for process in (server, worker)))
        assert (server.returncode, worker.returncode) == (0, 0)


def test_the_list_of_the_sandbox_names_every_twin_and_says_what_it_is(tmp_path: Path) -> None:
    from connectors.sandbox.app import SandboxConfig, create_sandbox

    twins = create_sandbox(SandboxConfig(credentials_file=tmp_path / "x.json")).extensions["sandbox"].twins
    shown = lgsp_process("sandbox", "--list", cwd=tmp_path, COLUMNS="200").stdout
    assert [name for name in twins if name not in shown] == []
    assert "Twin of the business registry: tokens" in shown
    assert "vietnam.md" not in shown
    assert "duplicate-dossier     Hồ sơ đã tồn tại" in shown
    assert "POST /one_stop/profile" in shown
    assert "curl -X PUT http://127.0.0.1:8090/_sandbox/national_portal/faults -d '[{" in shown


def test_one_twin_can_be_listed_and_one_that_is_not_there_names_those_that_are(tmp_path: Path) -> None:
    told = json.loads(lgsp_process("sandbox", "--list", "--json", "post", cwd=tmp_path).stdout)
    assert list(told["about"]) == ["post"]
    assert told["about"]["post"]["presets"]["tracking-gap"]["call"][0] == "/_sandbox/post/events"
    refused = lgsp_process("sandbox", "--list", "buu-dien", cwd=tmp_path)
    assert refused.returncode == 2
    assert "No such twin: buu-dien. There are national_portal," in refused.stderr
    assert list(tmp_path.iterdir()) == []
