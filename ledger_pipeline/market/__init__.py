"""Prices and what they mean: bars, instruments, calendars, corporate actions, sealed snapshots, the grid.

sources/     where bars come from: files of vendors, the broker
bars         the tidy table, and the schemas of a snapshot's three tables
quality      what looks wrong in it, for a person to judge
raw          what a source gave, kept until it is sealed
snapshot     sealing, opening and verifying
calendars    sessions of an exchange; bar_length and timetable: how long bars are, and which session each belongs to
grid         time x instrument, as a run sees it; marks: what a holding is worth at each pulse
"""
