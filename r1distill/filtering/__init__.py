"""What `filter.py` is made of: which traces count, measuring, judging, selecting, and the files that it writes."""
