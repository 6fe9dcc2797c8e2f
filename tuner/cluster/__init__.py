"""Ray, on this machine or many: sessions, tokens, nodes, slots, what processes share.

It knows nothing of trials.
"""
