"""Lots: what is open, which lot a sale takes from, and what that earned.

An owner is one strategy's holding of one symbol in one account (`Owners` numbers them). A change of a holding first
closes lots of the other side, in the order of the method, and opens a lot with what is left. The cost of a lot is what
was paid for it, fees included; closing a part takes its share of the cost, rounded down, and the last part takes the
rest, so costs, proceeds and gains always add up to what was paid.

Numbers are whole units (`exact`): 1e-9 shares, 1e-18 of the currency. Short lots have negative units and negative cost.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ledger_pipeline.attribution.exact import apportion, share
from ledger_pipeline.core.errors import InputError

METHODS = ("FIFO", "LIFO", "HIFO", "SPECIFIC")
Chosen = Mapping[int, Sequence[tuple[int, int]]]  # row that sells -> (row that opened the lot, units)


@dataclass
class Owners:
    """Numbers for owners: `of(group, strategy)`, where a group is one symbol of one account, by number."""

    strategies: list[str] = field(default_factory=list)  # by owner
    groups: list[int] = field(default_factory=list)  # by owner
    _known: dict[tuple[int, str], int] = field(default_factory=dict)
    _members: dict[int, list[int]] = field(default_factory=dict)

    def of(self, group: int, strategy: str) -> int:
        """The owner's number, a new one when it is met first."""
        owner = self._known.get((group, strategy))
        if owner is None:
            owner = self._known[group, strategy] = len(self.groups)
            self.groups.append(group)
            self.strategies.append(strategy)
            members = self._members.setdefault(group, [])
            members.append(owner)
            members.sort(key=self.strategies.__getitem__)
        return owner

    def members(self, group: int) -> list[int]:
        """The owners of a group, in the order of their names."""
        return self._members.get(group, [])


class Lot:
    """One lot of an owner: the row of the entry that opened it, units opened then and left now (signed), the cost of
    what is left, its income, and the row of the entry that closed it (-1 while it is open).
    """

    __slots__ = ("number", "owner", "row", "opened", "left", "cost", "earned", "closed")

    def __init__(self, number: int, owner: int, row: int, opened: int, cost: int) -> None:
        self.number, self.owner, self.row = number, owner, row
        self.opened = self.left = opened
        self.cost, self.earned, self.closed = cost, 0, -1


