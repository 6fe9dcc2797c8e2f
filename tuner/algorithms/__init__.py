"""Choice of the next configuration, and of the trials that go on: samplers, schedulers, the study, earlier studies.

Optuna is imported here and nowhere else; nothing here trains, and no file is touched but those of earlier studies.
"""
