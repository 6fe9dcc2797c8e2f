"""tuner: finds the best image classifier for a data set, and gives an honest account of how."""

__version__ = "0.1.0"
