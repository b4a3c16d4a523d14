"""PyTorch's tensor semantics: storage, views, versions, promotion, indexing, printing."""
