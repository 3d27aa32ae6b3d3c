"""What configs say to the algorithms of this room: values alone, so that no config has to import JAX."""

FINETUNE = dict(  # finetune.py
    layer_decay=1.0,  # a layer's rate over that of the layer above it; 1 is off
    unfreeze_every=0,  # a duration: so long until the next lower layer begins to train; 0: all train at once
)
MAX_NORM = dict(  # max_norm.py
    limit=0.0,  # the L2 norm that no column of a bounded kernel exceeds; 0 is off
    match=r"head/kernel$",  # paths of the kernels [inputs, units]
)
