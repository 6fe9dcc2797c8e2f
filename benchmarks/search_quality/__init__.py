"""How much a search finds with a budget: samplers and schedulers in simulated time."""

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # before numpy is loaded: searches run side by side, each on one thread
