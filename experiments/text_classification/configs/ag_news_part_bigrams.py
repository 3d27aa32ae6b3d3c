"""ag_news_bigrams on 9,999 of the 120,000 training rows: to try the recipe. Its numbers are not comparable with the paper's.

Cost        2 minutes on one CPU core; 11 M parameters
Run         almanac train text_classification/ag_news_part_bigrams
"""

from experiments.text_classification.configs.ag_news_bigrams import recipe


def get_config():
    return recipe(data=dict(source="ag_news_part", normalise="joulin", length=200, buckets=4))
