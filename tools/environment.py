"""Make the virtual environment fit the lock: ``python3 tools/environment.py VENV SET``, SET one of run, dev, bench.

Installs ``requirements/SET.txt`` with every hash checked and wheels only (so that no package runs a build script of its
own). What is published as source only, ``requirements/source.txt``, is built with the locked build backend, its hash
checked too; then the project itself is put in as an editable install. A stamp inside the environment holds the digest
of what was installed: the second run compares it and is done in a few milliseconds.

Written for any Python 3 that may be found on a machine, so that one that is too old is told so in words.
"""

import hashlib
import os
import subprocess
import sys

OLDEST, TOO_NEW = (3, 11), (3, 14)
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
#: A larger set holds everything of the smaller ones named here, so their work need not be done again.
CONTAINS = {"run": (), "dev": ("run",), "bench": ("run",)}


def main(venv, wanted):
    # type: (str, str) -> int
    if not OLDEST <= sys.version_info[:2] < TOO_NEW:
        return refuse(
            "Python 3.11, 3.12 or 3.13 is needed; {} is Python {}.{}.\n"
            "Name another one: make PYTHON=/path/to/python3.12 ...".format(sys.executable, *sys.version_info[:2])
        )
    python = os.path.join(venv, "bin", "python")
    digest = digest_of(wanted)
    if os.path.exists(python) and is_current(venv, wanted):
        return 0
    if not os.path.exists(python):
        say("Creating {} with Python {}.{} ...".format(os.path.relpath(venv, ROOT), *sys.version_info[:2]))
        if subprocess.call([sys.executable, "-m", "venv", venv]) != 0:
            return refuse(
                "This Python cannot create a virtual environment. On Debian or Ubuntu: apt install python3-venv"
            )
    say("Installing requirements/{}.txt (hashes checked) ...".format(wanted))
    pip = [python, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-input"]
    locked = [*pip, "--require-hashes", "--only-binary", ":all:", "-r", os.path.join(ROOT, lock(wanted))]
    build = [*pip, "--no-build-isolation", "--no-deps"]
    source = [*build, "--require-hashes", "-r", os.path.join(ROOT, lock("source"))]
    project = [*build, "--no-index", "--editable", ROOT]
    for step in (locked, source, project):
        if subprocess.call(step, cwd=ROOT) != 0:
            return refuse("The installation stopped; what pip said is above. Nothing was marked as done: run it again.")
    with open(stamp(venv, wanted), "w") as file:
        file.write(digest)
    return 0


def is_current(venv, wanted):
    # type: (str, str) -> bool
    """Is this set, or a larger one that contains it, already installed from the present lock?"""
    candidates = [wanted] + [larger for larger, smaller in CONTAINS.items() if wanted in smaller]
    for candidate in candidates:
        try:
            with open(stamp(venv, candidate)) as file:
                if file.read() == digest_of(candidate):
                    return True
        except OSError:
            continue
    return False


def lock(wanted):
    # type: (str) -> str
    return os.path.join("requirements", wanted + ".txt")


def stamp(venv, wanted):
    # type: (str, str) -> str
    return os.path.join(venv, ".lgsp-{}".format(wanted))


def digest_of(wanted):
    # type: (str, str) -> str
    """Changes with the lock, the project's own metadata, this file and the place of the clone."""
    state = hashlib.sha256(ROOT.encode())
    for name in (
        lock(wanted),
        lock("source"),
        "pyproject.toml",
        os.path.join("tools", "environment.py"),
    ):
        with open(os.path.join(ROOT, name), "rb") as file:
            state.update(file.read())
    return state.hexdigest()


def say(text):
    # type: (str) -> None
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def refuse(text):
    # type: (str) -> int
    say("lgsp-bus: " + text)
    return 1


if __name__ == "__main__":
    sys.exit(main(os.path.abspath(sys.argv[1]), sys.argv[2]))
