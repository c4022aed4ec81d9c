"""The servers that tests share do not outlive a test process that is killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.processes import until

ROOT = Path(__file__).resolve().parent.parent

_TEST_PROCESS = """
import subprocess, sys
from pathlib import Path
from tests.last_will import LastWill

server = subprocess.Popen(["sleep", "600"], stdout=subprocess.DEVNULL)
will = LastWill()
will.add(Path(sys.argv[1]), server.pid)
print(server.pid, flush=True)
sys.stdin.readline()
will.close()
"""


def _start(folder: Path) -> tuple[subprocess.Popen[str], int]:
    process = subprocess.Popen(
        [sys.executable, "-c", _TEST_PROCESS, str(folder)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def _runs(pid: int) -> bool:
    """Whether it does anything: nobody may be there to fetch its farewell."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_what_a_killed_test_process_had_started_ends_and_its_folder_goes(tmp_path: Path) -> None:
    folder = tmp_path / "server"
    folder.mkdir()
    process, server = _start(folder)
    assert _runs(server)
    process.kill()
    process.communicate()
    assert until(lambda: not _runs(server) and not folder.exists())


def test_after_an_orderly_end_nothing_is_touched(tmp_path: Path) -> None:
    process, server = _start(tmp_path)
    try:
        process.communicate("go\n", timeout=20)
        assert process.returncode == 0
        assert _runs(server)
        assert tmp_path.exists()
    finally:
        subprocess.run(["kill", str(server)], check=True)
