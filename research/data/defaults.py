"""Defaults of configs' data options; plain values, so that configs need not import JAX."""

VOID = 255  # the label of a pixel of no class, as Pascal VOC and most data sets have it
IMAGES = {  # images/labelled.py
    "source": "digits",  # digits, usps, mnist, fashion_mnist, tfds:NAME, files, arrays, feedback
    "path": None,  # files: a folder a class or a CSV; arrays: a .npz or a folder of .npy; feedback: an exported set
    "size": None,  # files, tfds: pixels, or (Y, X)
    "channels": None,  # files, tfds: 1 or 3
    "classes": None,  # names or numbers of the classes to keep, in the order of their labels; None: all
    "data_dir": None,  # tfds: where it was prepared
    "valid_fraction": None,  # default 0.1, or the last 5,000 of MNIST's; 0 trains on all
    "test_fraction": None,  # files, arrays: default 0.1
}
CLIPS = {  # video/labelled.py
    "source": "digits_motion",  # or files
    "path": None,  # files: a folder for each class, of animated files and folders of frames
    "size": None,  # digits_motion: pixels of the canvas, 16; files: pixels, or (Y, X), that all are scaled to
    "channels": None,  # files: 1 or 3, by default 3
    "length": None,  # digits_motion: frames of a clip, by default 24
    "count": None,  # digits_motion: clips to train on, by default 2,000
    "valid_fraction": None,  # files: default 0.1
    "test_fraction": None,  # files: default 0.1
}
AUGMENT = {  # augment.py
    "crop": 0,  # pixels of zero padding on each side before cropping to the original size
    "flip": 0.0,  # probability of a left-right flip
    "erase": 0.0,  # probability of random erasing
    "erase_area": (0.02, 0.4),  # fraction of the image
    "erase_aspect": 0.3,  # height / width lies between this and its inverse
    "erase_fill": None,  # grey level in 0..1; None is uniform noise
    "mixup": 0.0,  # alpha of Beta(alpha, alpha)
    "cutmix": None,  # the same, by default 0; with mixup, a coin decides for each batch
    "smoothing": 0.0,  # label smoothing
    "resized_crop": None,  # least fraction of the area that a random resized crop shows; None is no such crop
    "rand_layers": None,  # RandAugment: operations on each image
    "rand_magnitude": None,  # 0 to 10, by default 9
    "rand_noise": None,  # standard deviation of the magnitude, by default 0
    "rand_operations": None,  # names, of randaugment.OPERATIONS; None is all
    "jitter": None,  # brightness, contrast and saturation are each multiplied by 1 - jitter to 1 + jitter
    "pad": None,  # black pixels put round every image, in evaluation too
    "views": None,  # test-time augmentation: "flip", or "crops" (corners and centre as `crop` cuts them, each flipped, too)
    "mean": 0.0,  # one number, or one per channel
    "std": 1.0,
}
