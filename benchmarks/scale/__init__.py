"""How a search grows: more slots, more trials. `python -m benchmarks.scale`."""
