"""Drawing pictures: the sampler, what is asked of each picture, its starting noise."""
