"""`docs/operations.md`, "One machine, by hand": its lines are pasted here and bring up the production mode.

What a test cannot have of a real machine is stood in for: PostgreSQL and RabbitMQ are private ones of this test (the
lines for them run against those), and systemd's part is done by reading the installed units as it would.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest

from benchmarks.rabbitmq import RabbitMissing, RabbitNode, start_rabbitmq
from tests.loopback import closed_port
from tests.postgresql_site import Site, empty_site
from tests.processes import until

ROOT = Path(__file__).resolve().parent.parent
LGSP = str(Path(sys.executable).with_name("lgsp"))
MEMBERS = "kind: Agency\ncode: H99\nname: Tỉnh Thử Nghiệm\n"


@pytest.fixture
def machine(tmp_path_factory: pytest.TempPathFactory, missing_service: Callable[[str], NoReturn]) -> Iterator[Machine]:
    try:
        node = start_rabbitmq(tmp_path_factory.mktemp("rabbit") / "node")
    except RabbitMissing as reason:
        missing_service(str(reason))
    with ExitStack() as stack:
        stack.callback(node.stop)
        site = stack.enter_context(empty_site(missing_service))
        port = closed_port()
        environment = site.environment("data", port)
        site.initdb(environment)
        stack.enter_context(site.running("postgres", environment=environment, port=port))
        # PostgreSQL's user must be able to read it, as it can read a checkout on a real machine.
        shutil.copytree(ROOT / "docker", site.folder / "checkout" / "docker")
        (site.folder / "checkout" / "members.yaml").write_text(MEMBERS, "utf-8")
        yield Machine(site=site, node=node, port=port, root=site.folder, stack=stack)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where the lines are typed. ``root`` stands for `/`."""

    site: Site
    node: RabbitNode
    #: PostgreSQL's.
    port: int
    root: Path
    #: What is started here ends with it.
    stack: ExitStack

    def here(self, text: str) -> str:
        """Paths of this machine."""
        for name in ("/etc/lgsp", "/etc/systemd/system", "/usr/local/sbin", "/var/lib/lgsp"):
            text = text.replace(name, str(self.root) + name)
        return text.replace("/opt/lgsp/bin/lgsp", LGSP)

    def type(self, line: str) -> str:
        words = shlex.split(self.here(line))
        assert words.pop(0) == "sudo", line
        if words[:3] == ["-u", "postgres", "env"]:
            command = [str(self.root / "checkout" / word) if word.startswith("docker/") else word for word in words[4:]]
            self.site.run(*command, environment=self.of_postgresql(words[3]))
            return ""
        special = {"rabbitmqctl": self.rabbitmqctl, "systemctl": self.systemctl, "chgrp": self.chgrp}
        if words[0] in special:
            special[words[0]](words[1:])
            return ""
        words = [{"127.0.0.1": f"127.0.0.1:{self.server_port(words, n)}"}.get(w, w) for n, w in enumerate(words)]
        if words[0] == "lgsp-admin":
            words[0] = str(self.root / "usr/local/sbin/lgsp-admin")
        done = subprocess.run(words, cwd=self.root / "checkout", capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        if words[0] in ("cp", "install"):
            self.adapt()
        return done.stdout

    def server_port(self, words: list[str], number: int) -> int:
        return self.node.port if words[number - 1] == "--broker" else self.port

    def of_postgresql(self, assignment: str) -> dict[str, str]:
        """With what the line's own `env SECRETS=…` says."""
        return self.site.environment("data", self.port) | dict([assignment.split("=", 1)])

    def rabbitmqctl(self, words: list[str]) -> None:
        self.node.control(*words)

    def chgrp(self, words: list[str]) -> None:
        if self.site.user:
            os.chown(words[1], -1, self.site.user["group"])

    def adapt(self) -> None:
        """What is installed speaks of this machine: its paths, free ports, and no user of its own."""
        settings = self.root / "etc/lgsp/settings"
        if settings.exists() and "LGSP_PORT=" not in settings.read_text():
            text = settings.read_text().replace("LGSP_WORK_PORT=8081", f"LGSP_WORK_PORT={closed_port()}")
            settings.write_text(f"{text}LGSP_PORT={closed_port()}\n")
        admin = self.root / "usr/local/sbin/lgsp-admin"
        if admin.exists() and "setpriv" in admin.read_text():
            text = re.sub(r"^chown .*\n", "", admin.read_text(), flags=re.MULTILINE)
            text = text.replace("install -o lgsp -g lgsp", "install")
            text = text.replace("setpriv --reuid lgsp --regid lgsp --init-groups ", "")
            admin.write_text(self.here(text))

    def systemctl(self, words: list[str]) -> None:
        if words == ["daemon-reload"]:
            return
        assert words == ["enable", "--now", "lgsp.target"]
        wanted = re.findall(r"[\w-]+\.service", self.read("lgsp.target"))
        assert wanted == ["lgsp-serve.service", "lgsp-work.service"]
        home = self.root / "var/lib/lgsp"
        home.mkdir(mode=0o700, parents=True)
        init = "lgsp-init.service"
        begun = subprocess.run(self.command(init), env=self.environment(init), cwd=home, capture_output=True, text=True)
        assert begun.returncode == 0, begun.stdout + begun.stderr
        for unit in wanted:
            log = self.stack.enter_context((self.root / f"{unit}.log").open("wb"))
            process = subprocess.Popen(self.command(unit), env=self.environment(unit), cwd=home, stdout=log, stderr=log)
            self.stack.callback(_end, process)

    def command(self, unit: str) -> list[str]:
        (line,) = re.findall(r"^ExecStart=(.*)$", self.read(unit), re.MULTILINE)
        return shlex.split(line)

    def environment(self, unit: str) -> dict[str, str]:
        """As systemd makes it: nothing of ours, the unit's own words, then the file's."""
        text = self.read(f"{unit}.d/hardening.conf")
        (own,) = re.findall(r"^Environment=(.*)$", text, re.MULTILINE)
        (file,) = re.findall(r"^EnvironmentFile=(.*)$", text, re.MULTILINE)
        lines = [*own.replace("%d", str(self.root / "etc/lgsp")).split(), *Path(file).read_text().splitlines()]
        return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))

    def read(self, unit: str) -> str:
        return self.here((self.root / "etc/systemd/system" / unit).read_text())


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    assert process.wait(30) == 0


