"""``lgsp key``: keys of members, the bus's own ring, and the sandbox's authority."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import click
from rich.table import Table

from bus.cli import REFUSED, Session, fail
from bus.cli.members import MEMBER_KEY_DAYS
from bus.cli.terminal import console, local, print_json, session_of
from schemas.identifiers import SystemCode
from schemas.moment import to_wire, utc_now
from security.certificates import CertificateFacts, SandboxAuthority, read_certificate
from security.keys import Algorithm, KeyRing, SigningKey

_EXISTING = click.Path(exists=True, dir_okay=False, path_type=Path)
_NEW = click.Path(dir_okay=False, path_type=Path)
_FOLDER = click.Path(file_okay=False, path_type=Path)

password_option = click.option(
    "--password-file", type=_EXISTING, help="File whose first line is the key's password; else the key is unencrypted."
)


def read_password(path: Path | None) -> bytes | None:
    """The first line of a password file, or None. A password on the command line would be seen by every user."""
    if path is None:
        return None
    password = path.read_bytes().split(b"\n", 1)[0].rstrip(b"\r")
    if not password:
        fail("The password file's first line is empty.", REFUSED)
    return password


@click.group()
def key() -> None:
    """Signing keys and certificates: of members, of the bus itself, of the sandbox.

    \b
    A new member, from nothing to the registry:
      lgsp key create --system H99.15/mot-cua --out mot-cua.pem
      lgsp key certificate mot-cua.pem > mot-cua.crt
      lgsp registry apply so-mau.yaml          (the manifest names mot-cua.crt)
    """


@key.command()
@click.option("--system", required=True, help="Code of the system whose key it is, as in H99.15/mot-cua.")
@click.option("--out", required=True, type=_NEW, help="File to write, readable by you alone. Never overwritten.")
@click.option("--ps256", is_flag=True, help="An RSA key of 3072 bits instead of P-256, for partners that need one.")
@click.option("--days", default=MEMBER_KEY_DAYS, show_default=True, type=click.IntRange(1, 3650))
@password_option
def create(system: str, out: Path, ps256: bool, days: int, password_file: Path | None) -> None:
    """Make a key with a self-signed certificate for a member's system.

    The file stays with the member; the bus gets only the certificate (`lgsp key certificate`).
    """
    code, password = SystemCode(system), read_password(password_file)
    if out.exists():
        _refuse_to_overwrite()
    made = SigningKey.generate("PS256" if ps256 else "ES256", name=code, days=days)
    made.save(out, password=password)
    click.echo(f"key {made.key_id} ({made.algorithm}) for {code} is in {out}")


@key.command()
@click.argument("file", type=_EXISTING)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@password_option
def show(file: Path, as_json: bool, password_file: Path | None) -> None:
    """What a key or certificate FILE is: its names, algorithm and dates. The private key is never shown."""
    facts = _certificate_in(file, password_file)
    found = {
        "kid": facts.key_id,
        "thumbprint": facts.thumbprint,
        "algorithm": facts.algorithm,
        "subject": facts.subject,
        "issuer": facts.issuer,
        "not_before": to_wire(facts.not_before),
        "not_after": to_wire(facts.not_after),
    }
    if as_json:
        print_json(found)
        return
    left = (facts.not_after - utc_now()).days
    found |= {"not_before": local(facts.not_before), "not_after": f"{local(facts.not_after)} ({left} days left)"}
    for name, value in found.items():
        click.echo(f"{name:<11} {value}")


@key.command()
@click.argument("file", type=_EXISTING)
@password_option
def certificate(file: Path, password_file: Path | None) -> None:
    """Print the certificate of a key FILE as PEM: what the registry wants to have of a member."""
    click.echo(_certificate_in(file, password_file).pem, nl=False)


@key.command("list")
@click.option("--json", "as_json", is_flag=True, help="The public keys as a JWK Set.")
@click.pass_context
def list_(context: click.Context, as_json: bool) -> None:
    """The bus's own keys: which signs now, until when each counts."""
    ring = _ring(session_of(context))
    if as_json:
        print_json(ring.public_jwks())
        return
    table = Table("kid", "algorithm", "from", "until", "state")
    for jwk in ring.public_jwks()["keys"]:
        record = ring.find_key(jwk["kid"])
        if record is None:
            continue
        state = "verifies" if record.not_after > utc_now() else "ended"
        if record.revoked_at:
            state = "revoked"
        if record.key_id == ring.current.key_id:
            state = "signs"
        table.add_row(record.key_id, record.algorithm, local(record.not_before), local(record.not_after), state)
    console().print(table)


