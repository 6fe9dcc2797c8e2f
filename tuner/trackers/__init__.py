"""Trackers: programs beside a search that show it while it runs: MLflow, TensorBoard, and those of installed packages.

They are told what the record says, behind the search, and never end or slow it. No Ray, TensorFlow or Keras.
"""
