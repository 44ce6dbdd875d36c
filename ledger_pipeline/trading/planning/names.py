"""The names of the guardrails, in the order in which they are asked. Policies, checks and the graph read them here."""

GUARDRAILS = (
    "position_limit", "concentration", "daily_spend", "monthly_spend", "large_order", "order_count", "buying_power",
    "price_collar", "stale_price", "market_closed", "allow_list",
)  # fmt: skip
