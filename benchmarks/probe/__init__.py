"""What frozen features tell before anything is trained: `python -m benchmarks.probe`."""
