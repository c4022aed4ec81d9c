"""A small mail server on loopback (RFC 5321, no TLS): takes letters, or refuses them."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage


@dataclass
class MailHouse:
    """What came in. ``refuse``: the answer to a recipient."""

    url: str = ""
    letters: list[EmailMessage] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    refuse: str = ""


@contextmanager
def mail_house() -> Iterator[MailHouse]:
    house = MailHouse()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self._say("220 loopback")
            while line := self.rfile.readline():
                word = line.decode("ascii", "replace").strip()
                house.commands.append(word)
                verb = word[:4].upper()
                if verb == "EHLO":
                    self._say("250-loopback\r\n250-AUTH PLAIN LOGIN\r\n250 8BITMIME")
                elif verb == "RCPT" and house.refuse:
                    self._say(house.refuse)
                elif verb == "DATA":
                    self._say("354 go on")
                    house.letters.append(self._letter())
                    self._say("250 taken")
                elif verb == "QUIT":
                    self._say("221 bye")
                    return
                elif verb in ("STAR", "AUTH"):
                    self._say("502 not here")
                else:
                    self._say("250 well")

        def _say(self, words: str) -> None:
            self.wfile.write(words.encode() + b"\r\n")

        def _letter(self) -> EmailMessage:
            lines = []
            while (line := self.rfile.readline()) not in (b".\r\n", b""):
                lines.append(line[1:] if line.startswith(b"..") else line)
            letter = message_from_bytes(b"".join(lines), policy=policy.default)
            assert isinstance(letter, EmailMessage)
            return letter

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        house.url = f"smtp://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield house
        finally:
            server.shutdown()
            thread.join()
