"""Networks and their inputs: architectures, backbones and their blocks, preprocessing, augmentation.

It speaks Keras; TensorFlow is named in `backend` and `data_parallel` alone.
"""
