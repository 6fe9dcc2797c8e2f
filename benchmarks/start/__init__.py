"""Where the seconds go from launch to the end of the first epoch: `python -m benchmarks.start`."""
