# THE list of pooling families. Each stem names a file in every layer.
set(CENOTE_FAMILIES window adaptive global unpool random)
