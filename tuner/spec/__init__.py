"""The search-space file: its text with lines, its schema, the space in it, and all its problems at once.

It knows nothing of data, networks or searches: `load_spec` gives values.
"""
