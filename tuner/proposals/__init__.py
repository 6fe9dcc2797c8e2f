"""Proposals: a search-space file for data that were looked at, for the machine at hand and the time that is given.

What is proposed follows from facts alone (`_proposal`); `making` finds the facts and writes the file.
"""
