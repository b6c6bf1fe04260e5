"""Picture sets with features, and near copies between them."""
