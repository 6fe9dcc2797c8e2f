"""Trials and finalists as work of a cluster: actors, the bridge to the study, the recorder, what is lost or hangs.

It decides nothing about a search: `algorithms` does.
"""
