"""Pictures: hard views and searched augmentations, against the plain methods."""
