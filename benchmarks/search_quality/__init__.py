"""How much a search finds with a budget: samplers and schedulers in simulated time."""
