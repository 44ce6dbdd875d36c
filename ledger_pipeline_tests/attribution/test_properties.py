"""What must hold for any entries: however they arrive, and whatever the rules."""

from __future__ import annotations

from collections import defaultdict, deque
from decimal import Decimal
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from ledger_pipeline.attribution.attribute import UNTAGGED, attribute
from ledger_pipeline.attribution.entries import joined, table_of
from ledger_pipeline.attribution.performance import performance
from ledger_pipeline.attribution.symbol_report import differences
from ledger_pipeline_tests.attribution.hand import bust, buy, dividend, sell, split

SYMBOLS = ("VTI", "BND")
QUANTITIES = st.integers(1, 3_000_000_000).map(lambda units: Decimal(units).scaleb(-9)) | st.integers(1, 30).map(
    Decimal
)
PRICES = st.integers(1, 50_000).map(lambda cents: Decimal(cents).scaleb(-2))
FEES = st.sampled_from([Decimal(0), Decimal("0.35"), Decimal("0.01")])


@st.composite
def histories(draw: st.DrawFn):
    """Entries of an account: tagged and untagged fills, busts, corrections, splits that fit the holding, dividends."""
    rows, fills, net = [], [], defaultdict(Decimal)
    for seq in range(1, draw(st.integers(1, 25)) + 1):
        symbol = draw(st.sampled_from(SYMBOLS))
        kind = draw(st.sampled_from(["buy", "buy", "sell", "sell", "split", "dividend", "bust"]))
        owner = draw(st.sampled_from(["A", "B", "C", None]))
        when = {"occurred_at": buy(draw(st.integers(0, 5)) + seq, 1, 1).occurred_at}
        if kind in ("buy", "sell"):
            make, quantity = (buy, sell)[kind == "sell"], draw(QUANTITIES)
            row = make(seq, quantity, draw(PRICES), owner, symbol=symbol, fees=draw(FEES), **when)
            net[symbol] += quantity if kind == "buy" else -quantity
            fills.append(row)
        elif kind == "split":
            row = split(seq, draw(st.sampled_from(["1", "-0.5", "7.123456789"])), owner, symbol=symbol, **when)
            net[symbol] += row.quantity if row.side == "BUY" else -row.quantity
        elif kind == "dividend":
            row = dividend(seq, draw(st.sampled_from(["1.01", "-0.33", "0.123"])), owner, symbol=symbol, **when)
        elif fills:
            fill = fills.pop(draw(st.integers(0, len(fills) - 1)))
            rows.append(bust(seq, fill, **when))
            change = fill.quantity if fill.side == "BUY" else -fill.quantity
            net[fill.symbol] -= change
            if not draw(st.booleans()):
                continue
            side = buy if fill.side == "BUY" else sell
            more = {
                "kind": "FILL_CORRECTED",
                "corrects": fill.fill_id,
                "fill_id": f"{fill.fill_id}-c",
                "event_id": f"b-{seq}c",
            }
            row = side(seq, fill.quantity, draw(PRICES), fill.strategy, symbol=fill.symbol, **more, **when)
            net[fill.symbol] += change
        else:
            continue
        rows.append(row)
    return rows, dict(net)


OPTIONS = st.fixed_dictionaries(
    {"untagged": st.sampled_from(UNTAGGED), "lots": st.sampled_from(["FIFO", "LIFO", "HIFO"]), "shorts": st.booleans()}
)


@settings(max_examples=50, deadline=None)
@given(histories(), OPTIONS)
def test_strategies_and_unattributed_add_up_to_the_account(history, options):
    rows, net = history
    found = attribute(rows, **options)
    assert differences(found, net) == ()


@settings(max_examples=50, deadline=None)
@given(histories(), OPTIONS, PRICES)
def test_gains_are_cash_and_marks(history, options, price):
    rows, net = history
    found = attribute(rows, **options)
    (total,) = performance(found, {symbol: price for symbol in SYMBOLS}, by="all")
    gone = {row.reverses for row in rows}
    fills = [row for row in rows if row.fill_id and row.fill_id not in gone]
    cash = sum((-1 if row.side == "BUY" else 1) * row.quantity * row.price for row in fills)
    fees = sum(row.fees for row in fills)
    assert total.realised + total.unrealised == cash + sum(net.values()) * price - fees
    by_strategy = performance(found, {symbol: price for symbol in SYMBOLS})
    assert sum(one.realised for one in by_strategy) == total.realised == total.short_term + total.long_term
    assert sum(one.total for one in by_strategy) == total.total
    assert sum(one.fees for one in by_strategy) == fees
    assert total.income == sum(row.cash for row in rows if row.kind == "DIVIDEND")


@settings(max_examples=30, deadline=None)
@given(histories(), OPTIONS, st.randoms(use_true_random=False))
def test_entries_in_any_parts_and_order_give_the_same_bytes(history, options, random):
    rows, _ = history
    whole = attribute(rows, **options)
    cut = random.randint(0, len(rows))
    while any(row.reverses or row.corrects for row in rows[:cut]) and cut < len(rows):
        cut += 1
    shuffled = [*rows[cut:], *(random.choices(rows, k=2) if rows else ())]
    random.shuffle(shuffled)
    in_parts = attribute(rows[:cut], **options).extended(shuffled)
    assert in_parts.digest == whole.digest
    assert in_parts.lots.equals(whole.lots) and in_parts.matches.equals(whole.matches)
    assert joined(table_of(shuffled), table_of(rows)).equals(joined(table_of(rows)))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(1, 9), st.integers(1, 99), st.sampled_from("AB")), max_size=30))
def test_share_by_share_gives_the_same(trades):
    """Against a queue of single shares."""
    queues, gains, over = defaultdict(deque), defaultdict(Fraction), 0
    rows = []
    for seq, (buying, quantity, price, owner) in enumerate(trades):
        rows.append((buy if buying else sell)(seq, quantity, price, owner, fees=1))
        for _ in range(quantity):
            if buying:
                queues[owner].append(price + Fraction(1, quantity))
            elif queues[owner]:
                gains[owner] += price - Fraction(1, quantity) - queues[owner].popleft()
            else:
                over += 1
    found = attribute(rows)
    for one in performance(found):
        if one.strategy == "UNATTRIBUTED":
            assert one.open_quantity == -over
        else:
            assert one.open_quantity == len(queues[one.strategy])
            assert abs(Fraction(one.realised) - gains[one.strategy]) < Fraction(len(rows), 10**15)


@settings(max_examples=25, deadline=None)
@given(histories())
def test_methods_move_gains_between_sales_and_never_change_holdings(history):
    rows, _ = history
    owners = []
    for method in ("FIFO", "LIFO", "HIFO"):
        found = attribute(rows, lots=method)
        owners.append(
            {(one.strategy, one.symbol): one.open_quantity for one in performance(found, by="strategy_symbol")}
        )
    assert owners[0] == owners[1] == owners[2]
