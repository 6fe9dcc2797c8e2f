"""Run directories: the record of events, the state that follows from it, checkpoints, copies.

It neither trains nor searches: reading a record needs none of their libraries.
"""
