"""The account of a data set."""
