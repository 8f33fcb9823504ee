"""One file for each way to run a convolution or a pooling; siblings never import each other."""
