"""One configuration trained once, an epoch at a time, and the cache of what frozen layers give.

It never imports Ray or Optuna, and knows nothing of a search.
"""
