"""Choice of the next configuration, and of the trials that go on: samplers, schedulers, the study, earlier studies.

Optuna is imported here and nowhere else; nothing here trains or touches a file.
"""
