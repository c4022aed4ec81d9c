"""Upgrades with old and new nodes side by side: what may be done to the store now, and what comes next.

::

    tables of n ──expand──▶ tables of n+1, programs of n and n+1 work ──finish──▶ programs of n+1 work
                            (nodes are restarted, one after the other)

A migration that only expands (``expands = True``) is safe while the nodes before it run; what it leaves over for them
goes at the end (``contract()``), when none of them is alive. One that does not needs a bus that stands still. The roll
of nodes says who is alive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from bus.nodes import NodeRecord, NodeStore
from bus.store import OURS, Migrations, Revision, Store, StoreStanding, StoreUnfit, contract, migrate, standing_of

#: A node that was heard of within this time counts as alive, whatever a clock that is a little wrong says.
_HEARD_WITHIN = timedelta(seconds=60)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to do with the store now; ``refused`` says why nothing is done."""

    #: Take away what earlier programs needed, before anything else.
    contract_first: bool = False
    #: Bring the tables to the program's revision.
    expand: bool = False
    #: Take away what earlier programs needed, at the end.
    contract_last: bool = False
    refused: str = ""
    #: What the operator does next.
    next: str = ""
    #: The nodes that the text speaks of.
    nodes: Sequence[NodeRecord] = ()


def decide_upgrade(
    standing: StoreStanding, steps: Sequence[Revision], living: Sequence[NodeRecord], *, finish: bool
) -> Decision:
    """``steps``: those that the program knows. Changes nothing."""
    ours = standing.newest_revision
    if not standing.revision:
        return Decision(refused="There are no tables yet.", next="Run `lgsp init`.")
    if standing.revision > ours:
        return Decision(
            refused=f"The store is at {standing.revision}, and this program knows {ours} only.",
            next="Run the command of the newer version.",
        )
    unfinished = standing.works_with < standing.revision
    older = [node for node in living if node.revision < ours]
    if standing.revision == ours:
        return _at_the_end(older, unfinished=unfinished, finish=finish)
    if finish:
        return Decision(refused="The tables are not at this version yet.", next="Run `lgsp upgrade` first.")
    behind = [node for node in living if node.revision < standing.revision]
    if unfinished and behind:
        return Decision(
            refused="The upgrade before this one is not finished: nodes of two versions ago are alive.",
            next="Stop them or restart them with a newer version, then run `lgsp upgrade` again.",
            nodes=behind,
        )
    if all(step.expands for step in steps if step.id > standing.revision):
        return Decision(contract_first=unfinished, expand=True, next=_RESTART, nodes=older)
    if living:
        return Decision(
            refused="This version changes the tables in a way that older nodes cannot work with.",
            next="Stop all nodes, run `lgsp upgrade` again, and start the new version.",
            nodes=living,
        )
    return Decision(contract_first=unfinished, expand=True, next="Start the nodes of this version.")


_RESTART = "Restart the nodes one after the other with this version, then run `lgsp upgrade --finish`."


def _at_the_end(older: Sequence[NodeRecord], *, unfinished: bool, finish: bool) -> Decision:
    if not unfinished:
        return Decision(next="Nothing is to be done.")
    if not finish:
        return Decision(next=_RESTART if older else "Run `lgsp upgrade --finish`.", nodes=older)
    if older:
        return Decision(
            refused="Nodes of an older version are alive; what they need cannot go yet.",
            next="Restart them with this version, then run `lgsp upgrade --finish` again.",
            nodes=older,
        )
    return Decision(contract_last=True, next="The upgrade is finished.")


class Upgrade:
    """The upgrade of one store by this program."""

    def __init__(self, store: Store, migrations: Migrations = OURS) -> None:
        self._store = store
        self._migrations = migrations

    def living(self, now: datetime) -> list[NodeRecord]:
        """Who was heard of lately. A store from before the roll has none: nobody can tell."""
        nodes = NodeStore(self._store)
        return [node for node in nodes.look_if_any().nodes if abs(now - node.beat_at) < _HEARD_WITHIN]

    def decide(self, now: datetime, *, finish: bool) -> Decision:
        """What may be done now."""
        standing = standing_of(self._store, self._migrations)
        return decide_upgrade(standing, self._migrations.steps(), self.living(now), finish=finish)

    def carry_out(self, decision: Decision) -> None:
        """Do what was decided; every part is one transaction, and safe to repeat."""
        if decision.contract_first:
            contract(self._store, self._migrations)
        if decision.expand:
            migrate(self._store, migrations=self._migrations)
        if decision.contract_last:
            contract(self._store, self._migrations)

    def bring_up_to_date(self, now: datetime) -> None:
        """For a bus that stands still, or a new one: everything at once. Raises StoreUnfit when nodes are alive that
        cannot work with what would come; whether the upgrade is finished then is left to the operator."""
        if not standing_of(self._store, self._migrations).revision:
            migrate(self._store, migrations=self._migrations)
            return
        decision = self.decide(now, finish=False)
        if decision.refused:
            raise StoreUnfit(f"{decision.refused} {decision.next}")
        self.carry_out(decision)
        if not self.living(now):
            self.carry_out(self.decide(now, finish=True))
