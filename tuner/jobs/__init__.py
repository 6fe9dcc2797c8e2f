"""A search that is sent to a cluster: packed, submitted, followed, fetched.

Whoever follows one needs Ray's job client at most, and nothing that trains.
"""
