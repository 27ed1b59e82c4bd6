"""What a person would look at of a run: predictions beside the truth, episodes, who attends to whom."""
