"""Whether searches keep their time budgets."""
