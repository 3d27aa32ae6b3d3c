"""9,999 of AG News' 120,000 training rows, and the whole test set: for trying things, not for published numbers."""

from research.data.builders import ag_news
from research.data.download import File


class AgNewsPart(ag_news.AgNews, skip_registration=True):
    """As `AgNews`; the rows and labels are the official ones, about as many of each class, none of them in test."""

    # Drawn from the training part of NoisyAG-News (github.com/hhf-hd/NoisyAG-News), split into columns again: as a file
    # of its own it is nowhere to be downloaded.
    FILES = (
        File("train_subset.csv", "", "8321dc3fb131fa15ad48649da8cd967013f893cc433ab946aa86049d98613007", 2474640),
        ag_news.TEST,
    )