@pytest.mark.service
@pytest.mark.slow
def test_the_lines_bring_up_the_production_mode(machine: Machine) -> None:
    text = (ROOT / "docs" / "operations.md").read_text("utf-8")
    found = re.findall(r"^```sh production\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = [line for block in found for line in block.splitlines()]
    asked = {"health": "", "nodes": "", "doctor": ""}
    assert len(lines) >= 15
    for name in ("usr/local/sbin", "etc/systemd/system"):
        (machine.root / name).mkdir(parents=True)
    for line in lines:
        command = line.split()[2]
        if "lgsp-admin" in line and command in asked:
            asked[command] = typed_until_it_is_so(machine, line)
        else:
            machine.type(line)
    assert "serve" in asked["nodes"]
    assert "work" in asked["nodes"]
    assert "postgresql" in asked["doctor"]
    assert "✗" not in asked["doctor"]
    assert re.search(r"broker\s+1 of 1 nodes can be reached", asked["doctor"])
    assert (machine.root / "etc/lgsp").stat().st_mode & 0o777 == 0o700


def typed_until_it_is_so(machine: Machine, line: str) -> str:
    """Processes take a moment to start; the last word counts."""
    said: list[str] = []

    def takes() -> bool:
        try:
            said.append(machine.type(line))
        except AssertionError:
            return False
        return True

    assert until(takes, 40), machine.type(line)
    return said[-1]
