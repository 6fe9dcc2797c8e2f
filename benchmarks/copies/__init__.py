"""Which copies of images are found, and what else is held to be one: the measurement behind the thresholds."""
