"""What shrinking images in the graph takes: TensorFlow's operation against two products with matrices."""
