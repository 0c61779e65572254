"""What all else stands on: knows nothing of images, places or networks."""
