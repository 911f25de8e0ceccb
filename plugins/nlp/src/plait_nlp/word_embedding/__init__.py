"""Vectors of words by what stands around them, their neighbours, and analogies."""
