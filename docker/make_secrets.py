#!/usr/bin/env python3
"""Make the secrets of a deployment, once: python3 docker/make_secrets.py FOLDER [--broker HOST ...] [--store HOST ...]

Writes passwords and what is made of them into FOLDER, one secret a file, and never over one that is there. Needs
nothing but Python. The certificates of the proxy are yours to bring: proxy.pem (certificate, chain and key) and
authority.pem.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import secrets
import sys
from pathlib import Path
from urllib.parse import quote


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Make the secrets of a deployment, once.")
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--broker", nargs="+", default=["mq1"], metavar="HOST", help="nodes of RabbitMQ: host or host:port"
    )
    parser.add_argument("--store", nargs="+", default=["db1"], metavar="HOST", help="PostgreSQL: host or host:port")
    asked = parser.parse_args(arguments)
    asked.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = [name for name, text in contents(asked.broker, asked.store).items() if write(asked.folder / name, text)]
    print(f"made: {', '.join(made)}" if made else "all were there")
    return 0


def contents(brokers: list[str], stores: list[str]) -> dict[str, str]:
    """Name of a file → what is in it."""
    broker_password, operator_password, store_password = (secrets.token_urlsafe(32) for _ in range(3))
    return {
        "broker-management": f"http://operator:{quote(operator_password)}@{brokers[0].partition(':')[0]}:15672",
        "broker-url": ",".join(
            f"amqp://lgsp:{quote(broker_password)}@{with_port(host, 5672)}/lgsp" for host in brokers
        ),
        "erlang-cookie": secrets.token_hex(32),
        "grafana-password": secrets.token_urlsafe(24),
        "postgres-admin-password": secrets.token_urlsafe(32),
        "postgres-password": store_password,
        "rabbitmq-definitions.json": json.dumps(definitions(broker_password, operator_password), indent=1),
        "replication-password": secrets.token_urlsafe(32),
        "store-url": store_url(store_password, stores),
    }


def store_url(password: str, hosts: list[str]) -> str:
    """With several hosts the one that may be written to is taken, whichever that is now (libpq)."""
    start = f"postgresql+psycopg://lgsp:{quote(password)}@"
    if len(hosts) == 1:
        return f"{start}{with_port(hosts[0], 5432)}/lgsp"
    several = "&".join(f"host={with_port(host, 5432)}" for host in hosts)
    return f"{start}/lgsp?{several}&target_session_attrs=read-write"


def with_port(host: str, port: int) -> str:
    return host if ":" in host else f"{host}:{port}"


def definitions(password: str, operator_password: str) -> dict[str, object]:
    """RabbitMQ's users and rights: the bus has its own virtual host and, in it, only what is called lgsp. The operator
    is who gives members users of their own (`lgsp broker`); its password is for no node."""
    own = r"^(lgsp\..*|amq\.default)?$"
    return {
        "users": [user("lgsp", password, []), user("operator", operator_password, ["administrator"])],
        "vhosts": [{"name": "lgsp"}],
        "permissions": [
            {"user": "lgsp", "vhost": "lgsp", "configure": own, "write": own, "read": own},
            {"user": "operator", "vhost": "lgsp", "configure": ".*", "write": ".*", "read": ".*"},
        ],
    }


def user(name: str, password: str, tags: list[str]) -> dict[str, object]:
    return {
        "name": name,
        "password_hash": password_hash(password, os.urandom(4)),
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": tags,
    }


def password_hash(password: str, salt: bytes) -> str:
    """As RabbitMQ keeps it: base64 of the salt and SHA-256 over salt and password."""
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode("ascii")


def write(path: Path, text: str) -> bool:
    """False when the file is there. The folder is its owner's alone; the files are readable inside of it, because a
    container's user is none of this machine's."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        os.fchmod(descriptor, 0o444)
        file.write(text)
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
