"""What a long search takes of its machine over time."""
