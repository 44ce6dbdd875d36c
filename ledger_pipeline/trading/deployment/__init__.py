"""What trades by itself: policies and promoted strategies, each decided once a session.

deployment       which policy or promoted run trades which book, when, and within which guardrails
promote          a researched run becomes a deployment
owned            what one deployment owns of an account: its cash and its shares
live_bars        the bars of a session, sealed: what a strategy decides on
strategy         the promoted strategy evaluated on them
account          the account that a policy is planned with
decision         what was decided, as one event of the book, and its record
decision_replay  deciding it again from the record
session_work     one session of one deployment, from plan to orders
alerts           what a person should be told
"""
