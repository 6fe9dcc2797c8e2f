"""What every other room may use: the error tree, registries, seeds, metrics, intervals, files and places, processes.

It imports no other room, and never a library that searches or trains.
"""
