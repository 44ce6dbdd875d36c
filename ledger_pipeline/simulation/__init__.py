"""The simulator: an experiment on a snapshot becomes a ledger.

simulator          pulses -> targets -> risk -> orders -> fills, as events; kernel: its compiled part
costs, risk, scale, carry, deposits, currency   the steps of its semantics, one a module
run                a run, its identity and what follows from it; store: where runs are kept; listing: all of them
decide             one pulse alone, as live trading decides
replay, proof      the same run again, and in another process (prover)
"""
