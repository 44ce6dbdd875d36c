"""NautilusTrader: events through a message bus, one bar and one quote an instrument and day.

Its bar execution fills a market order at the close of the bar that triggered it. To fill at the next open instead, bars
do not execute (`bar_execution=False`); each open is a quote, and the order that was decided at the close is sent when
that quote arrives, twice the events. Timed: `engine.run`. Loading and sorting the data is setup, and heavy. Logging and
the risk engine are off.
"""

from __future__ import annotations

import pandas as pd
from measure import Engine, Job
from nautilus_trader.backtest.engine import BacktestEngine, BacktestEngineConfig
from nautilus_trader.config import LoggingConfig, RiskEngineConfig
from nautilus_trader.indicators import SimpleMovingAverage
from nautilus_trader.model.currencies import USD
from nautilus_trader.model.data import BarType
from nautilus_trader.model.enums import AccountType, OmsType, OrderSide
from nautilus_trader.model.identifiers import InstrumentId, Symbol, Venue
from nautilus_trader.model.instruments import Equity
from nautilus_trader.model.objects import Money, Price, Quantity
from nautilus_trader.persistence.wranglers import BarDataWrangler, QuoteTickDataWrangler
from nautilus_trader.trading.strategy import Strategy
from workloads import FIRST_DAY, QUANTITY, WINDOW, names

VENUE = Venue("SIM")
OPENS, CLOSES = pd.Timedelta(hours=9, minutes=30), pd.Timedelta(hours=16)


class LongFlat(Strategy):
    def __init__(self, instruments):
        super().__init__()
        self.bar_types = [BarType.from_str(f"{instrument.id}-1-DAY-LAST-EXTERNAL") for instrument in instruments]
        self.sma = {bar_type: SimpleMovingAverage(WINDOW) for bar_type in self.bar_types}
        self.held = {instrument.id: 0 for instrument in instruments}
        self.target = dict(self.held)
        self.fills = 0

    def on_start(self):
        for bar_type in self.bar_types:
            self.subscribe_bars(bar_type)
            self.subscribe_quote_ticks(bar_type.instrument_id)

    def on_bar(self, bar):
        sma, close = self.sma[bar.bar_type], bar.close.as_double()
        sma.update_raw(close)
        self.target[bar.bar_type.instrument_id] = QUANTITY if sma.initialized and close > sma.value else 0

    def on_quote_tick(self, tick):
        change = self.target[tick.instrument_id] - self.held[tick.instrument_id]
        if change:
            side = OrderSide.BUY if change > 0 else OrderSide.SELL
            self.submit_order(self.order_factory.market(tick.instrument_id, side, Quantity.from_int(abs(change))))

    def on_order_filled(self, event):
        self.held[event.instrument_id] += QUANTITY if event.is_buy else -QUANTITY
        self.fills += 1


def prepare(job: Job):
    quiet = BacktestEngineConfig(
        logging=LoggingConfig(bypass_logging=True), risk_engine=RiskEngineConfig(bypass=True), run_analysis=False
    )
    engine = BacktestEngine(config=quiet)
    cash = [Money(job.workload.cash, USD)]
    engine.add_venue(VENUE, OmsType.NETTING, AccountType.CASH, cash, base_currency=USD, bar_execution=False)
    columns = {name: job.array(name) for name in ("open", "high", "low", "close", "volume")}
    index = pd.date_range(FIRST_DAY, periods=job.workload.bars, tz="UTC")
    instruments = [equity(symbol) for symbol in names(job.workload.instruments)]
    strategy = LongFlat(instruments)
    bars, quotes = [], []
    for i, (instrument, bar_type) in enumerate(zip(instruments, strategy.bar_types, strict=True)):
        engine.add_instrument(instrument)
        day = pd.DataFrame({name: values[:, i] for name, values in columns.items()}, index=index + CLOSES)
        price = columns["open"][:, i]
        open_ = pd.DataFrame({"bid_price": price, "ask_price": price}, index=index + OPENS)
        bars += BarDataWrangler(bar_type, instrument).process(day)
        quotes += QuoteTickDataWrangler(instrument).process(open_)
    # Each call of add_data goes through all the data that is there already, so the two types go in one call each; the
    # second one sorts both by time (`sort_data` cannot: it compares the events themselves, which have no order).
    engine.add_data(bars, sort=False)
    engine.add_data(quotes, sort=True)
    engine.add_strategy(strategy)
    return engine, strategy


def equity(symbol: str) -> Equity:
    return Equity(
        instrument_id=InstrumentId(Symbol(symbol), VENUE),
        raw_symbol=Symbol(symbol),
        currency=USD,
        price_precision=2,
        price_increment=Price.from_str("0.01"),
        lot_size=Quantity.from_int(1),
        ts_event=0,
        ts_init=0,
    )


def run(state):
    engine, strategy = state
    engine.run()
    return engine, strategy


def outcome(result, job: Job):
    engine, strategy = result
    cash = engine.portfolio.account(VENUE).balance_total(USD).as_double()
    held = list(strategy.held.values())
    return cash + float(job.array("close")[-1] @ held), strategy.fills


ENGINES = {"nautilus": Engine(prepare, run, outcome, warm_up=False)}