class Lots:
    """The lots of all owners, who are known beforehand, and the matches that closed parts of them. `move` and `restate`
    change them, nothing else does.

    lots: in the order they were opened. held: units, signed, by owner. matches: (number of the lot, row, units, signed
    as the lot, cost, net, trip), where net is what the closing part paid (-) or got (+). trips: [owner, first row, last
    row or -1] of each round trip from flat to flat.
    """

    def __init__(self, owners: Owners, method: str, chosen: Chosen | None = None) -> None:
        if method not in METHODS:
            raise InputError(f"{method!r} is no way to match lots; choose one of {', '.join(METHODS)}.")
        self._owners = owners
        self._method = method
        self._chosen = chosen or {}
        self.lots: list[Lot] = []
        self.held = [0] * len(owners.groups)
        self.matches: list[tuple[int, int, int, int, int, int]] = []
        self.trips: list[list[int]] = []
        self._trip = [-1] * len(owners.groups)  # by owner, -1 while flat
        # By owner, a heap of (rank, number); lots that are closed leave it late.
        self._queues: list[list[tuple[int, int]]] = [[] for _ in owners.groups]
        self._by_age: dict[int, deque[Lot]] = {}  # by group, the lots of all its owners

    def move(self, owner: int, row: int, change: int, net: int) -> None:
        """Change a holding by `change` units for which the account paid (net < 0) or got (net > 0) so much."""
        queue, lots = self._queues[owner], self.lots
        self.held[owner] += change
        if self._chosen and row in self._chosen:
            change, net = self._take_chosen(owner, row, change, net)
        while change and queue:
            lot = lots[queue[0][1]]
            if not lot.left:
                heapq.heappop(queue)
                continue
            if (lot.left > 0) == (change > 0):
                break
            change, net = self._take(lot, row, change, net)
        if change:
            self._open(owner, row, change, net)
        elif not self.held[owner] and self._trip[owner] >= 0:
            self.trips[self._trip[owner]][2] = row
            self._trip[owner] = -1

    def open_lots(self, owner: int) -> list[Lot]:
        """The lots of an owner that are open, oldest first."""
        return [self.lots[number] for number in sorted(one for _, one in self._queues[owner]) if self.lots[number].left]

    def oldest(self, group: int) -> Iterator[Lot]:
        """The lots of a group that are open, of all its owners, oldest first."""
        lots = self._by_age.get(group, deque())
        while lots and not lots[0].left:
            lots.popleft()
        return (lot for lot in lots if lot.left)

    def restate(self, owners: Sequence[int], row: int, change: int) -> list[tuple[int, int]]:
        """Scale the open lots of owners by a split that changes their sum by `change`; each owner's own change.

        Costs stay. The sum before and after must have the same sign. Long and short holdings are scaled alike; the
        change is shared out by largest remainder, as a book does it, and inside an owner by rounding the running
        total, so that no lot is off by a unit.
        """
        longs = [owner for owner in owners if self.held[owner] > 0]
        shorts = [owner for owner in owners if self.held[owner] < 0]
        bought, sold = (abs(sum(self.held[owner] for owner in side)) for side in (longs, shorts))
        total = bought - sold
        if total > 0:
            sold_then = sold * (total + change) // total
            bought_then = total + change + sold_then
        else:
            bought_then = bought * (total + change) // total
            sold_then = bought_then - total - change
        moved = []
        for side, now, then, sign in ((longs, bought, bought_then, 1), (shorts, sold, sold_then, -1)):
            if not side:
                continue
            parts = apportion(abs(then - now), [abs(self.held[owner]) for owner in side])
            for owner, part in zip(side, parts, strict=True):
                delta = sign * (part if then > now else -part)
                if not self.held[owner] + delta:
                    self.move(owner, row, delta, 0)
                elif delta:
                    self._scale(owner, self.held[owner] + delta)
                moved.append((owner, delta))
        return moved

    def _take(self, lot: Lot, row: int, change: int, net: int) -> tuple[int, int]:
        """Close as much of a lot as `change`, of the other side, can; what is left of the change and its money."""
        held = lot.left
        if held + change and (held + change > 0) != (held > 0):  # all of the lot, a part of the change
            taken, cost = held, lot.cost
            got = net * -taken // change
        else:
            taken, got = -change, net
            cost = lot.cost * taken // held
        lot.cost -= cost
        lot.left = held - taken
        if held == taken:
            lot.closed = row
        self.matches.append((lot.number, row, taken, cost, got, self._trip[lot.owner]))
        return change + taken, net - got

    def _take_chosen(self, owner: int, row: int, change: int, net: int) -> tuple[int, int]:
        """Close the lots that were chosen for this entry; what is not chosen goes by FIFO."""
        for opened_by, quantity in self._chosen[row]:
            lots = [lot for lot in self.open_lots(owner) if lot.row == opened_by]
            if not lots or (lots[0].left > 0) == (change > 0) or not 0 < quantity <= abs(lots[0].left):
                raise InputError("a lot that was chosen for a sale is not open then, or is too small for it.")
            if quantity > abs(change):
                raise InputError("more was chosen of the lots for a sale than it sold.")
            part = quantity if change > 0 else -quantity
            paid = share(net, part, change)
            self._take(lots[0], row, part, paid)
            change, net = change - part, net - paid
        return change, net

    def _open(self, owner: int, row: int, change: int, net: int) -> None:
        lot = Lot(len(self.lots), owner, row, change, -net)
        self.lots.append(lot)
        heapq.heappush(self._queues[owner], (self._rank(lot), lot.number))
        group = self._owners.groups[owner]
        if group not in self._by_age:
            self._by_age[group] = deque()
        self._by_age[group].append(lot)
        trip = self._trip[owner]
        if trip >= 0 and self.held[owner] == change:  # it went through zero: one trip ends and another begins
            self.trips[trip][2] = row
            trip = -1
        if trip < 0:
            self._trip[owner] = len(self.trips)
            self.trips.append([owner, row, -1])

    def _rank(self, lot: Lot) -> int:
        """The lots of the lowest rank are closed first, the older of two with the same."""
        if self._method == "LIFO":
            return -lot.number
        if self._method == "HIFO":
            return -(abs(lot.cost) // abs(lot.left))  # cost of a share, to 1e-9
        return lot.number

    def _scale(self, owner: int, total: int) -> None:
        """Make the open lots of an owner add up to `total`, of the same sign as now and not zero, at the same cost. One
        that comes to nothing leaves its cost to a neighbour.
        """
        before = self.held[owner]
        done = reached = cost = 0
        kept: list[Lot] = []
        for lot in self.open_lots(owner):
            done += lot.left
            upto = total * done // before
            cost += lot.cost
            lot.left, lot.cost = upto - reached, 0
            if lot.left:
                lot.cost, cost = cost, 0
                kept.append(lot)
            reached = upto
        kept[-1].cost += cost
        self.held[owner] = total
        self._queues[owner] = [(self._rank(lot), lot.number) for lot in kept]
        heapq.heapify(self._queues[owner])
