"""Where reading cached activations is quicker than computing them: the measurement behind a rule."""
