"""Operations of augmentation on images and batches. Never reads a file, a text or a seed of its own."""
