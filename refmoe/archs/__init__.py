"""One file per architecture, named after `model_type`: dims, tensors, blocks of steps, the kind of each layer."""
