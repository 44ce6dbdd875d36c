"""The compiled simulator: the same semantics as the interpreted one, equal to the bit, for a stated part of tier 1.

lowering reads a strategy's source and writes the same decision over rows of numbers; driver makes a module of it and of
the loop over bars, which numba compiles and keeps on disk; run is a Simulator that uses it, and check compares it with
the interpreter before its numbers count. What cannot be compiled runs interpreted, with the construct and its line.
"""
