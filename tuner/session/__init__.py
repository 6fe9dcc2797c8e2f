"""One session of a search, from a checked file to what it leaves behind.

It puts the other rooms together; what they do is in them.
"""
