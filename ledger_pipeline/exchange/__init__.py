"""A local broker that speaks Alpaca's HTTP and WebSocket protocol, in its own process.

The unmodified alpaca-py clients (TradingClient, StockHistoricalDataClient, TradingStream) talk to it over loopback:

    python -m ledger_pipeline.exchange --state DIR --snapshot snapshots/demo --admin-port 0

It holds one account with market and limit orders over the prices of a sealed snapshot or of quotes. Its clock stands
still until the admin API moves it; sessions, early closes and holidays are those of the exchange calendar. It is seeded
and deterministic, and everything it does is committed before the reply leaves. `behaviours` says which of its ways are
documented by Alpaca, observed by others, or assumed.
"""
