"""``lgsp registry import --members``: a spreadsheet becomes members that can send at once."""

from __future__ import annotations

import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

import click

from bus.cli import FAILED, REFUSED
from registry.importing import Member, Proof
from registry.manifests import certificate_of
from registry.model import System
from schemas.identifiers import SystemCode
from security.keys import SigningKey, write_private_file
from security.tokens import hash_secret, new_secret

#: A year and a month: long enough to plan the next one, short enough that rotation is practised.
MEMBER_KEY_DAYS = 395


def file_name(system: SystemCode) -> str:
    return system.replace("/", "-")


@dataclass(frozen=True, slots=True, kw_only=True)
class Equipped:
    """Systems with their public halves, and how many secret halves were written for them."""

    systems: tuple[System, ...]
    keys: int
    secrets: int


def equip(members: Sequence[Member], folder: Path, bus_url: str) -> Equipped:
    """Give each member that has neither key nor secret what it asks for, as files of 0600 in ``folder`` (0700).

    A file that is there already is used and never written over: what an interrupted run made is not made again, and
    nothing that was handed out is rotated. Shows progress on standard error. Raises OSError.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    systems: list[System] = []
    made = dict.fromkeys(Proof, 0)
    with click.progressbar(members, label="keys and secrets", file=sys.stderr) as shown:
        for member in shown:
            system = member.system
            if not system.certificates and not system.client_secret_hash:
                system, new = _equipped(member, folder, bus_url)
                made[member.proof] += new
            systems.append(system)
    return Equipped(systems=tuple(systems), keys=made[Proof.KEY], secrets=made[Proof.SECRET])


def _equipped(member: Member, folder: Path, bus_url: str) -> tuple[System, bool]:
    system = member.system
    if member.proof is Proof.KEY:
        key, new = write_key(folder, system.code, bus_url)
        return replace(system, certificates=(certificate_of(key.certificate_pem),)), new
    secret, new = write_secret(folder, system.code)
    return replace(system, client_secret_hash=hash_secret(secret)), new


def write_key(folder: Path, system: SystemCode, bus_url: str) -> tuple[SigningKey, bool]:
    """The member's key, and whether it is new: key, certificate and profile (``lgsp send --profile``) in the folder."""
    path = folder / f"{file_name(system)}.pem"
    new = not path.exists()
    if new:
        SigningKey.generate(name=system, days=MEMBER_KEY_DAYS).save(path)
    key = SigningKey.load(path)
    path.with_suffix(".crt").write_text(key.certificate_pem, encoding="ascii")
    profile = f'bus = "{bus_url}"\nsystem = "{system}"\nkey = "{path.name}"\n'
    path.with_suffix(".toml").write_text(profile, encoding="ascii")
    return key, new


def write_secret(folder: Path, system: SystemCode) -> tuple[str, bool]:
    """The member's client secret, and whether it is new."""
    path = folder / f"{file_name(system)}.secret"
    if path.exists():
        return path.read_text("ascii"), False
    secret = new_secret()
    write_private_file(path, secret.encode("ascii"))
    return secret, True


def refuse_open_folder(folder: Path) -> None:
    """Exits with 2 when others may look into a folder that is to hold private keys."""
    if folder.exists() and stat.S_IMODE(folder.stat().st_mode) & 0o077:
        click.echo(f"Others can read {folder}, and private keys come into it. Run: chmod 700 {folder}", err=True)
        raise click.exceptions.Exit(REFUSED)


def refuse_unwritable(folder: Path, error: OSError) -> NoReturn:
    click.echo(f"The keys cannot be written to {folder}: {error.strerror}. Nothing was registered.", err=True)
    raise click.exceptions.Exit(FAILED)


def handed_out(equipped: Equipped, members: Sequence[Member], folder: Path) -> str:
    """The last line: what was made, and what to do with it."""
    before = len(members) - equipped.keys - equipped.secrets
    told = f"{len(members)} members: {equipped.keys} keys and {equipped.secrets} secrets made, {before} had theirs"
    if equipped.keys or equipped.secrets:
        told += f"\nHand each member its files out of {folder}, then delete the .pem and .secret files there."
    return told
