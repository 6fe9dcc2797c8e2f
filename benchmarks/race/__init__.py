"""The same search by tuner and by its peers, in the same time on the same machine: `python -m benchmarks.race`."""
