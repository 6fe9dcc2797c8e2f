"""Real searches that begin with the prior and probes, beside those that begin with nothing, in the same time."""
