"""9,999 of AG News' 120,000 training rows, and the full test set: for experiments, not for published numbers."""

from research.data.builders import ag_news
from research.data.download import File


class AgNewsPart(ag_news.AgNews, skip_registration=True):
    """As `AgNews`: official rows and labels, nearly balanced between the classes, none of them in test."""

    # Taken from the training part of NoisyAG-News (github.com/hhf-hd/NoisyAG-News) and split into columns again: the file
    # itself cannot be downloaded anywhere.
    FILES = (
        File("train_subset.csv", "", "8321dc3fb131fa15ad48649da8cd967013f893cc433ab946aa86049d98613007", 2474640),
        ag_news.TEST,
    )
