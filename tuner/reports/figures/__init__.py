"""The figures of a report, by name: first their data, then the drawing, and a text that says what is seen."""
