"""How many images a second reach a model, from arrays and from encoded images, against the decoder's own loop."""
