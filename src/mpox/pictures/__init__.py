"""Picture sets with features, and near copies among them."""
