"""Images and their labels: sources by name, decoding, the prepared copy of a machine, splits and staged copies.

It never trains, and gives the test split to no one but those who judge finalists.
"""
