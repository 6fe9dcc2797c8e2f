"""Everything that a run says, from its record alone: console, tables, page, leaderboard, files for other programs.

It never imports Ray, TensorFlow or Keras.
"""
