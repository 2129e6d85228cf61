"""The gallery: a small world of pictures that real artists drew, and the weights made from them."""
