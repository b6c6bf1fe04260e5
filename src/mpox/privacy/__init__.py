"""Whether the weights reveal whose photos they were trained on."""
