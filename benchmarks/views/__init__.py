"""What cached augmented views cost in accuracy and time, against fresh augmentation in every epoch."""
