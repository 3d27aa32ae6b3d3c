"""Images: data sets, the user's own files, augmentation."""
