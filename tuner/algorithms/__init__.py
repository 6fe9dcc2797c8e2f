"""Which configuration next, and which trial goes on: samplers, schedulers, rungs, the study, earlier studies.

Optuna is imported here and nowhere else; nothing here trains or touches a file.
"""
