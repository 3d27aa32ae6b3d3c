"""Pictures with boxes: the readers of their formats, letterboxing, augmentation."""
