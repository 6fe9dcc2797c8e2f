"""What the tests of several rooms share: made-up records, data and files, wrong input, hosts, what a machine lacks."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The project's folder."""
