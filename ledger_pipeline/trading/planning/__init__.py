"""What a policy decides.

policy schedule   what a policy is, and when it is due
plan planner      what it buys with which cash, and why
guardrails facts  what is never done, whatever was decided
"""
