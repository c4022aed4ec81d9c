"""What a process knows when it sends or decides: the messages it was given, read from the ledger when they are needed.

::

    {
      "fee":   {…},                      the message that the step "fee" took, or the answer that the step got
      "paid":  {…},
      "process": {"id": "0193…", "definition": "payment-and-post", "dossier": "H99.15-260423-0001",
                  "senders": {"fee": "H99.15", "paid": "G99.21"}}
    }

Nothing is copied: the state of a process names exchanges only, so personal data stays in one place and goes when a
body is erased (its step is then missing here). A step that was passed several times is known by its last message.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bus.processes.journal import Claimed, Journal, Learnt, read_fact


class Facts:
    """The facts of one process in one turn. Not safe under threads."""

    def __init__(self, journal: Journal, claimed: Claimed, seen: Mapping[str, int], answered: frozenset[str]) -> None:
        """``seen``: step → exchange; ``answered``: those of them where the answer to the exchange is meant."""
        self._journal = journal
        self._claimed = claimed
        self._seen = dict(seen)
        self._answered = set(answered)
        self._read: dict[str, Any] | None = None

    def learn(self, step: str, exchange_id: int, *, answered: bool = False) -> None:
        self._seen[step] = exchange_id
        (self._answered.add if answered else self._answered.discard)(step)
        self._read = None

    @property
    def seen(self) -> dict[str, int]:
        return dict(self._seen)

    @property
    def answered(self) -> list[str]:
        return sorted(self._answered)

    def __call__(self) -> dict[str, Any]:
        """The whole document; each caller may change what it gets at the top."""
        if self._read is None:
            self._read = self._document()
        return dict(self._read)

    def _document(self) -> dict[str, Any]:
        learnt = self._journal.learnt_from(self._seen.values())
        document: dict[str, Any] = {}
        senders: dict[str, str] = {}
        for step, exchange_id in self._seen.items():
            one = learnt[exchange_id]
            senders[step] = one.sender
            document[step] = _value(one, answer=step in self._answered)
        document["process"] = {
            "id": self._claimed.id,
            "definition": self._claimed.definition,
            "dossier": self._claimed.dossier,
            "senders": senders,
        }
        return document


def _value(one: Learnt, *, answer: bool) -> Any:
    return read_fact(one.reply if answer else one.body)
