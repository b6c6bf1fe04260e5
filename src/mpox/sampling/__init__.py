"""Drawing pictures: the sampler, the plan of prompts, the starting noise, compilation."""
