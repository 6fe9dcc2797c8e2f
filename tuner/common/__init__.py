"""Helpers for every other room: the error tree, registries, seeds, metrics, intervals, files, locations, processes.

It imports no other room, and never a library that searches or trains.
"""
