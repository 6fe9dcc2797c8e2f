"""The door for other people's code: all that `import tuner` offers. Nothing it does is another way than the commands'.

Each module is loaded when one of its names is asked for (`tuner/__init__.py`).
"""
