"""DCGANs: their architectures, the networks, files of their weights, and images from a generator."""
