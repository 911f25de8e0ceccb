"""Text generation: how does a causal language model go on from a prompt?"""
