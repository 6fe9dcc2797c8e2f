"""Whether one line for images is as good as a space that is written by hand."""
