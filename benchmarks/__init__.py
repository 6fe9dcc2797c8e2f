"""Measurements that take longer than tests; LOG.md keeps what they gave."""
