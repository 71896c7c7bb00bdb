"""One paper, one file; ``codesign.algorithms.registry`` lists them."""
