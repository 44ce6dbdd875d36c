"""What the user writes: strategies, experiments, indicators; and what their source depends on.

context, targets   the contract: what a strategy is given, and what it returns
experiment         strategy + params + features + costs + risk + dates, and its hash
catalogue          the files under strategies/, loaded and checked
source             capturing a function's text, and reading it back
preflight          its tier; tiers/ has the rules, tiers/subset the allow-list of tier 1
terms              costs, risk and JSON values as an experiment writes them
"""