@key.command()
@click.option("--ps256", is_flag=True, help="Make an RSA key of 3072 bits.")
@click.confirmation_option(prompt="Let a new key sign for the bus from now on?")
@click.pass_context
def rotate(context: click.Context, ps256: bool) -> None:
    """Make a new key for the bus. Old ones still verify what they signed; running processes follow within seconds.

    Hand the new key to members that pinned the old one (`lgsp key list --json`) and publish the trust file again
    (`lgsp evidence trust`).
    """
    algorithm: Algorithm = "PS256" if ps256 else "ES256"
    made = _ring(session_of(context)).rotate(now=utc_now(), algorithm=algorithm)
    click.echo(f"key {made.key_id} ({made.algorithm}) signs from now on")


@key.command("operator-token")
@click.pass_context
def operator_token(context: click.Context) -> None:
    """Print a bearer token of the bus's own system, for calls that only an operator may make. It lasts ten minutes.

    \b
    Example:
      curl -H "Authorization: Bearer $(lgsp key operator-token)" http://127.0.0.1:8080/v1/registry/agencies
    """
    from security.tokens import TokenAuthority

    settings = session_of(context).settings
    tokens = TokenAuthority(_ring(session_of(context)), settings.public_url)
    click.echo(tokens.issue(SystemCode(settings.system), now=utc_now()))


@key.command()
@click.option("--out", required=True, type=_NEW, help="File to write, readable by you alone. Never overwritten.")
@password_option
def backup(out: Path, password_file: Path | None) -> None:
    """Make a backup key, and print its public half: backups sealed for it open with OUT alone.

    Make it on a machine that is not the bus, and keep OUT where a fire that takes the bus does not take it too: without
    it the backups open for nobody.

    \b
    Example:
      lgsp key backup --out backup.key > backup.pub
      lgsp backup --out lgsp.backup --recipient backup.pub
    """
    from security.sealed_stream import BackupKey

    made = BackupKey.generate()
    try:
        made.save(out, password=read_password(password_file))
    except FileExistsError:
        _refuse_to_overwrite()
    click.echo(str(made.recipient))
    click.echo(f"the key that opens backups is in {out}: keep two copies, neither of them on the bus", err=True)


@key.group()
def ca() -> None:
    """The sandbox's certificate authority. Its key lies unencrypted on disk: for trials, never in earnest."""


@ca.command("create")
@click.option("--out", "folder", required=True, type=_FOLDER, help="Folder of the authority.")
@click.option("--name", default="LGSP sandbox authority", show_default=True)
def create_ca(folder: Path, name: str) -> None:
    """Make an authority: authority.pem to hand out, authority.key to keep."""
    try:
        SandboxAuthority.create(folder, name)
    except FileExistsError:
        _refuse_to_overwrite()
    click.echo(f"authority in {folder}; hand out {folder / 'authority.pem'}")


@ca.command()
@click.option("--ca", "folder", required=True, type=_FOLDER, help="Folder of the authority.")
@click.option("--system", required=True, help="Code of the system, as in H99.15/mot-cua.")
@click.option("--out", required=True, type=_NEW, help="File for key and certificate, readable by you alone.")
@click.option("--ps256", is_flag=True, help="An RSA key of 3072 bits.")
@click.option("--days", default=365, show_default=True, type=click.IntRange(1, 3650))
@password_option
def issue(folder: Path, system: str, out: Path, ps256: bool, days: int, password_file: Path | None) -> None:
    """Make a key for a system with a certificate from the authority."""
    code, password = SystemCode(system), read_password(password_file)
    if out.exists():
        _refuse_to_overwrite()
    try:
        authority = SandboxAuthority(folder)
    except FileNotFoundError:
        fail(f"There is no authority in {folder}. Make one: lgsp key ca create --out {folder}")
    made = authority.issue_key(code, algorithm="PS256" if ps256 else "ES256", days=days)
    made.save(out, password=password)
    click.echo(f"key {made.key_id} ({made.algorithm}) for {code} is in {out}")


def _refuse_to_overwrite() -> NoReturn:
    fail("A file of that name is there already, and keys are never overwritten. Choose another name.", REFUSED)


def _ring(session: Session) -> KeyRing:
    settings = session.settings
    try:
        return KeyRing(settings.ring_folder, SystemCode(settings.system))
    except FileNotFoundError:
        fail(f"There is no bus in {settings.home} yet. Run `lgsp init` first, or name its folder with --home.")


def _certificate_in(file: Path, password_file: Path | None) -> CertificateFacts:
    """The certificate in a key file (PEM, PKCS#12) or certificate file. Raises Malformed."""
    data = file.read_bytes()
    if b"PRIVATE KEY-----" in data or not data.lstrip().startswith(b"-----BEGIN"):
        pem = SigningKey.load(file, password=read_password(password_file)).certificate_pem
        if not pem:
            fail("This key file holds no certificate. Keep key and certificate in one file.", REFUSED)
        return read_certificate(pem)
    return read_certificate(data.decode("ascii", "replace"))
