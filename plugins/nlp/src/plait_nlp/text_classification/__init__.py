"""What is learned: which class, which labels or which number a text, or a pair of texts, has."""
