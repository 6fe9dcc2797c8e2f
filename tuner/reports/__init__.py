"""What a run says: tables, console, leaderboard, page, comparison and files for other programs, from its record alone.

It never imports Ray, TensorFlow or Keras.
"""
