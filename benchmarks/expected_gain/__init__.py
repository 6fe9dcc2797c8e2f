"""Whether the gain that a search is expected to make is the one that comes."""

import benchmarks.search_quality  # noqa: F401  one thread each, before numpy is loaded
