"""Searches that are sent to a cluster: packing, submitting, following and fetching them.

Whoever follows one needs Ray's job client at most, and nothing that trains.
"""
