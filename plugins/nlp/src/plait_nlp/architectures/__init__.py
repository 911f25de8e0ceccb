"""How does any architecture of transformers become a model, from its type or from a local directory?"""
