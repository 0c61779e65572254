"""Files to pairs: the datasets, their images, and what is made and checked of them."""
